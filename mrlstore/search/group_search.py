"""Three ways to search a group: a walk of its graph, a scan of its codes, an exact scan.

The first two are followed by exact re-ranking of a shortlist on the full rows. Each is made ready once and
then asked for many queries. Which way, and with how much effort, is the plan's business; several groups are
put together by search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX, Group
from mrlstore.kernels.load import kernels

Advise = Callable[[NDArray[np.int64], int, int], None]  # a shortlist, and the range of it that comes next
SEPARATOR = "\0"  # behind each id that a kernel writes down; where an id holds one it writes none
_ID_BYTES, _MOST_TEXT = 64, 65_536  # for one id, for all: what is longer is read one by one
_WIDER = 2  # under a filter a walk keeps so many times the candidates: those that are not allowed count too
_NEVER = 2**62
_FEWEST_AHEAD = 3  # entries that tell whether a walk is lost
_FIRST_TOLD = 32  # half of the queries for 10 rows score no more


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
    counts: list[list[int]]  # [m][4]: rows found, full rows scored, codes scored, where the ids end
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
    With a `beam_ratio` above 0 the walk ends where the next candidate is more than 1 + beam_ratio times as
    far as the k-th best (the tenth, for a smaller k), and `ef` is only the most candidates that it keeps.
    With a `stop_margin` above 0 the re-rank ends when the code scores of the rest lie so many standard
    deviations below what the best k ask for. With a `lost_ratio` above 0 the codes of all allowed rows are
    scanned where these lie far from a query, as walks get lost there: where the rank of the k-th best (or
    tenth) among all rows, of which the entries are a sample, is so many times what it were if rows were
    allowed at random. All queries are one call of the kernel, but for those whose prefix says nothing.
    """

    def __init__(
        self,
        group: Group,
        k: int,
        ef: int,
        shortlist: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        beam_ratio: float = 0.0,
        stop_margin: float = 0.0,
        lost_ratio: float = 0.0,
    ) -> None:
        n, self.group, self.allowed = len(group.keys), group, allowed
        self.k, self.shortlist = k, min(max(shortlist, k), n)
        wider = 1 if allowed is None else _WIDER
        self.ef, self.beam_ratio, self.stop_margin = (
            min(wider * max(ef, self.shortlist), n),
            beam_ratio,
            stop_margin,
        )
        self.address = _address(allowed, group)
        self.scan = Scan(group, k, shortlist, allowed, stop_margin=stop_margin)
        self.walkable, self.ahead, index = 0, _NEVER, group.index
        if index is not None:
            rows, missing = n, index.unprefixed[index.unprefixed < n]
            if allowed is not None:
                rows, missing = int(np.count_nonzero(allowed)), missing[allowed[missing]]
            self.walkable = rows - len(missing)
            if lost_ratio > 0:
                self.ahead = max(
                    _FEWEST_AHEAD, int(lost_ratio * max(k, 10) * len(index.entries) / max(rows, 1))
                )

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
            rows, scores, counts, _ = _rerank(group, work, queries, k, counts[0], self.stop_margin, advise)
        else:
            names = _names(out.ids, counts)
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
            self.beam_ratio, self.stop_margin, self.walkable, self.ahead, *out,
        )  # fmt: skip
        return work


class Scan:
    """Scores the codes of all allowed rows, re-ranks the best `shortlist` exactly, and gives the best k.

    With a `stop_margin` above 0 only the first bytes of most codes are read, and the re-rank ends as in a
    walk.
    """

    def __init__(
        self,
        group: Group,
        k: int,
        shortlist: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        stop_margin: float = 0.0,
    ) -> None:
        n, self.group, self.stop_margin = len(group.keys), group, stop_margin
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
            return _rerank(self.group, work, queries, self.k, counts[0], self.stop_margin, advise)
        return Found(out.rows, out.scores, counts, _names(out.ids, counts))

    def fits(self, queries: Queries) -> bool:
        """Whether there are codes, and a prefix of the first query to score them by."""
        return self.group.index is not None and queries.prefix_norms[0] >= SHORT_PREFIX

    def launch(self, vectors: NDArray[np.float32], out: Outputs) -> Any:
        """Run the kernel for unit vectors [m, dim]; gives the scratch that it worked with."""
        work = _reserve(self.group, 0, self.shortlist)
        kernels().search_scan(
            self.group.table, vectors, work.table, self.address, self.shortlist, self.stop_margin, *out
        )
        return work


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
    """What kernels write answers to; no two calls under way share one: a signal handler may search too."""

    rows: NDArray[np.int64]  # [m, k]
    scores: NDArray[np.float32]  # [m, k]
    counts: NDArray[np.int64]  # [m, 4], as those of Found
    ids: NDArray[np.uint8]  # UTF-8, SEPARATOR after each


def outputs(queries: int, k: int) -> Outputs:
    """Room for the answers to so many queries."""
    return Outputs(
        np.empty((queries, k), np.int64),
        np.empty((queries, k), np.float32),
        np.empty((queries, 4), np.int64),
        np.empty(min(_ID_BYTES * queries * k, _MOST_TEXT), np.uint8),
    )


def _names(ids: NDArray[np.uint8], counts: list[list[int]]) -> Names | None:
    """The ids that a kernel has written; None if it could not, or if what it wrote is damaged."""
    stops = [count[3] for count in counts]
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
    group: Group, work: Any, query: Queries, k: int, counts: list[int], stop_margin: float, advise: Advise
) -> Found:
    """The second stage apart, its rows announced: what half of the queries score, then half as many more.

    Rows are scored in the order of the list, so what ended within the first ones is the answer; to score
    them again costs a twentieth of reading one more.
    """
    count, coded, *rest = counts
    rows, scores, _, _ = outputs(1, k)
    told, reach = 0, max(_FIRST_TOLD, 2 * k) if stop_margin > 0 and coded == count else count
    while True:
        reach = min(reach, count)
        advise(work.listed[:count], told, reach)
        found, scored = kernels().rerank(
            group.table,
            query.vectors[0],
            work.table,
            min(coded, reach),
            reach,
            k,
            stop_margin,
            rows[0],
            scores[0],
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


def _scratch() -> Any:
    return kernels().scratch()
