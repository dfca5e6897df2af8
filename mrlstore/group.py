"""Search one group: one namespace's rows inside one segment, or in the tail.

A group is plain arrays, mapped or in memory. Three ways to search it: a walk of its graph, a scan of its
codes (both followed by exact re-ranking of a shortlist on the full rows), and an exact scan. Each is made
ready once and then asked for many queries. Which way, and with how much effort, is the plan's business;
several groups are put together by search.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import table as t
from .loaded import kernels

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
    # What is asked for next: searches fetch the hits' ids into the caches, but look at nothing.
    id_starts: NDArray[np.int64] | None = None  # [n + 1], places in `id_text`
    id_text: NDArray[np.uint8] | None = None

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


class Queries(NamedTuple):
    """Query vectors made ready once, for all groups."""

    vectors: NDArray[np.float32]  # [m, dim], unit rows
    prefix_norms: list[float]  # [m], length of each one's prefix, as a part of the whole

    def part(self, start: int, stop: int) -> Queries:
        """Those in [start, stop)."""
        return Queries(self.vectors[start:stop], self.prefix_norms[start:stop])


class Found(NamedTuple):
    """What one group gives: for each of m queries rows of the group, best first, filled from the left."""

    rows: NDArray[np.int64]  # [m, k]
    scores: NDArray[np.float32]  # [m, k]
    counts: list[list[int]]  # [m][5]: rows found, full rows scored, codes scored; the rest is the walk's own


class Search(Protocol):
    """A way to search one group, made ready for any number of queries; safe to use from many threads."""

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """The best rows for each query; `advise` is told a shortlist before a range is read."""


def prepare(vectors: NDArray[np.float32], prefix_dim: int) -> Queries:
    """Normalise queries: float32 [m, dim] or [dim], left as they are.

    ValueError if one is zero, too long, or not finite.
    """
    units = np.array(vectors, np.float32, ndmin=2, order="C")  # of our own: a caller's may be read-only
    norms = np.empty(len(units))
    if not kernels().normalise(units, prefix_dim, norms):
        raise ValueError("a vector without a direction")
    return Queries(units, norms.tolist())


class Walk:
    """Walks the graph, re-ranks the best `shortlist` rows exactly, and gives the best k.

    `allowed` is bool [n]: other rows are passed through but never kept. If k allowed rows exist, k come back.
    With a `slack` above 0 the walk ends where the next candidate is more than 1 + slack times as far as the
    k-th best (the tenth, for a smaller k), and `ef` is only the most candidates that it keeps.
    With a `margin` above 0 the re-rank ends when the code scores of the rest lie so many standard deviations
    below what the best k ask for.
    Where less than a share of `around` of the graph's entries that are nearest to a query is allowed, the
    rows are scanned instead: a walk would lose its way.
    All queries are one call of the kernel, but for those that are scanned or whose prefix says nothing.
    """

    def __init__(
        self,
        group: Group,
        k: int,
        ef: int,
        shortlist: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        slack: float = 0.0,
        margin: float = 0.0,
        around: float = 0.0,
    ) -> None:
        n, self.group, self.allowed, self.around = len(group.keys), group, allowed, around
        self.k, self.shortlist = k, min(max(shortlist, k), n)
        self.ef, self.slack, self.margin = min(max(ef, self.shortlist), n), slack, margin
        self.address = _address(allowed, group)
        self.scan = Scan(group, k, shortlist, allowed, margin=margin)

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """See Search."""
        m, k, group = len(queries.prefix_norms), self.k, self.group
        if _needs_turns(queries, advise):
            return _in_turn(self, queries, advise)
        index = group.index
        if index is None or index.neighbours is None or queries.prefix_norms[0] < SHORT_PREFIX:
            return self.scan(queries, advise)
        out, work = _out(m, 0 if advise else k), _reserve(group, self.ef, self.shortlist)
        kernels().search_walk(
            group.table, queries.vectors, work.table, self.address, self.ef, self.shortlist, k,
            self.slack, self.around, self.margin, *out,
        )  # fmt: skip
        rows, scores, counts = out[0], out[1], out[2].tolist()
        if advise is not None:
            rows, scores, counts = _rerank(group, queries, k, counts[0], self.margin, advise)
        for i, (_, _, _, kept, died) in enumerate(counts):
            if (died or kept < k) and kept < _walkable(index, self.allowed):
                found = self.scan(queries.part(i, i + 1), advise)
                width = found.rows.shape[1]
                rows[i, :width], scores[i, :width] = found.rows[0], found.scores[0]
                counts[i] = found.counts[0]
        return Found(rows, scores, counts)


class Scan:
    """Scores the codes of all allowed rows, re-ranks the best `shortlist` exactly, and gives the best k."""

    def __init__(
        self,
        group: Group,
        k: int,
        shortlist: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        margin: float = 0.0,
    ) -> None:
        n, self.group, self.margin = len(group.keys), group, margin
        self.k, self.shortlist = min(k, n), min(max(shortlist, k), n)
        self.address = _address(allowed, group)
        self.exact = Exact(group, k, allowed)

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """See Search."""
        k, group = 0 if advise else self.k, self.group
        if _needs_turns(queries, advise):
            return _in_turn(self, queries, advise)
        if group.index is None or queries.prefix_norms[0] < SHORT_PREFIX:
            return self.exact(queries)
        out, work = _out(len(queries.prefix_norms), k), _reserve(group, 0, self.shortlist)
        kernels().search_scan(
            group.table, queries.vectors, work.table, self.address, self.shortlist, k, self.margin, *out
        )
        rows, scores, counts = out[0], out[1], out[2].tolist()
        if advise is not None:
            return _rerank(group, queries, self.k, counts[0], self.margin, advise)
        return Found(rows, scores, counts)


class Exact:
    """Scores every allowed row in full; with `dim`, by the cosine of the first `dim` dims."""

    def __init__(
        self, group: Group, k: int, allowed: NDArray[np.bool_] | None = None, dim: int | None = None
    ) -> None:
        self.group, self.k, self.dim = group, min(k, len(group.keys)), dim
        self.allowed, self.address = allowed, _address(allowed, group)

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """See Search; no row is announced."""
        group, k, dim, width = self.group, self.k, self.dim, self.group.vectors.shape[1]
        rows, scores, counts = _out(len(queries.vectors), k)
        for i, vector in enumerate(queries.vectors):
            if dim is not None and dim < width:
                vector = np.array(vector[:dim])
                vector /= max(np.sqrt(np.dot(vector, vector)), np.float32(1e-30))
            counts[i, :2] = kernels().exact(
                group.table, vector, len(vector), self.address, k, rows[i], scores[i]
            )
        return Found(rows, scores, counts.tolist())


def warm() -> None:
    """Compile the kernels, or load them from the cache, so that the first search does not wait for it."""
    kernels()


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


_Out = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]


def _out(queries: int, k: int) -> _Out:
    """What kernels write their answers to.

    Rows and scores [m, k], and counts [m, 5]: rows found, full rows scored, codes scored; of walks also: rows
    kept, whether it ended early.
    """
    rows, scores = np.empty((queries, k), np.int64), np.empty((queries, k), np.float32)
    return rows, scores, np.zeros((queries, 5), np.int64)


def _needs_turns(queries: Queries, advise: Advise | None) -> bool:
    """Whether one call of a kernel can't serve all: some prefix says nothing, or stages are apart."""
    m = len(queries.prefix_norms)
    return m > 1 and (advise is not None or min(queries.prefix_norms) < SHORT_PREFIX)


def _in_turn(search: Search, queries: Queries, advise: Advise | None) -> Found:
    """The queries one after the other."""
    parts = [search(queries.part(i, i + 1), advise) for i in range(len(queries.vectors))]
    rows, scores, counts = zip(*parts, strict=True)
    return Found(np.concatenate(rows), np.concatenate(scores), [one for (one,) in counts])


def _rerank(
    group: Group, query: Queries, k: int, counts: list[int], margin: float, advise: Advise
) -> Found:
    """The second stage apart, its rows announced: what half of the queries score, then half as many more.

    Rows are scored in the order of the list, so what ended within the first ones is the answer; to score
    them again costs a twentieth of reading one more.
    """
    work, (count, coded, *rest) = _scratch(), counts
    rows, scores, _ = _out(1, k)
    told, reach = 0, max(_FIRST_TOLD, 2 * k) if margin > 0 and coded == count else count
    while True:
        reach = min(reach, count)
        advise(work.listed[:count], told, reach)
        found, scored = kernels().rerank(
            group.table, query.vectors[0], work.table, min(coded, reach), reach, k, margin, rows[0], scores[0]
        )
        if scored < reach or reach == count:
            return Found(rows, scores, [[found, scored, *rest]])
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
    if group.id_starts is not None and group.id_text is not None:
        _put(table, t.ID_STARTS, group.id_starts, 8, (n + 1,))
        _put(table, t.ID_TEXT, group.id_text, 1, (len(group.id_text),))
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


def _scratch() -> Any:
    return kernels().scratch()
