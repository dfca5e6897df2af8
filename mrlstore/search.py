"""Two stages over a snapshot: each group gives its re-ranked best, and only full scores are compared."""

from __future__ import annotations

import time
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


class Answer(NamedTuple):
    """The best k of a snapshot, best first; equal scores go by row key."""

    keys: NDArray[np.int64]  # [<= k]
    scores: NDArray[np.float32]  # [<= k]
    places: list[Place]
    searched: tuple[Searched, ...]
    matching: int | None  # rows that pass the filter, where there is one

    def ids(self) -> list[str]:
        """The hits' ids."""
        if not self.places:
            return []
        first = self.places[0][0]
        if len(self.searched) == 1:  # nearly always: one call for all
            return first.ids([row for _, row in self.places])
        return [part.ids((row,))[0] for part, row in self.places]


class _Share(NamedTuple):
    """What one segment or the tail contributes."""

    part: Segment | Tail
    start: int
    keys: NDArray[np.int64]
    found: Found


def search(snapshot: Snapshot, request: Request, fetch: Fetch) -> Answer:
    """Search every segment and the tail; `fetch` gives metadata that columns don't hold."""
    shares: list[_Share] = []
    searched: list[Searched] = []
    matching = 0
    for part in snapshot.segments:
        span = part.segment.span(request.namespace)
        if span is None:
            continue
        if part.segment.row.base.damaged:
            raise CorruptStore(part.segment.base.path, "its vectors are damaged: run repair()")
        started = time.perf_counter() if request.watch is not None else 0.0
        allowed = _allowed(part, span, request, fetch)
        if request.watch is not None:
            request.watch.filter_s += time.perf_counter() - started
        count = span.stop - span.start if allowed is None else int(np.count_nonzero(allowed))
        matching += count
        if count:
            found, how = _search_span(part.segment, span, request, allowed, count)
            shares.append(_Share(part.segment, span.start, span.group.keys, found))
            searched.append(_describe(part.segment.row.base.name, span.group, request, how, found, count))
    if snapshot.tail is not None and snapshot.tail.length:
        tail = snapshot.tail
        allowed = tail.mask(request.namespace, request.node)
        count = int(np.count_nonzero(allowed))
        matching += count
        if count:
            if request.watch is not None:
                found, how = _search_watched(tail.group(), 0, request, allowed, count, request.watch)
            else:
                found, how = search_group(tail.group(), request, allowed, count)
            shares.append(_Share(tail, 0, tail.keys, found))
            searched.append(_describe("tail", tail.group(), request, how, found, count))
    keys, scores, places = _merge(shares, request.k)
    return Answer(keys, scores, places, tuple(searched), matching if request.node is not None else None)


def _allowed(part: LiveSegment, span: Span, request: Request, fetch: Fetch) -> NDArray[np.bool_] | None:
    live = None if part.live is None else part.live[span.start : span.stop]
    if request.node is None:
        return live
    mask = part.segment.mask(request.node, span.start, span.stop, fetch)
    return mask if live is None else mask & live


def _search_span(
    segment: Segment, span: Span, request: Request, allowed: NDArray[np.bool_] | None, count: int
) -> tuple[Found, plan.Way]:
    """Search a segment's group; where the last re-rank had to wait for the disk, announce the rows first."""
    advise = partial(segment.announce, span.start) if segment.heat.cold else None
    if request.watch is not None:
        return _search_watched(span.group, span.start, request, allowed, count, request.watch, advise)
    started = time.perf_counter()
    found, how = search_group(span.group, request, allowed, count, advise)
    if how != "exact":
        segment.heat.learn(time.perf_counter() - started, found)
    return found, how


def search_group(
    group: Group,
    request: Request,
    allowed: NDArray[np.bool_] | None,
    count: int,
    advise: Advise | None = None,
) -> tuple[Found, plan.Way]:
    """Search one group as the plan says; `count` rows are allowed."""
    query, k, effort = request.query, request.k, request.effort_for(count, len(group.keys))
    if request.exact or request.dim is not None:
        return search_exact(group, query, k, allowed, request.dim), "exact"
    how = plan.way(group, count, effort)
    if how == "exact":
        return search_exact(group, query, k, allowed), how
    if how == "scan":
        return search_scan(
            group, query, k, effort.shortlist, allowed, margin=effort.margin, advise=advise
        ), how
    return search_graph(
        group, query, k, effort.ef, effort.shortlist, allowed, margin=effort.margin, advise=advise
    ), how


def _search_watched(
    group: Group,
    start: int,
    request: Request,
    allowed: NDArray[np.bool_] | None,
    count: int,
    watch: Watch,
    advise: Advise | None = None,
) -> tuple[Found, plan.Way]:
    """The same search, its two stages apart and timed."""
    seen = Watched(group, start, count, time.perf_counter())

    def between(rows: NDArray[np.int64]) -> None:
        seen.listed_at = time.perf_counter()
        seen.listed, seen.absent = rows.copy(), absent_pages(group.vectors, rows)
        if advise is not None:
            advise(rows)
        seen.reranking_at = time.perf_counter()

    found, how = search_group(group, request, allowed, count, between)
    seen.done, seen.found, seen.way = time.perf_counter(), found, how
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


def _merge(shares: list[_Share], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32], list[Place]]:
    """The best k of all shares. Each is sorted already, so one alone needs no work."""
    if not shares:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), []
    if len(shares) == 1:
        share = shares[0]
        places: list[Place] = [(share.part, share.start + row) for row in share.found.rows.tolist()]
        return share.keys[share.found.rows], share.found.scores, places
    keys = np.concatenate([share.keys[share.found.rows] for share in shares])
    scores = np.concatenate([share.found.scores for share in shares])
    everywhere = [(share.part, share.start + row) for share in shares for row in share.found.rows.tolist()]
    best = np.lexsort((keys, -scores))[:k]
    return keys[best], scores[best], [everywhere[i] for i in best]
