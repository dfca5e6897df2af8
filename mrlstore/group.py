"""Search one group: one namespace's rows inside one segment, or in the tail.

A group is plain arrays, mapped or in memory. Three ways to search it: a walk of its graph, a scan of its
codes (both followed by exact re-ranking of a shortlist on the full rows), and an exact scan. Each is made
ready once and then asked for many queries. Which way, and with how much effort, is the plan's business;
several groups are put together by search.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import table as t
from .loaded import kernels

Advise = Callable[[NDArray[np.int64], int, int], None]  # a shortlist, and the range of it that comes next
SEPARATOR = "\0"  # behind each id that a kernel writes down; where an id holds one it writes none
_ID_BYTES, _MOST_TEXT = 64, 65_536  # for one id, for all: what is longer is read one by one
_WIDER = 2  # under a filter a walk keeps so many times the candidates: those that are not allowed count too
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
    # What is asked for next: searches write it down on their way, where all is well with it.
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


class NoDirection(ValueError):
    """A query is zero, not finite, or longer or shorter than float32 squares hold."""


class Queries(NamedTuple):
    """Query vectors made ready once, for all groups."""

    vectors: NDArray[np.float32]  # [m, dim], unit rows
    prefix_norms: list[float]  # [m], length of each one's prefix, as a part of the whole

    def part(self, start: int, stop: int) -> Queries:
        """Those in [start, stop)."""
        return Queries(self.vectors[start:stop], self.prefix_norms[start:stop])


class Names(NamedTuple):
    """The ids of the hits of m queries, as a search has written them: UTF-8, SEPARATOR after each."""

    text: bytes
    stops: list[int]  # [m], where each query's ids end

    def of(self, number: int) -> list[str]:
        """Those of one query."""
        start = self.stops[number - 1] if number else 0
        return str(self.text[start : self.stops[number]], "utf-8").split(SEPARATOR)[:-1]

    def lists(self, counts: Iterable[int]) -> list[list[str]]:
        """Those of each query, which has so many."""
        names = iter(str(self.text, "utf-8").split(SEPARATOR))
        return [list(islice(names, count)) for count in counts]


class Found(NamedTuple):
    """What one group gives: for each of m queries rows of the group, best first, filled from the left."""

    rows: NDArray[np.int64]  # [m, k]
    scores: NDArray[np.float32]  # [m, k]
    counts: list[list[int]]  # [m][6]: rows found, full rows scored, codes scored; the rest is the walk's own
    names: Names | None = None  # the hits' ids; None where they have to be read one by one


class Search(Protocol):
    """A way to search one group, made ready for any number of queries; safe to use from many threads."""

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """The best rows for each query; `advise` is told a shortlist before a range is read."""


def prepare(
    vectors: NDArray[np.float32], prefix_dim: int, room: NDArray[np.float32] | None = None
) -> Queries:
    """Normalise queries: float32 [m, dim] or [dim], left as they are; in `room` [>= m, dim], or a new array.

    NoDirection if one is zero, too long, or not finite.
    """
    if room is None:
        units = np.array(vectors, np.float32, ndmin=2, order="C")  # of our own: a caller's may be read-only
    else:
        units = room[: len(vectors)]
        units[:] = vectors
    norms = np.empty(len(units))
    if not kernels().normalise(units, prefix_dim, norms):
        raise NoDirection("a vector without a direction")
    return Queries(units, norms.tolist())


class Walk:
    """Walks the graph, re-ranks the best `shortlist` rows exactly, and gives the best k.

    `allowed` is bool [n]: other rows are passed through but never kept. If k allowed rows exist, k come back.
    With a `slack` above 0 the walk ends where the next candidate is more than 1 + slack times as far as the
    k-th best (the tenth, for a smaller k), and `ef` is only the most candidates that it keeps.
    With a `margin` above 0 the re-rank ends when the code scores of the rest lie so many standard deviations
    below what the best k ask for.
    All queries are one call of the kernel, but for those whose prefix says nothing.
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
    ) -> None:
        n, self.group, self.allowed = len(group.keys), group, allowed
        self.k, self.shortlist = k, min(max(shortlist, k), n)
        wider = 1 if allowed is None else _WIDER
        self.ef, self.slack, self.margin = min(wider * max(ef, self.shortlist), n), slack, margin
        self.address = _address(allowed, group)
        self.scan = Scan(group, k, shortlist, allowed, margin=margin)

    def __call__(self, queries: Queries, advise: Advise | None = None) -> Found:
        """See Search."""
        k, group = self.k, self.group
        if _needs_turns(queries, advise):
            return _in_turn(self, queries, advise)
        if not self.fits(queries):
            return self.scan(queries, advise)
        out = outputs(len(queries.prefix_norms), 0 if advise else k)
        work = self.launch(queries.vectors, out)
        rows, scores, counts, names = out.rows, out.scores, out.counts.tolist(), None
        if advise is not None:
            rows, scores, counts, _ = _rerank(group, work, queries, k, counts[0], self.margin, advise)
        else:
            names = _names(out.ids, counts)
        for i, count in enumerate(counts):
            if self.astray(count):
                names = None
                found = self.scan(queries.part(i, i + 1), advise)
                width = found.rows.shape[1]
                rows[i, :width], scores[i, :width] = found.rows[0], found.scores[0]
                counts[i] = found.counts[0]
        return Found(rows, scores, counts, names)

    def fits(self, queries: Queries) -> bool:
        """Whether there is a graph, and a prefix of the first query to walk by."""
        index = self.group.index
        return index is not None and index.neighbours is not None and queries.prefix_norms[0] >= SHORT_PREFIX

    def launch(self, vectors: NDArray[np.float32], out: Outputs) -> Any:
        """Run the kernel for unit vectors [m, dim]; gives the scratch that it worked with."""
        work = _reserve(self.group, self.ef, self.shortlist)
        kernels().search_walk(
            self.group.table, vectors, work.table, self.address, self.ef, self.shortlist, self.k,
            self.slack, self.margin, *out,
        )  # fmt: skip
        return work

    def astray(self, count: Sequence[int]) -> bool:
        """Whether a walk ended too early by these counts, where there would have been more to find."""
        _, _, _, kept, ended, _ = count
        return bool(ended or kept < self.k) and kept < self._walkable

    @functools.cached_property
    def _walkable(self) -> int:
        """How many rows a walk could find at most."""
        index, allowed = self.group.index, self.allowed
        assert index is not None
        rows = len(index.codes) if allowed is None else int(np.count_nonzero(allowed))
        return rows - len(index.unprefixed)


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
        if _needs_turns(queries, advise):
            return _in_turn(self, queries, advise)
        if not self.fits(queries):
            return self.exact(queries)
        out = outputs(len(queries.prefix_norms), 0 if advise else self.k)
        work = self.launch(queries.vectors, out)
        counts = out.counts.tolist()
        if advise is not None:
            return _rerank(self.group, work, queries, self.k, counts[0], self.margin, advise)
        return Found(out.rows, out.scores, counts, _names(out.ids, counts))

    def fits(self, queries: Queries) -> bool:
        """Whether there are codes, and a prefix of the first query to score them by."""
        return self.group.index is not None and queries.prefix_norms[0] >= SHORT_PREFIX

    def launch(self, vectors: NDArray[np.float32], out: Outputs) -> Any:
        """Run the kernel for unit vectors [m, dim]; gives the scratch that it worked with."""
        work = _reserve(self.group, 0, self.shortlist)
        kernels().search_scan(
            self.group.table, vectors, work.table, self.address, self.shortlist, self.margin, *out
        )
        return work

    def astray(self, count: Sequence[int]) -> bool:
        """A scan misses nothing."""
        return False


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
        rows, scores, counts, _ = outputs(len(queries.vectors), k)
        counts[:] = 0
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


class Outputs(NamedTuple):
    """What kernels write answers to, made for each call: a signal handler may search in between."""

    rows: NDArray[np.int64]  # [m, k]
    scores: NDArray[np.float32]  # [m, k]
    # rows found, full rows scored, codes scored, rows kept, whether a walk ended early, where the ids end
    counts: NDArray[np.int64]  # [m, 6]
    ids: NDArray[np.uint8]  # UTF-8, SEPARATOR after each


def outputs(queries: int, k: int) -> Outputs:
    """Room for the answers to so many queries."""
    return Outputs(
        np.empty((queries, k), np.int64),
        np.empty((queries, k), np.float32),
        np.empty((queries, 6), np.int64),
        np.empty(min(_ID_BYTES * queries * k, _MOST_TEXT), np.uint8),
    )


def _names(ids: NDArray[np.uint8], counts: list[list[int]]) -> Names | None:
    """The ids that a kernel has written; None if it could not, or if what it wrote is damaged."""
    stops = [count[5] for count in counts]
    if not stops or stops[-1] < 0:
        return None
    text = ids[: stops[-1]].tobytes()
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return None
    return Names(text, stops)


def _needs_turns(queries: Queries, advise: Advise | None) -> bool:
    """Whether one call of a kernel can't serve all: some prefix says nothing, or stages are apart."""
    m = len(queries.prefix_norms)
    return m > 1 and (advise is not None or min(queries.prefix_norms) < SHORT_PREFIX)


def _in_turn(search: Search, queries: Queries, advise: Advise | None) -> Found:
    """The queries one after the other."""
    parts = [search(queries.part(i, i + 1), advise) for i in range(len(queries.vectors))]
    rows, scores, counts, _ = zip(*parts, strict=True)
    return Found(np.concatenate(rows), np.concatenate(scores), [one for (one,) in counts])


def _rerank(
    group: Group, work: Any, query: Queries, k: int, counts: list[int], margin: float, advise: Advise
) -> Found:
    """The second stage apart, its rows announced: what half of the queries score, then half as many more.

    Rows are scored in the order of the list, so what ended within the first ones is the answer; to score
    them again costs a twentieth of reading one more.
    """
    count, coded, *rest = counts
    rows, scores, _, _ = outputs(1, k)
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
        table[t.ID_BYTES] = len(group.id_text)
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
