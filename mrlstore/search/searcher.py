"""Two stages over a snapshot: each group gives its re-ranked best, and only full scores are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.planning import access_path
from mrlstore.planning.access_path import AccessPath, Effort
from mrlstore.search import group_search as ways
from mrlstore.search.group_search import Found, Names, Queries
from mrlstore.storage.segment import WARM_S, Fetch, Segment
from mrlstore.storage.snapshot import Snapshot, Stretch
from mrlstore.storage.tail import Tail
from mrlstore.system.residency import absent_pages
from mrlstore.types import Plan, Result, SegmentPlan
from mrlstore.where import Node

Place = tuple["Segment | Tail", int]  # where a hit lies: segment or tail, and row


@dataclass
class Watched:
    """What explain=True sees of one group. Times in seconds of time.perf_counter()."""

    group: Group
    start: int  # where the group begins in its segment
    allowed: int
    started: float
    listed: NDArray[np.int64] | None = None  # the shortlist, by code score; None for an exact scan
    listed_at: float = 0.0
    absent: int | None = None  # pages of the shortlist's rows that were not in memory
    reranking_at: float = 0.0
    done: float = 0.0
    found: Found | None = None


@dataclass
class Watch:
    """What explain=True sees of a search, and its times."""

    groups: list[Watched] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    ready: float = 0.0  # filters are evaluated
    searched: float = 0.0


class Request(NamedTuple):
    """What is looked for, but for the queries; checked, and the same for every group."""

    k: int
    namespace: str
    node: Node | None
    effort: Effort
    exact: bool = False
    dim: int | None = None

    def path(self, group: Group, allowed: int) -> tuple[AccessPath, Effort]:
        """How to search a group of which `allowed` rows may be answers, and with how much effort."""
        effort = self.effort if self.node is None else self.effort.at(allowed / len(group.keys))
        exact = self.exact or self.dim is not None
        return "exact" if exact else access_path.choose(group, allowed, effort), effort

    def search(self, group: Group, allowed: NDArray[np.bool_] | None, count: int) -> ways.Search:
        """The search of a group of which `count` rows are allowed."""
        path, effort = self.path(group, count)
        if path == "exact":
            return ways.Exact(group, self.k, allowed, self.dim)
        if path == "scan":
            return ways.Scan(group, self.k, effort.shortlist, allowed, stop_margin=effort.stop_margin)
        return ways.Walk(
            group, self.k, effort.ef, effort.shortlist, allowed,
            beam_ratio=effort.beam_ratio, stop_margin=effort.stop_margin, lost_ratio=effort.lost_ratio,
        )  # fmt: skip


_Told = tuple[str, int, AccessPath, int, int, int]  # as a SegmentPlan begins, and bytes per code


class Outline(NamedTuple):
    """What was done but for what was counted. It holds no segment open."""

    generation: int
    effort: Effort | None  # None: exact
    parts: tuple[_Told, ...]
    matching: int | None  # rows that pass the filter, where there is one

    def plan(self, counts: Sequence[Sequence[int]]) -> Plan:
        """The plan of one query, with the recall that calibration lets expect."""
        segments = tuple(
            SegmentPlan(name, rows, path, ef, shortlist, visited, reranked, code_bytes)
            for (name, rows, path, ef, shortlist, code_bytes), (_, reranked, visited, *_) in zip(
                self.parts, counts, strict=True
            )
        )
        effort = self.effort
        if effort is None:
            return Plan(self.generation, "exact", segments, self.matching)
        return Plan(
            self.generation, effort.name, segments, self.matching,
            target=effort.target, expected=effort.expected, remark=effort.remark,
        )  # fmt: skip


class _Step(NamedTuple):
    stretch: Stretch
    segment: Segment | None  # whose shortlists may have to come from the disk
    search: ways.Search


class Search:
    """A request made ready for one snapshot: ask it for any number of queries, from any thread."""

    __slots__ = ("_k", "nbytes", "outline", "shortcut", "steps")

    def __init__(self, snapshot: Snapshot, request: Request, fetch: Fetch) -> None:
        """Filters are evaluated here; `fetch` gives metadata that columns don't hold."""
        stretches, effort, matching = snapshot.stretches(request.namespace), request.effort, None
        if request.node is not None:
            passing = [one.matching(request.namespace, request.node, fetch) for one in stretches]
            stretches = tuple(one for one in passing if one.size)
            matching = sum(one.size for one in stretches)
            if matching:
                effort = effort.at(matching / sum(len(one.group.keys) for one in stretches))
        parts = [_prepared(one, request) for one in stretches]
        self._k, self.steps = request.k, [step for step, _ in parts]
        self.shortcut: Any = None  # a Shortcut, where there is one: whoever keeps this search sees to it
        self.nbytes = sum(one.allowed.nbytes for one in stretches if one.allowed is not None)
        whole = request.exact or request.dim is not None
        told = tuple(part for _, part in parts)
        self.outline = Outline(snapshot.generation, None if whole else effort, told, matching)

    def __call__(self, queries: Queries, watch: Watch | None = None) -> Answers:
        """The best k for each query, or for the one that is watched."""
        shares = [
            (step.stretch, _search(step, queries) if watch is None else _watched(step, queries, watch))
            for step in self.steps
        ]
        return Answers(self.outline, shares, len(queries.prefix_norms), self._k)


class Answers:
    """The best k for each of some queries."""

    __slots__ = ("_count", "_k", "_shares", "outline")

    def __init__(self, outline: Outline, shares: Sequence[tuple[Stretch, Found]], count: int, k: int) -> None:
        self.outline, self._shares, self._count, self._k = outline, shares, count, k

    def kept(self) -> Kept | None:
        """What results can be made of later, without the snapshot; None where ids have to be read now."""
        if len(self._shares) != 1:
            return None
        ((_, found),) = self._shares
        return None if found.names is None else Kept(self.outline, found.scores, found.counts, found.names)

    def __getitem__(self, number: int) -> Answer:
        return Answer(self.outline, self._shares, number, self._k)

    def __iter__(self) -> Iterator[Answer]:
        return (self[number] for number in range(self._count))


class Kept(NamedTuple):
    """What was found in one group, for each of some queries. It holds no segment open."""

    outline: Outline
    found: NDArray[np.float32]  # [m, k], scores
    counts: list[list[int]]  # [m][4], see ways.Found
    names: Names

    def ids(self) -> list[list[str]]:
        """For each query the hits' ids."""
        return self.names.lists(count[0] for count in self.counts)

    def scores(self) -> list[NDArray[np.float32]]:
        """For each query the hits' scores."""
        return [some[: count[0]] for some, count in zip(self.found, self.counts, strict=True)]

    def results(self) -> list[Result]:
        """For each query all of it."""
        plans = (partial(self.outline.plan, [count]) for count in self.counts)
        return list(map(Result, self.ids(), self.scores(), plans))


class Answer:
    """The best k of a snapshot, best first; equal scores go by row key. Only what is asked for is made."""

    __slots__ = ("_best", "_number", "_outline", "_shares", "scores")

    def __init__(
        self, outline: Outline, shares: Sequence[tuple[Stretch, Found]], number: int, k: int
    ) -> None:
        self._outline, self._shares, self._number = outline, shares, number  # which query's it is
        self._best: NDArray[np.int64] | None = None  # among the rows of all shares
        if len(shares) == 1:  # nearly always: sorted already
            found = shares[0][1]
            self.scores = found.scores[number, : found.counts[number][0]]  # float32 [<= k]
            return
        scores = [found.scores[number, : found.counts[number][0]] for _, found in shares]
        joined = np.concatenate(scores or [np.empty(0, np.float32)])
        self._best = np.lexsort((self._keys(), -joined))[:k]
        self.scores = joined[self._best]

    @property
    def keys(self) -> NDArray[np.int64]:
        """The hits' row keys, [<= k]."""
        return self._keys() if self._best is None else self._keys()[self._best]

    @property
    def ids(self) -> list[str]:
        """The hits' ids."""
        if self._best is not None:
            return [part.ids((row,))[0] for part, row in self.places()]
        ((one, found),) = self._shares
        return one.part.ids(self._rows(one, found)) if found.names is None else found.names.of(self._number)

    @property
    def make_plan(self) -> Callable[[], Plan]:
        """What makes the plan of a result. It holds no segment open."""
        return partial(self._outline.plan, [found.counts[self._number] for _, found in self._shares])

    def places(self) -> list[Place]:
        """Where the hits lie."""
        everywhere = [(one.part, row) for one, found in self._shares for row in self._rows(one, found)]
        return everywhere if self._best is None else [everywhere[i] for i in self._best]

    def _rows(self, one: Stretch, found: Found) -> list[int]:
        rows: list[int] = found.rows[self._number, : found.counts[self._number][0]].tolist()
        return [one.start + row for row in rows] if one.start else rows

    def _keys(self) -> NDArray[np.int64]:
        number = self._number
        keys = [one.group.keys[found.rows[number, : found.counts[number][0]]] for one, found in self._shares]
        return np.concatenate(keys or [np.empty(0, np.int64)])


def _prepared(stretch: Stretch, request: Request) -> tuple[_Step, _Told]:
    """A stretch and its search, and what the plan tells of it."""
    group, allowed, count = stretch.group, stretch.allowed, stretch.size
    rows, index = len(group.keys), group.index
    path, effort = request.path(group, count)
    segment = stretch.part if isinstance(stretch.part, Segment) and path != "exact" else None
    step = _Step(stretch, segment, request.search(group, allowed, count))
    if path == "exact" or index is None:
        return step, (stretch.name, rows, path, 0, 0, 0)
    ef = 0 if path == "scan" else effort.ef
    return step, (stretch.name, rows, path, ef, effort.shortlist, index.codes.shape[1])


def _search(step: _Step, queries: Queries) -> Found:
    """Search a stretch; where its rows have to be read from the disk, announce them first."""
    stretch, segment, search = step
    if segment is None:
        return search(queries)
    if segment.heat.cold:
        return search(queries, partial(segment.announce, stretch.start))
    started = time.perf_counter()
    found = search(queries)
    elapsed_s = time.perf_counter() - started
    if elapsed_s > WARM_S:
        segment.heat.learn(elapsed_s, found.counts)
    return found


def _watched(step: _Step, query: Queries, watch: Watch) -> Found:
    """The same search of one query, its two stages apart and timed."""
    stretch, segment = step.stretch, step.segment
    group = stretch.group
    seen = Watched(group, stretch.start, stretch.size, time.perf_counter())

    def between(rows: NDArray[np.int64], told: int, reach: int) -> None:
        if told == 0:
            seen.listed_at = time.perf_counter()
            seen.listed, seen.absent = rows.copy(), absent_pages(group.vectors, rows)
            seen.reranking_at = time.perf_counter()
        if segment is not None and segment.heat.cold:
            segment.announce(stretch.start, rows, told, reach)

    found = step.search(query, between)
    seen.done, seen.found = time.perf_counter(), found
    watch.groups.append(seen)
    return found
