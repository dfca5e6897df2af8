"""The access paths to one group: a walk of its graph, a scan of its codes, an exact scan.

The first two are followed by exact re-ranking of a shortlist on the full rows. Each search is made ready once
and then answers any number of queries, from any thread. Which path, and with how much effort, is decided by
`planning`; the searcher puts several groups together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX, Group
from mrlstore.kernels.load import kernels
from mrlstore.kernels.scratch import Scratch
from mrlstore.planning.access_path import AccessPath, Effort
from mrlstore.search.queries import Queries
from mrlstore.search.workspace import GroupHits, borrow, empty_hits, give_back

# Called with a shortlist, and the range [start, stop) of it whose full rows are about to be read.
BeforeRerank = Callable[[NDArray[np.int64], int, int], None]

_FILTERED_BEAM: Final = 2  # times ef: of the candidates that a filtered walk keeps only some pass the filter
_MOST_COPIES: Final = 32_768  # of one node that are scored, and about as many of all
REACH: Final = 4.0  # standard deviations by which copies may be better than their node
_NEVER: Final = 2**62  # a rank that no row has
_MIN_LOST_RANK: Final = 3  # fewer entries say nothing about whether a walk is lost
FIRST_READ: Final = 32  # rows of a shortlist read at first: for k = 10 enough for half of the queries


class _Nodes:
    """What walks and scans look for: rows, but where a node stands for near copies only that."""

    def __init__(
        self, group: Group, allowed: NDArray[np.bool_] | None, shortlist: int, stop_margin: float
    ) -> None:
        """Prepare it for a shortlist of that many nodes."""
        index, self.allowed, self.count, copies = group.index, allowed, len(group.keys), 0
        if index is not None:
            missing, copies = index.unprefixed[index.unprefixed < self.count], len(index.copies.rows)
            if copies:
                self.allowed = index.allowed_nodes(allowed)
            if self.allowed is not None:
                self.count, missing = int(np.count_nonzero(self.allowed)), missing[self.allowed[missing]]
            self.count -= len(missing)
        self.address, self.most = _address(self.allowed, group), min(copies, _MOST_COPIES)
        self.reach = 0.0 if stop_margin == 0 and shortlist >= self.count else REACH  # 0: every copy is scored


class GroupSearch(Protocol):
    """An access path to one group, made ready for any number of queries; safe to use from many threads."""

    group: Group

    def __call__(
        self, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None = None
    ) -> GroupHits:
        """The best rows for each query; with `before_rerank` the two stages are apart, a query at a time."""


class Walk:
    """Walks the graph, re-ranks the best `shortlist` rows exactly, and gives the best k.

    `allowed` is bool [n]: other rows are passed through but never kept. If k allowed rows exist, k come back.
    With a `beam_ratio` above 0 the walk ends where the next candidate is more than 1 + beam_ratio times as
    far as the k-th best (the tenth, for a smaller k), and `ef` is only the most candidates that it keeps.
    With a `stop_margin` above 0 the re-rank ends when the code scores of the rest lie so many standard
    deviations below the score of the k-th best. With `first` above 0 so many rows are listed at first, and
    the whole shortlist only where the re-rank has come to their end.
    With a `lost_ratio` above 0 a walk under a filter gives way to a scan of the allowed rows' codes where
    these lie far from the query: where the rank of the k-th best (or tenth) among all rows, estimated from
    the entries of the graph, is so many times what it would be if rows were allowed at random.
    All queries are one call of the kernel, but for those whose prefix is too short to say anything.
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
        first: int = 0,
        skipped: int | None = None,
    ) -> None:
        """Prepare it; `skipped` is a row whose node is not visited, so that neither it nor copies are found.

        A stored row that stands as a query is skipped: its own node would lead straight to its neighbours.
        """
        n, self.group, self.allowed = len(group.keys), group, allowed
        self.k, self.shortlist, self.skipped = k, min(max(shortlist, k), n), skipped
        if skipped is not None and group.index is not None:
            self.skipped = int(group.index.node_of[skipped])
        wider = 1 if allowed is None else _FILTERED_BEAM
        self.ef, self.beam_ratio = min(wider * max(ef, self.shortlist), n), beam_ratio
        self.stop_margin, self.address = stop_margin, _address(allowed, group)
        self.scan = Scan(group, k, shortlist, allowed, stop_margin=stop_margin, first=first)
        self.first = self.scan.first
        self.nodes, self.lost_rank = self.scan.nodes, _NEVER
        if group.index is not None and lost_ratio > 0:
            by_chance = max(k, 10) * len(group.index.entries) / max(self.nodes.count, 1)
            self.lost_rank = max(_MIN_LOST_RANK, int(lost_ratio * by_chance))

    def __call__(
        self, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None = None
    ) -> GroupHits:
        """See GroupSearch."""
        index = self.group.index
        if index is None or index.neighbours is None or not kernels().compiled:
            return self.scan(queries, scratch, before_rerank)
        return _by_codes(self, self.scan, queries.at(index.prefix_dim), scratch, before_rerank)

    def reserve(self, scratch: Scratch) -> None:
        """Make room for `launch`."""
        rows, unprefixed, numbers, pending = self.group.sizes
        scratch.reserve(rows, self.ef, self.shortlist + unprefixed + self.nodes.most, numbers, pending)

    def launch(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> None:
        """Run the kernel for unit vectors [m, dim]; hits with k = 0 leave the shortlist in `scratch`."""
        if self.skipped is not None:
            scratch.marks[self.skipped] = 1  # as if the walk had seen it
        kernels().search_walk(*self.arguments(vectors, hits, scratch))
        if self.skipped is not None:
            scratch.marks[self.skipped] = 0

    def bound(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> Callable[[], object]:
        """As `launch`, made ready to be called many times with these arrays; no row is skipped."""
        run: Callable[[], object] = kernels().search_walk.bound(*self.arguments(vectors, hits, scratch))
        return run

    def arguments(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> tuple[Any, ...]:
        """What the kernel is given."""
        return (
            self.group.table, vectors, scratch.table, self.address, self.nodes.address, self.ef,
            _first(self, hits), self.shortlist, self.nodes.most, self.k, self.beam_ratio, self.stop_margin,
            self.nodes.reach, self.nodes.count, self.lost_rank,
            hits.rows, hits.scores, hits.counts, hits.ids,
        )  # fmt: skip


class Scan:
    """Scores the codes of all allowed rows, re-ranks the best `shortlist` exactly, and gives the best k.

    With a `stop_margin` above 0 only the first bytes of most codes are read, and the re-rank ends as after a
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
        first: int = 0,
    ) -> None:
        n, self.group, self.stop_margin = len(group.keys), group, stop_margin
        self.k, self.shortlist = min(k, n), min(max(shortlist, k), n)
        self.first = min(max(first, k), self.shortlist) if first and stop_margin > 0 else self.shortlist
        self.address = _address(allowed, group)
        self.nodes = _Nodes(group, allowed, self.shortlist, stop_margin)
        self.exact = Exact(group, k, allowed)

    def __call__(
        self, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None = None
    ) -> GroupHits:
        """See GroupSearch."""
        if self.group.index is None or not kernels().compiled:
            return self.exact(queries, scratch)
        queries = queries.at(self.group.index.prefix_dim)
        return _by_codes(self, self.exact, queries, scratch, before_rerank)

    def reserve(self, scratch: Scratch) -> None:
        """Make room for `launch`."""
        rows, unprefixed, numbers, pending = self.group.sizes
        nodes = self.shortlist if self.nodes.most else 0
        scratch.reserve(rows, nodes, self.shortlist + unprefixed + self.nodes.most, numbers, pending)

    def launch(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> None:
        """Run the kernel for unit vectors [m, dim]; hits with k = 0 leave the shortlist in `scratch`."""
        kernels().search_scan(*self.arguments(vectors, hits, scratch))

    def bound(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> Callable[[], object]:
        """As `launch`, made ready to be called many times with these arrays."""
        run: Callable[[], object] = kernels().search_scan.bound(*self.arguments(vectors, hits, scratch))
        return run

    def arguments(self, vectors: NDArray[np.float32], hits: GroupHits, scratch: Scratch) -> tuple[Any, ...]:
        """What the kernel is given."""
        return (
            self.group.table, vectors, scratch.table, self.address, self.nodes.address,
            _first(self, hits), self.shortlist, self.nodes.most, self.stop_margin, self.nodes.reach,
            hits.rows, hits.scores, hits.counts, hits.ids,
        )  # fmt: skip


class Exact:
    """Scores every allowed row in full; with `dim`, by the cosine of the first `dim` dimensions."""

    def __init__(
        self, group: Group, k: int, allowed: NDArray[np.bool_] | None = None, dim: int | None = None
    ) -> None:
        self.group, self.k, self.dim = group, min(k, len(group.keys)), dim
        self.allowed, self.address = allowed, _address(allowed, group)

    def __call__(
        self, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None = None
    ) -> GroupHits:
        """See GroupSearch; there is no shortlist, so `before_rerank` is never called."""
        dim, width = self.dim, self.group.vectors.shape[1]
        hits = empty_hits(len(queries.vectors), self.k)
        hits.counts[:] = 0, 0, 0, -1, 0  # no codes are scored and no ids written
        for i, vector in enumerate(queries.vectors):
            if dim is not None and dim < width:
                vector = np.array(vector[:dim])
                vector /= max(np.sqrt(np.dot(vector, vector)), np.float32(1e-30))
            hits.counts[i, :2] = kernels().exact(
                self.group.table, vector, len(vector), self.address, self.k, hits.rows[i], hits.scores[i]
            )
        return hits


def prepare_search(
    path: AccessPath,
    group: Group,
    k: int,
    effort: Effort,
    allowed: NDArray[np.bool_] | None = None,
    *,
    dim: int | None = None,
    skipped: int | None = None,
) -> GroupSearch:
    """The search of a group by an access path; `dim` is for exact scans, `skipped` for walks."""
    if path == "exact":
        return Exact(group, k, allowed, dim)
    if path == "scan":
        return Scan(group, k, effort.shortlist, allowed, stop_margin=effort.stop_margin, first=effort.first)
    return Walk(
        group, k, effort.ef, effort.shortlist, allowed, beam_ratio=effort.beam_ratio,
        stop_margin=effort.stop_margin, lost_ratio=effort.lost_ratio, first=effort.first, skipped=skipped,
    )  # fmt: skip


def search_group(
    search: GroupSearch, queries: Queries, before_rerank: BeforeRerank | None = None
) -> GroupHits:
    """Search one group by itself, in borrowed memory."""
    work = borrow()
    hits = search(queries, work.scratch, before_rerank)
    give_back(work)
    return hits


def _by_codes(
    search: Walk | Scan,
    otherwise: GroupSearch,
    queries: Queries,
    scratch: Scratch,
    before_rerank: BeforeRerank | None,
) -> GroupHits:
    """Search by the codes of a prefix; `otherwise` answers queries whose prefix is too short for that."""
    if _one_by_one(queries, before_rerank):
        return _each_alone(search, queries, scratch, before_rerank)
    if queries.prefix_norms[0] < SHORT_PREFIX:
        return otherwise(queries, scratch, before_rerank)
    hits = empty_hits(len(queries.vectors), search.k if before_rerank is None else 0)
    search.reserve(scratch)
    search.launch(queries.vectors, hits, scratch)
    if before_rerank is None:
        return hits
    return _rerank(search, queries.vectors[0], hits, scratch, before_rerank)


def _one_by_one(queries: Queries, before_rerank: BeforeRerank | None) -> bool:
    """Whether one call of a kernel cannot answer all: a prefix is too short, or the stages are apart."""
    several = len(queries.prefix_norms) > 1
    return several and (before_rerank is not None or min(queries.prefix_norms) < SHORT_PREFIX)


def _each_alone(
    search: GroupSearch, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None
) -> GroupHits:
    """The queries one after the other."""
    all_hits = [search(queries.part(i, i + 1), scratch, before_rerank) for i in range(len(queries.vectors))]
    counts = np.concatenate([hits.counts for hits in all_hits])
    counts[:, 3] = -1  # the ids of each are in an array of its own
    return GroupHits(
        np.concatenate([hits.rows for hits in all_hits]),
        np.concatenate([hits.scores for hits in all_hits]),
        counts,
        np.empty(0, np.uint8),
    )


def _rerank(
    search: Walk | Scan,
    vector: NDArray[np.float32],
    listed: GroupHits,
    scratch: Scratch,
    before_rerank: BeforeRerank,
) -> GroupHits:
    """The second stage apart: first the rows that half of the queries score, then half as many more at once.

    Rows are scored in the order of the shortlist, so what ends within its beginning is the answer; to score
    these again costs a twentieth of reading one more row from the disk.
    """
    count, coded, visited, *_ = listed.counts[0].tolist()
    hits = empty_hits(1, search.k)
    start, stop = 0, count
    if search.stop_margin > 0 and coded == count:
        stop = max(FIRST_READ, 2 * search.k)
    while True:
        stop = min(stop, count)
        before_rerank(scratch.listed[:count], start, stop)
        found, scored = kernels().rerank(
            search.group.table, vector, scratch.table, min(coded, stop), stop, search.k, search.stop_margin,
            hits.rows[0], hits.scores[0],
        )  # fmt: skip
        if scored < stop or stop == count:
            hits.counts[0] = found, scored, visited, -1, 0
            break
        start, stop = stop, stop + stop // 2
    if search.nodes.most:
        kernels().rerank_copies(
            search.group.table, vector, scratch.table, search.address, coded, count, search.nodes.most,
            search.stop_margin, search.nodes.reach, hits.rows[0], hits.scores[0], hits.counts[0],
        )  # fmt: skip
    return hits


def _first(search: Walk | Scan, hits: GroupHits) -> int:
    """How many nodes are listed at first: all of the shortlist where the stages are apart."""
    return search.first if hits.rows.shape[1] else search.shortlist


def _address(allowed: NDArray[np.bool_] | None, group: Group) -> int:
    if allowed is None:
        return 0
    if allowed.itemsize != 1 or len(allowed) != len(group.keys) or not allowed.flags.c_contiguous:
        raise ValueError(f"allowed must be bool [{len(group.keys)}] and contiguous")
    return int(allowed.__array_interface__["data"][0])
