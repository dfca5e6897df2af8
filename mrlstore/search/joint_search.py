"""Several groups searched as one: a walk or scan of each in one call of a kernel, one shortlist, one re-rank.

What the groups' own searches would do one after the other, each with a shortlist of its own, costs several
times as much and finds no more (docs/decisions/0023-groups-are-searched-together.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX, Group, GroupIndex
from mrlstore.kernels import group_steps
from mrlstore.kernels.group_steps import LEAST_RANK
from mrlstore.kernels.group_table import LAST_ROW
from mrlstore.kernels.load import kernels
from mrlstore.kernels.scratch import Scratch
from mrlstore.search.group_search import FIRST_READ, REACH, BeforeRerank, Exact, GroupSearch, Scan, Walk
from mrlstore.search.queries import Queries
from mrlstore.search.workspace import JointHits, empty_joint_hits


class _Member(NamedTuple):
    """One group, and how it is searched."""

    number: int  # among the groups as they were given
    search: Walk | Scan | Exact
    path: int  # one of group_steps

    @property
    def group(self) -> Group:
        return self.search.group


class JointSearch:
    """Searches groups with one rotation, or none; safe to use from many threads.

    Their walks and scans share a shortlist of at most `shortlist` nodes, which is re-ranked on the full rows;
    as many are listed at first as the search of a group lists at the most. Groups without codes are scored
    whole. Places, in the shortlist, are rows of all groups counted through.
    """

    def __init__(self, searches: Sequence[Walk | Scan | Exact], k: int, shortlist: int) -> None:
        """Put searches of single groups together; see `joint_search` for which fit."""
        parts = [_Member(number, one, _path(one)) for number, one in enumerate(searches)]
        parts.sort(key=lambda part: (_ORDER[part.path], -len(part.group.keys)))
        coded = [part.search for part in parts if not isinstance(part.search, Exact)]
        total = sum(len(part.group.keys) for part in parts)
        self.k, self.prefix_dim = min(k, total), coded[0].group.index.prefix_dim  # type: ignore[union-attr]
        self.rank, self.shortlist = k, min(max(shortlist, k), total)
        self.stop_margin = min(one.stop_margin for one in coded)
        firsts = [one.first for one in coded if one.first < one.shortlist]
        self.first = min(max(k, *(one.first for one in coded)), self.shortlist) if firsts else self.shortlist
        self.most = max(one.nodes.most for one in coded)
        nodes = sum(one.nodes.count for one in coded)
        self.reach = 0.0 if self.stop_margin == 0 and self.shortlist >= nodes else REACH
        self.parts, self.steps = parts, _steps(parts)
        self.ratios = np.array([getattr(part.search, "beam_ratio", 0.0) for part in parts], np.float32)
        self.starts = self.steps[:, group_steps.FIRST].copy()
        self._whole = self.most > 0 or len(coded) < len(parts)

    def reserve(self, scratch: Scratch) -> None:
        """Make room for `launch`."""
        sizes = np.array([part.group.sizes for part in self.parts])
        length = max(self.shortlist, LEAST_RANK)
        ef = max(int(self.steps[:, group_steps.EF].max()), length)
        listed = length + int(sizes[:, 1].sum()) + self.most
        scratch.reserve(int(sizes[:, 0].max()), ef, listed, int(sizes[:, 2].max()), int(sizes[:, 3].max()))
        scratch.reserve_joint(length, self.k)

    def launch(self, vectors: NDArray[np.float32], hits: JointHits, scratch: Scratch) -> None:
        """Run the kernel for unit vectors [m, dim]; hits with k = 0 leave the shortlist in `scratch`."""
        kernels().search_groups(*self.arguments(vectors, hits, scratch))

    def bound(self, vectors: NDArray[np.float32], hits: JointHits, scratch: Scratch) -> Callable[[], object]:
        """The kernel, made ready to be called many times with these arrays."""
        run: Callable[[], object] = kernels().search_groups.bound(*self.arguments(vectors, hits, scratch))
        return run

    def arguments(self, vectors: NDArray[np.float32], hits: JointHits, scratch: Scratch) -> tuple[Any, ...]:
        """What the kernel is given."""
        return (
            self.steps, self.ratios, vectors, scratch.table,
            self.first if hits.rows.shape[1] else self.shortlist,  # all where the stages are apart
            self.shortlist, self.rank, self.stop_margin, self.reach,
            hits.rows, hits.which, hits.scores, hits.sizes, hits.counts, hits.ids,
        )  # fmt: skip

    def answers(self, queries: Queries) -> bool:
        """Whether all queries have a prefix that says something."""
        return min(queries.prefix_norms, default=1.0) >= SHORT_PREFIX

    def __call__(
        self, queries: Queries, scratch: Scratch, before_rerank: BeforeRerank | None = None
    ) -> JointHits:
        """The best rows for each query; with `before_rerank`, called with places, a query at a time."""
        self.reserve(scratch)
        if before_rerank is None:
            hits = empty_joint_hits(len(queries.vectors), self.k, len(self.parts))
            self.launch(queries.vectors, hits, scratch)
            return hits
        found = [
            self._apart(queries.vectors[i : i + 1], scratch, before_rerank)
            for i in range(len(queries.vectors))
        ]
        return JointHits(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

    def _apart(
        self, vectors: NDArray[np.float32], scratch: Scratch, before_rerank: BeforeRerank
    ) -> JointHits:
        """The two stages apart: first the rows that half of the queries score, see group_search."""
        listed = empty_joint_hits(1, 0, len(self.parts))
        self.launch(vectors, listed, scratch)
        (count, coded), hits = listed.sizes[0].tolist(), empty_joint_hits(1, self.k, len(self.parts))
        hits.counts[:] = listed.counts
        start, stop = 0, count
        if self.stop_margin > 0 and coded == count:
            stop = min(max(FIRST_READ, 2 * self.k), count)
        while True:
            before_rerank(scratch.listed[:count], start, stop)
            self.rerank(vectors[0], hits, scratch, min(coded, stop), stop, whole=False)
            if int(hits.counts[0, :, 1].sum()) < stop or stop == count:
                break
            start, stop = stop, min(stop + stop // 2, count)
        if self._whole:
            self.rerank(vectors[0], hits, scratch, coded, count, whole=True)
        return hits

    def rerank(
        self,
        vector: NDArray[np.float32],
        hits: JointHits,
        scratch: Scratch,
        coded: int,
        stop: int,
        *,
        whole: bool,
        stop_margin: float | None = None,
    ) -> None:
        """Re-rank the shortlist in `scratch` for one query: `coded` nodes, then others up to `stop`.

        With `whole` near copies too, and the groups without codes.
        """
        size = kernels().rerank_groups(
            self.steps, vector, scratch.table, coded, stop, int(whole),
            self.stop_margin if stop_margin is None else stop_margin, self.reach,
            hits.rows[0], hits.which[0], hits.scores[0], hits.counts[0],
        )  # fmt: skip
        hits.sizes[0] = size, -1

    def group(self, number: int) -> Group:
        """One of the groups, by its number."""
        return next(part.group for part in self.parts if part.number == number)

    def scored_whole(self) -> list[int]:
        """The numbers of the groups without codes."""
        return [part.number for part in self.parts if part.path == group_steps.EXACT]

    def keys_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row keys at these places."""
        keys, of = np.empty(len(places), np.int64), self._groups_at(places)
        for at, part in enumerate(self.parts):
            keys[of == at] = part.group.keys[places[of == at] - self.starts[at]]
        return keys

    def keys_of(self, rows: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
        """The keys of rows of the groups with these numbers."""
        keys = [
            self.group(number).keys[row] for number, row in zip(which.tolist(), rows.tolist(), strict=True)
        ]
        return np.array(keys, np.int64)

    def without_code(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these places have no usable prefix, and so no code."""
        found, of = np.zeros(len(places), np.bool_), self._groups_at(places)
        for at, part in enumerate(self.parts):
            if part.group.index is not None:
                found[of == at] = np.isin(places[of == at] - self.starts[at], part.group.index.unprefixed)
        return found

    def _groups_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.starts, places, side="right") - 1

    def by_group(self, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The rows of each group, as they were given, at these places."""
        rows: list[NDArray[np.int64]] = [places[:0]] * len(self.parts)
        of = self._groups_at(places)
        for at, part in enumerate(self.parts):
            rows[part.number] = places[of == at] - self.starts[at]
        return rows


def joint_search(searches: Sequence[GroupSearch], k: int, shortlist: int) -> JointSearch | None:
    """One search of several groups, if a query has the same code in all that have codes."""
    if len(searches) < 2 or not kernels().compiled:
        return None
    fit = [one for one in searches if isinstance(one, Walk | Scan | Exact)]
    encodings = _encodings([_index(one) for one in fit if not isinstance(one, Exact)])
    whole = all(one.dim in (None, one.group.vectors.shape[1]) for one in fit if isinstance(one, Exact))
    rows = sum(len(one.group.keys) for one in fit)
    if len(fit) < len(searches) or len(encodings) != 1 or not whole or rows > LAST_ROW:
        return None
    return JointSearch(fit, k, shortlist)


def _encodings(indexes: Sequence[GroupIndex]) -> set[object]:
    """The different ways in which these have codes; the groups of one segment have one rotation in memory."""
    known: dict[object, object] = {}
    for index in indexes:
        place = None if index.rotation is None else index.rotation.__array_interface__["data"][0]
        shape = place, index.prefix_dim, index.codes.shape[1], index.scale_at
        if shape not in known:
            known[shape] = index.encoding
    return {*known.values()}


def _index(search: Walk | Scan) -> GroupIndex:
    assert search.group.index is not None
    return search.group.index


_ORDER: Final = {group_steps.WALK: 0, group_steps.FILTERED: 0, group_steps.SCAN: 1, group_steps.EXACT: 2}


def _path(search: Walk | Scan | Exact) -> int:
    if isinstance(search, Exact):
        return group_steps.EXACT
    if isinstance(search, Scan) or _index(search).neighbours is None:
        return group_steps.SCAN
    return group_steps.WALK if search.allowed is None else group_steps.FILTERED


def _steps(parts: Sequence[_Member]) -> NDArray[np.int64]:
    """The table of groups for the kernel, valid while their searches live."""
    steps, first = np.zeros((len(parts), group_steps.FIELDS), np.int64), 0
    for step, part in zip(steps, parts, strict=True):
        search, rows = part.search, len(part.group.keys)
        step[group_steps.TABLE] = part.group.table.__array_interface__["data"][0]
        step[group_steps.FIRST], step[group_steps.ROWS], step[group_steps.PATH] = first, rows, part.path
        step[group_steps.NUMBER], step[group_steps.ALLOWED] = part.number, search.address
        step[group_steps.SKIPPED] = -1
        first += rows
        if isinstance(search, Exact):
            continue
        step[group_steps.NODES], step[group_steps.NODE_COUNT] = search.nodes.address, search.nodes.count
        step[group_steps.COPIES] = search.nodes.most
        if isinstance(search, Walk):
            step[group_steps.EF], step[group_steps.LOST_ENTRIES] = search.ef, search.lost_rank
            if search.skipped is not None:
                step[group_steps.SKIPPED] = search.skipped
    return steps
