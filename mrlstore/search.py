"""Two stages over a snapshot: each group gives its re-ranked best, and only full scores are compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore import plan
from mrlstore.errors import CorruptStore
from mrlstore.group import Advise, Found, Group, Query, search_exact, search_graph, search_scan
from mrlstore.plan import Effort
from mrlstore.residency import absent_pages
from mrlstore.segment import Fetch, Segment, Span
from mrlstore.snapshot import LiveSegment, Snapshot
from mrlstore.tail import Tail
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
    way: plan.Way = "exact"
    found: Found | None = None


@dataclass
class Watch:
    """What explain=True sees of a search."""

    groups: list[Watched] = field(default_factory=list)
    filter_s: float = 0.0

    def clear(self) -> None:
        """Forget everything."""
        self.groups.clear()
        self.filter_s = 0.0


class Request(NamedTuple):
    """What is looked for; checked, and the same for every group."""

    query: Query
    k: int
    namespace: str
    node: Node | None
    effort: Effort
    exact: bool = False
    dim: int | None = None
    watch: Watch | None = None  # for explain=True

    def effort_for(self, allowed: int, rows: int) -> Effort:
        """The effort in a group of `rows` rows, of which a filter lets `allowed` through."""
        return self.effort if self.node is None else self.effort.at(allowed / rows)


class Searched(NamedTuple):
    """How one segment, or the tail, was searched: the fields of a SegmentPlan, which take longer to make."""

    segment: str
    rows: int
    way: plan.Way
    ef: int
    shortlist: int
    visited: int
    reranked: int
    code_bytes: int


class _Share(NamedTuple):
    """What one segment or the tail contributes to an answer."""

    part: Segment | Tail
    start: int  # where its group begins
    group: Group
    found: Found


class Answer:
    """The best k of a snapshot, best first; equal scores go by row key. Only what is asked for is made."""

    __slots__ = ("_best", "_shares", "matching", "scores", "searched")

    def __init__(
        self, shares: list[_Share], k: int, searched: tuple[Searched, ...], matching: int | None
    ) -> None:
        self._shares, self.searched = shares, searched
        self.matching = matching  # rows that pass the filter, where there is one
        self._best: NDArray[np.int64] | None = None  # among the rows of all shares
        if len(shares) == 1:  # nearly always: sorted already
            self.scores = shares[0].found.scores  # float32 [<= k]
            return
        joined = np.concatenate([share.found.scores for share in shares] or [np.empty(0, np.float32)])
        self._best = np.lexsort((self._keys(), -joined))[:k]
        self.scores = joined[self._best]

    @property
    def keys(self) -> NDArray[np.int64]:
        """The hits' row keys, [<= k]."""
        return self._keys() if self._best is None else self._keys()[self._best]

    def places(self) -> list[Place]:
        """Where the hits lie."""
        everywhere = [(s.part, s.start + row) for s in self._shares for row in s.found.rows.tolist()]
        return everywhere if self._best is None else [everywhere[i] for i in self._best]

    def ids(self) -> list[str]:
        """The hits' ids."""
        if self._best is not None:
            return [part.ids((row,))[0] for part, row in self.places()]
        part, start, _, found = self._shares[0]
        return part.ids([start + row for row in found.rows.tolist()])

    def _keys(self) -> NDArray[np.int64]:
        found = [share.group.keys[share.found.rows] for share in self._shares]
        return np.concatenate(found or [np.empty(0, np.int64)])


def search(snapshot: Snapshot, request: Request, fetch: Fetch) -> Answer:
    """Search every segment and the tail; `fetch` gives metadata that columns don't hold."""
    return search_many(snapshot, [request], fetch)[0]


def search_many(snapshot: Snapshot, requests: Sequence[Request], fetch: Fetch) -> list[Answer]:
    """The same for several requests that differ in their query alone; filters are evaluated once."""
    request = requests[0]
    shares: list[list[_Share]] = [[] for _ in requests]
    searched: list[list[Searched]] = [[] for _ in requests]
    matching = 0
    for name, part, start, group, allowed in _groups(snapshot, request, fetch):
        count = len(group.keys) if allowed is None else int(np.count_nonzero(allowed))
        matching += count
        if count:
            found, how = _search_part(part, start, group, requests, allowed, count)
            for i, one in enumerate(found):
                shares[i].append(_Share(part, start, group, one))
                searched[i].append(_describe(name, group, request, how, one, count))
    passing = matching if request.node is not None else None
    return [Answer(own, request.k, tuple(told), passing) for own, told in zip(shares, searched, strict=True)]


def _groups(
    snapshot: Snapshot, request: Request, fetch: Fetch
) -> Iterator[tuple[str, Segment | Tail, int, Group, NDArray[np.bool_] | None]]:
    """Each segment's rows of the namespace, and the tail's: (name, part, first row, group, allowed rows)."""
    for live in snapshot.segments:
        segment = live.segment
        if segment.row.base.damaged and segment.concerns(request.namespace):
            raise CorruptStore(segment.base.path, "its vectors are damaged: run repair()")
        span = segment.span(request.namespace)
        if span is None:
            continue
        started = time.perf_counter() if request.watch is not None else 0.0
        allowed = _allowed(live, span, request, fetch)
        if request.watch is not None:
            request.watch.filter_s += time.perf_counter() - started
        yield segment.row.base.name, segment, span.start, span.group, allowed
    tail = snapshot.tail
    if tail is not None and tail.length:
        yield "tail", tail, 0, tail.group(), tail.mask(request.namespace, request.node)


def _allowed(part: LiveSegment, span: Span, request: Request, fetch: Fetch) -> NDArray[np.bool_] | None:
    live = None if part.live is None else part.live[span.start : span.stop]
    if request.node is None:
        return live
    mask = part.segment.mask(request.node, span.start, span.stop, fetch)
    return mask if live is None else mask & live


def _search_part(
    part: Segment | Tail,
    start: int,
    group: Group,
    requests: Sequence[Request],
    allowed: NDArray[np.bool_] | None,
    count: int,
) -> tuple[list[Found], plan.Way]:
    """Search a part's group; where its rows have to be read from the disk, announce them first."""
    segment = part if isinstance(part, Segment) else None
    advise = partial(segment.announce, start) if segment is not None and segment.heat.cold else None
    if requests[0].watch is not None:
        return _search_watched(group, start, requests[0], allowed, count, requests[0].watch, advise)
    started = time.perf_counter()
    found, how = search_group(group, requests, allowed, count, advise)
    if segment is not None and advise is None and how != "exact":
        segment.heat.learn(time.perf_counter() - started, found)
    return found, how


def search_group(
    group: Group,
    requests: Sequence[Request],
    allowed: NDArray[np.bool_] | None,
    count: int,
    advise: Advise | None = None,
) -> tuple[list[Found], plan.Way]:
    """Search one group as the plan says; `count` rows are allowed."""
    request, queries = requests[0], [one.query for one in requests]
    k, effort = request.k, request.effort_for(count, len(group.keys))
    if request.exact or request.dim is not None:
        return search_exact(group, queries, k, allowed, request.dim), "exact"
    how = plan.way(group, count, effort)
    if how == "exact":
        return search_exact(group, queries, k, allowed), how
    if how == "scan":
        return search_scan(
            group, queries, k, effort.shortlist, allowed, margin=effort.margin, advise=advise
        ), how
    return search_graph(
        group, queries, k, effort.ef, effort.shortlist, allowed,
        slack=effort.slack, margin=effort.margin, advise=advise,
    ), how  # fmt: skip


def _search_watched(
    group: Group,
    start: int,
    request: Request,
    allowed: NDArray[np.bool_] | None,
    count: int,
    watch: Watch,
    advise: Advise | None = None,
) -> tuple[list[Found], plan.Way]:
    """The same search of one query, its two stages apart and timed."""
    seen = Watched(group, start, count, time.perf_counter())

    def between(rows: NDArray[np.int64], told: int, reach: int) -> None:
        if told == 0:
            seen.listed_at = time.perf_counter()
            seen.listed, seen.absent = rows.copy(), absent_pages(group.vectors, rows)
            seen.reranking_at = time.perf_counter()
        if advise is not None:
            advise(rows, told, reach)

    found, how = search_group(group, [request], allowed, count, between)
    seen.done, seen.found, seen.way = time.perf_counter(), found[0], how
    watch.groups.append(seen)
    return found, how


def _describe(name: str, group: Group, request: Request, how: plan.Way, found: Found, count: int) -> Searched:
    rows, index = len(group.keys), group.index
    effort = request.effort_for(count, rows)
    ef = effort.ef if how in ("walk", "filtered walk") else 0
    if how == "exact" or index is None:
        return Searched(name, rows, how, ef, 0, found.visited, found.reranked, 0)
    return Searched(
        name, rows, how, ef, effort.shortlist, found.visited, found.reranked, index.codes.shape[1]
    )
