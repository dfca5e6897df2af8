"""Search one group: one namespace's rows inside one segment, or in the tail.

A group is plain arrays, mapped or in memory. Three ways to search it: a walk of its graph, a scan of its
codes (both followed by exact re-ranking of a shortlist on the full rows), and an exact scan. Which way, and
with how much effort, is the plan's business; several groups are put together by search.py.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import table as t

Advise = Callable[[NDArray[np.int64], int, int], None]  # a shortlist, and the range of it that comes next
_FIRST_TOLD = 32  # half of the queries for 10 rows score no more
SHORT_PREFIX = 1e-6  # a prefix shorter than this part of the whole says nothing about the row


@dataclass(frozen=True)
class GroupIndex:
    """The index part's slice for one group. Without `neighbours` only its codes are scanned."""

    prefix_dim: int
    codes: NDArray[
        np.uint8
    ]  # [n, stride]: biased int8 codes, zero padding, float32 scale in the last 4 bytes
    rotation: NDArray[np.uint8] | None  # [c, padded prefix]: biased int8, None for native codes
    rotation_scales: NDArray[np.float32] | None  # [c]
    neighbours: NDArray[np.uint32] | None  # [n, width], rows of this group, padded with 0xFFFFFFFF
    entries: NDArray[np.uint32]  # [e] rows where a walk may start
    entry_codes: NDArray[np.uint8]  # [e, stride] their codes, side by side
    unprefixed: NDArray[np.uint32]  # [u] rows whose prefix is too short: no node, always re-ranked


@dataclass(frozen=True)
class Group:
    """The rows that are searched together. Keep the object: it caches what the kernels need to know of it."""

    vectors: NDArray[np.float16]  # [n, dim], unit rows, C-contiguous; may be seen as uint16
    inv_norms: NDArray[np.float32]  # [n], 1 / length of the stored float16 row
    keys: NDArray[np.int64]  # [n], for ties: equal scores go by key ascending
    index: GroupIndex | None = None

    @functools.cached_property
    def table(self) -> NDArray[np.int64]:
        """int64 [FIELDS], see table.py: addresses and sizes, valid while this object lives."""
        return _table(self)

    @functools.cached_property
    def sizes(self) -> tuple[int, int, int, int]:
        """What the kernels need room for: rows, rows without prefix, numbers of a code, rows to be scored."""
        index = self.index
        if index is None:
            return len(self.keys), 0, 0, 0
        numbers = max(index.codes.shape[1], 0 if index.rotation is None else index.rotation.shape[1])
        width = 0 if index.neighbours is None else index.neighbours.shape[1]
        return len(self.keys), len(index.unprefixed), numbers, 4 * max(width, 16) + 64


class Query(NamedTuple):
    """A query made ready once, for all groups."""

    vector: NDArray[np.float32]  # [dim], unit length
    prefix_norm: float  # length of its prefix, as a part of the whole


class Found(NamedTuple):
    """What one group gives: rows of the group, best first."""

    rows: NDArray[np.int64]  # [<= k]
    scores: NDArray[np.float32]  # [<= k]
    visited: int  # codes scored
    reranked: int  # full rows scored


def prepare(vector: NDArray[np.float32], prefix_dim: int) -> Query:
    """Normalise a query: float32 [dim], left as it is. ValueError if it is zero, too long, or not finite."""
    unit = np.array(vector, np.float32)  # of our own: a caller's may be read-only or unaligned
    norm = _kernels().normalise(unit, prefix_dim)
    if norm < 0:
        raise ValueError("a vector without a direction")
    return Query(unit, norm)


def search_graph(
    group: Group,
    queries: Sequence[Query],
    k: int,
    ef: int,
    shortlist: int,
    allowed: NDArray[np.bool_] | None = None,
    *,
    slack: float = 0.0,
    margin: float = 0.0,
    advise: Advise | None = None,
) -> list[Found]:
    """For each query walk the graph, re-rank the best `shortlist` rows exactly, give the best k.

    `allowed` is bool [n]: other rows are passed through but never kept. If k allowed rows exist, k come back.
    With a `slack` above 0 the walk ends where the next candidate is more than 1 + slack times as far as the
    k-th best (the tenth, for a smaller k), and `ef` is only the most candidates that it keeps.
    With a `margin` above 0 the re-rank ends when the code scores of the rest lie so many standard deviations
    below what the best k ask for. `advise` is called with a shortlist's rows, int64, before a range is read.
    All queries are one call of the kernel, but for those whose prefix says nothing.
    """
    index, options = group.index, {"margin": margin, "advise": advise}
    if _one_by_one(queries, advise):
        return [
            search_graph(group, [one], k, ef, shortlist, allowed, slack=slack, **options)[0]  # type: ignore[arg-type]
            for one in queries
        ]
    if index is None or index.neighbours is None or queries[0].prefix_norm < SHORT_PREFIX:
        return search_scan(group, queries, k, shortlist, allowed, **options)  # type: ignore[arg-type]
    n = len(group.keys)
    shortlist = min(max(shortlist, k), n)
    ef = min(max(ef, shortlist), n)
    out, work = _Out(len(queries), 0 if advise else k), _reserve(group, ef, shortlist)
    _kernels().search_walk(
        group.table, _stacked(queries), work.table, _address(allowed, group), ef, shortlist, k, slack, margin,
        out.rows, out.scores, out.counts,
    )  # fmt: skip
    answers = [_rerank(group, queries[0], k, out, margin, advise)] if advise else out.found()
    for i, (kept, died) in enumerate(out.counts[:, 3:].tolist()):
        if (died or kept < k) and kept < _walkable(index, allowed):
            answers[i : i + 1] = search_scan(group, queries[i : i + 1], k, shortlist, allowed, **options)  # type: ignore[arg-type]
    return answers


def search_scan(
    group: Group,
    queries: Sequence[Query],
    k: int,
    shortlist: int,
    allowed: NDArray[np.bool_] | None = None,
    *,
    margin: float = 0.0,
    advise: Advise | None = None,
) -> list[Found]:
    """For each query score the codes of all allowed rows, re-rank the best `shortlist`, give the best k."""
    if _one_by_one(queries, advise):
        return [
            search_scan(group, [one], k, shortlist, allowed, margin=margin, advise=advise)[0]
            for one in queries
        ]
    if group.index is None or queries[0].prefix_norm < SHORT_PREFIX:
        return search_exact(group, queries, k, allowed)
    n = len(group.keys)
    shortlist = min(max(shortlist, k), n)
    out, work = _Out(len(queries), 0 if advise else min(k, n)), _reserve(group, 0, shortlist)
    _kernels().search_scan(
        group.table, _stacked(queries), work.table, _address(allowed, group), shortlist, out.k, margin,
        out.rows, out.scores, out.counts,
    )  # fmt: skip
    return [_rerank(group, queries[0], k, out, margin, advise)] if advise else out.found()


def search_exact(
    group: Group,
    queries: Sequence[Query],
    k: int,
    allowed: NDArray[np.bool_] | None = None,
    dim: int | None = None,
) -> list[Found]:
    """For each query score every allowed row in full; with `dim`, by the cosine of the first `dim` dims."""
    width, k = group.vectors.shape[1], min(k, len(group.keys))
    out, address = _Out(len(queries), k), _address(allowed, group)
    for i, (vector, _) in enumerate(queries):
        if dim is not None and dim < width:
            vector = np.array(vector[:dim])
            vector /= max(np.sqrt(np.dot(vector, vector)), np.float32(1e-30))
        out.counts[i, :2] = _kernels().exact(
            group.table, vector, len(vector), address, k, out.rows[i], out.scores[i]
        )
    return out.found()


def warm() -> None:
    """Compile the kernels, or load them from the cache, so that the first search does not wait for it."""
    _kernels()


def _walkable(index: GroupIndex, allowed: NDArray[np.bool_] | None) -> int:
    """How many rows a walk could find at most."""
    rows = len(index.codes) if allowed is None else int(np.count_nonzero(allowed))
    return rows - len(index.unprefixed)


@contextmanager
def passing_over(group: Group, row: int) -> Iterator[None]:
    """Within it, walks of this thread take a row as seen already: neither visited nor found.

    For rows that stand as queries: their own node would lead the walk straight to their neighbours.
    """
    work = _scratch()
    work.reserve(len(group.keys), 0, 0, 0, 0)
    work.marks[row] = 1
    try:
        yield
    finally:
        work.marks[row] = 0


class _Out:
    """What kernels write their answers to."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.rows, self.scores = np.empty((queries, k), np.int64), np.empty((queries, k), np.float32)
        # rows found, full rows scored, codes scored; of walks also: rows kept, whether it ended early
        self.counts = np.zeros((queries, 5), np.int64)

    def found(self) -> list[Found]:
        """One answer for each query."""
        rows, scores = self.rows, self.scores
        return [
            Found(rows[i, :found], scores[i, :found], visited, reranked)
            for i, (found, reranked, visited, _, _) in enumerate(self.counts.tolist())
        ]


def _one_by_one(queries: Sequence[Query], advise: Advise | None) -> bool:
    """Whether one call of a kernel can't serve all: some prefix says nothing, or stages are apart."""
    if len(queries) == 1:
        return False
    return advise is not None or min(query.prefix_norm for query in queries) < SHORT_PREFIX


def _stacked(queries: Sequence[Query]) -> NDArray[np.float32]:
    """Their vectors [m, dim]."""
    return queries[0].vector[None] if len(queries) == 1 else np.stack([query.vector for query in queries])


def _rerank(group: Group, query: Query, k: int, listed: _Out, margin: float, advise: Advise) -> Found:
    """The second stage apart, its rows announced: what half of the queries score, then half as many more.

    Rows are scored in the order of the list, so what ended within the first ones is the answer; to score
    them again costs a twentieth of reading one more.
    """
    work, (count, coded, visited, _, _) = _scratch(), listed.counts[0].tolist()
    rows, scores = np.empty(k, np.int64), np.empty(k, np.float32)
    told, reach = 0, max(_FIRST_TOLD, 2 * k) if margin > 0 and coded == count else count
    while True:
        reach = min(reach, count)
        advise(work.listed[:count], told, reach)
        found, scored = _kernels().rerank(
            group.table, query.vector, work.table, min(coded, reach), reach, k, margin, rows, scores
        )
        if scored < reach or reach == count:
            return Found(rows[:found], scores[:found], visited, scored)
        told, reach = reach, reach + reach // 2


def _reserve(group: Group, beam: int, shortlist: int) -> Any:
    work = _scratch()
    rows, unprefixed, numbers, pending = group.sizes
    work.reserve(rows, beam, shortlist + unprefixed, numbers, pending)
    return work


def _address(allowed: NDArray[np.bool_] | None, group: Group) -> int:
    if allowed is None:
        return 0
    if allowed.itemsize != 1 or len(allowed) != len(group.keys) or not allowed.flags.c_contiguous:
        raise ValueError(f"allowed must be bool [{len(group.keys)}] and contiguous")
    return int(allowed.__array_interface__["data"][0])


def _put(
    table: NDArray[np.int64], field: int, array: NDArray[Any] | None, itemsize: int, shape: tuple[int, ...]
) -> None:
    """Note an array's address after a look at its shape; an absent or empty one stays 0."""
    if array is None or array.size == 0:
        return
    if array.itemsize != itemsize or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"array {field} of a group: {array.dtype} {array.shape}, not {shape}")
    table[field] = array.__array_interface__["data"][0]


def _table(group: Group) -> NDArray[np.int64]:
    """Check shapes once, then note where everything is."""
    n, dim = group.vectors.shape
    if group.index is None:
        table = np.zeros(t.FIELDS, np.int64)
    else:
        table = index_table(group.index)
        if table[t.ROWS] != n or not 0 < group.index.prefix_dim <= dim:
            raise ValueError(f"{table[t.ROWS]} codes of prefix {group.index.prefix_dim} for {n} x {dim}")
    _put(table, t.VECTORS, group.vectors, 2, (n, dim))
    _put(table, t.INV_NORMS, group.inv_norms, 4, (n,))
    _put(table, t.KEYS, group.keys, 8, (n,))
    table[t.ROWS], table[t.DIM] = n, dim
    return table


def index_table(index: GroupIndex) -> NDArray[np.int64]:
    """The part of a group's table that its index gives; raises ValueError where shapes do not fit."""
    table = np.zeros(t.FIELDS, np.int64)
    (n, stride), entries = index.codes.shape, len(index.entries)
    if stride % 64:
        raise ValueError(f"codes of {stride} bytes")
    table[t.ROWS], table[t.STRIDE], table[t.PREFIX_DIM] = n, stride, index.prefix_dim
    _put(table, t.CODES, index.codes, 1, (n, stride))
    _put(table, t.ENTRIES, index.entries, 4, (entries,))
    _put(table, t.ENTRY_CODES, index.entry_codes, 1, (entries, stride))
    table[t.ENTRY_COUNT] = entries
    _put(table, t.UNPREFIXED, index.unprefixed, 4, (len(index.unprefixed),))
    table[t.UNPREFIXED_COUNT] = len(index.unprefixed)
    if index.neighbours is not None:
        _put(table, t.NEIGHBOURS, index.neighbours, 4, (n, index.neighbours.shape[1]))
        table[t.WIDTH] = index.neighbours.shape[1]
    if index.rotation is not None and index.rotation_scales is not None:
        code_dim, padded = index.rotation.shape
        if padded % 64 or padded < index.prefix_dim or code_dim > stride - 4:
            raise ValueError(f"rotation of shape {index.rotation.shape} for codes of {stride} bytes")
        _put(table, t.ROTATION, index.rotation, 1, (code_dim, padded))
        _put(table, t.ROTATION_SCALES, index.rotation_scales, 4, (code_dim,))
        table[t.ROTATION_STRIDE], table[t.CODE_DIM] = padded, code_dim
    elif stride < index.prefix_dim + 4:
        raise ValueError(f"codes of {stride} bytes for a prefix of {index.prefix_dim} dims")
    return table


_loaded: list[SimpleNamespace] = []
_loading = threading.Lock()
# A child forked in the midst of an import would wait for ever for the thread that was importing.
os.register_at_fork(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


def _kernels() -> SimpleNamespace:
    """The compiled kernels; numba is imported here, at the first search."""
    if not _loaded:
        with _loading:
            from .kernels import rerank, scan, scratch, walk

            _loaded[:] = [
                SimpleNamespace(
                    search_walk=walk.search_walk.ready(),
                    search_scan=scan.search_scan.ready(),
                    rerank=rerank.rerank.ready(),
                    exact=rerank.exact.ready(),
                    normalise=rerank.normalise.ready(),
                    scratch=scratch.scratch,
                )
            ]
    return _loaded[0]


def _scratch() -> Any:
    return _kernels().scratch()
