"""The searcher: what is prepared for one snapshot and one QueryParams, and then asked any number of times.

Each group gives its re-ranked best, and only full scores are compared between groups. The usual query, one
float32 vector against one segment that is in memory, has a fast path: it runs the same kernel without the
calls and checks between, which took a quarter of its time
(docs/decisions/0013-a-fast-path-for-the-usual-query.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX
from mrlstore.kernels.load import kernels
from mrlstore.kernels.scratch import Scratch
from mrlstore.planning import access_path
from mrlstore.planning.access_path import Effort
from mrlstore.search.explain import GroupTrace, Trace
from mrlstore.search.group_search import Scan, Walk, prepare_search
from mrlstore.search.hits import Hits, text_of
from mrlstore.search.joint_search import JointSearch, joint_search
from mrlstore.search.params import QueryParams
from mrlstore.search.queries import Queries
from mrlstore.search.together import Step, learn_from, search_together
from mrlstore.search.workspace import GroupHits, Workspace, borrow, give_back
from mrlstore.storage.page_cache import WARM_SEARCH_S
from mrlstore.storage.segment import Fetch, Segment
from mrlstore.storage.snapshot import LiveGroup, Snapshot
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.system.residency import absent_pages
from mrlstore.types import Plan, SegmentPlan

_KEPT: Final = "searchers"  # their key in `Snapshot.kept`
_SEARCHERS: Final = 200  # kept for a snapshot: namespaces, targets and filters may come from users
_MASK_BYTES: Final = 64 * 1024 * 1024  # of the masks that their filters gave
_FLOAT32 = np.dtype(np.float32)
_numbers = itertools.count(1)


class _FastPath(NamedTuple):
    """What the usual query needs: the only group's search, and what vectors it takes."""

    search: Walk | Scan
    segment: Segment
    prefix_dim: int
    vector_shape: tuple[int]
    number: int  # its own, see Workspace.fitted

    def fit(self, work: Workspace) -> None:
        """Make room for a query; what has room once has it until another fast path fits it for itself."""
        work.fitted = 0
        work.fit(self.vector_shape[0], self.search.k)
        self.search.reserve(work.scratch)
        work.normalise = kernels().normalise.bound(work.unit, self.prefix_dim, work.norm)
        work.launch = self.search.bound(work.unit, work.hits, work.scratch)
        work.fitted = self.number


class _JointFastPath(NamedTuple):
    """The same for several groups."""

    search: JointSearch
    segments: tuple[Segment, ...]  # of the groups that have codes, the tail left out
    vector_shape: tuple[int]
    number: int

    def fit(self, work: Workspace) -> None:
        """As _FastPath.fit."""
        work.fitted = 0
        work.fit(self.vector_shape[0], self.search.k, len(self.search.parts))
        self.search.reserve(work.scratch)
        work.normalise = kernels().normalise.bound(work.unit, self.search.prefix_dim, work.norm)
        work.launch = self.search.bound(work.unit, work.joint_hits, work.scratch)
        work.fitted = self.number


class Searcher:
    """Filters evaluated, efforts and access paths chosen; immutable, and safe to use from many threads."""

    __slots__ = (
        "_fast", "_joint", "_joint_fast", "_k", "_live_groups", "_namespace", "_steps", "nbytes", "plan",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, params: QueryParams, fetch: Fetch) -> None:
        """Evaluate the filter; `fetch` gives metadata that the segments' columns do not hold."""
        live_groups, effort, matching = snapshot.groups(params.namespace), _effort(snapshot, params), None
        if params.where is not None:
            passing = [one.matching(params.namespace, params.where, fetch) for one in live_groups]
            live_groups = tuple(one for one in passing if one.size)
            matching = sum(one.size for one in live_groups)
        chosen = [_prepared(one, params, effort) for one in live_groups]
        if matching:
            effort = effort.at(matching / sum(len(one.group.keys) for one in live_groups))
        self._k, self._live_groups = params.k, live_groups
        self._namespace = params.namespace if isinstance(params.namespace, str) else None
        self._steps = tuple(step for step, _ in chosen)
        self.nbytes = sum(_mask_bytes(one) for one in live_groups)
        self.plan = _plan(snapshot.generation, params, effort, tuple(part for _, part in chosen), matching)
        self._joint = None
        if params.by_codes:
            shortlist = max((part.shortlist for _, part in chosen), default=0)
            self._joint = joint_search([step.search for step in self._steps], params.k, shortlist)
        self._fast = _fast_path(self._steps, params)
        self._joint_fast = None if self._joint is None else _joint_fast_path(self._joint, self._steps, params)

    def one(self, vector: Any) -> Hits | None:
        """The fast path: the best rows for one vector; None leaves an unusual query to `search`.

        Unusual are: no group, rows that may have to be read from the disk, an exact search, a vector of
        another type, shape or length than usual, and one whose prefix is too short.
        """
        fast = self._fast
        if fast is None:
            return None if self._joint_fast is None else self._one_of_several(self._joint_fast, vector)
        if fast.segment.read_ahead.needed or type(vector) is not np.ndarray:
            return None
        if vector.dtype != _FLOAT32 or vector.shape != fast.vector_shape:
            return None
        work, hits = borrow(), None
        if work.fitted != fast.number:
            fast.fit(work)
        work.vector[:] = vector
        work.normalise()
        if work.norm[0] >= SHORT_PREFIX:
            found, started = work.hits, perf_counter()
            work.launch()
            elapsed_s, counts = perf_counter() - started, found.counts.tolist()
            if elapsed_s > WARM_SEARCH_S:
                fast.segment.read_ahead.learn(elapsed_s, counts)
            rows, scores = found.rows.copy(), found.scores.copy()
            text = text_of(found.ids, counts)
            hits = Hits(self.plan, self._live_groups, rows, scores, [counts], text, self._namespace)
        give_back(work)
        return hits

    def _one_of_several(self, fast: _JointFastPath, vector: Any) -> Hits | None:
        """The same where several groups are searched together."""
        if type(vector) is not np.ndarray or vector.dtype != _FLOAT32 or vector.shape != fast.vector_shape:
            return None
        for segment in fast.segments:
            if segment.read_ahead.needed:
                return None
        work, hits = borrow(), None
        if work.fitted != fast.number:
            fast.fit(work)
        work.vector[:] = vector
        work.normalise()
        if work.norm[0] >= SHORT_PREFIX:
            found, started = work.joint_hits, perf_counter()
            work.launch()
            learn_from(fast.segments, perf_counter() - started, found)
            rows, which, scores = found.rows.copy(), found.which.copy(), found.scores.copy()
            hits = Hits.of_several(self.plan, self._live_groups, found, rows, which, scores, self._namespace)
        give_back(work)
        return hits

    def search(self, queries: Queries, trace: Trace | None = None) -> Hits:
        """The best rows for each query, or for the one that is traced."""
        work, joint = borrow(), self._joint
        if joint is not None:
            queries = queries.at(joint.prefix_dim)
            if joint.answers(queries):
                several = search_together(joint, self._steps, queries, work.scratch, trace)
                give_back(work)
                return Hits.of_several(
                    self.plan, self._live_groups, several, several.rows, several.which, several.scores,
                    self._namespace,
                )  # fmt: skip
        found = [
            _search(step, queries, work.scratch)
            if trace is None
            else _traced(step, queries, work.scratch, trace)
            for step in self._steps
        ]
        give_back(work)
        m = len(queries.vectors)
        return Hits.merge(self.plan, self._live_groups, found, m, self._k, self._namespace)


def _mask_bytes(live_group: LiveGroup) -> int:
    """Bytes of the mask of rows that a search of this group keeps, and of its mask of nodes."""
    index, allowed = live_group.group.index, live_group.allowed
    if allowed is None:
        return 0
    return allowed.nbytes * (2 if index is not None and len(index.copies.rows) else 1)


def known_searcher(snapshot: Snapshot, params: QueryParams) -> Searcher | None:
    """The searcher of a query like one before it, if it is still kept."""
    known: BoundedCache[Hashable, Searcher] | None = snapshot.kept.get(_KEPT)  # type: ignore[assignment]
    return None if known is None else known.get(params if params.where is None else params.key)


def searcher_for(snapshot: Snapshot, params: QueryParams, fetch: Fetch) -> Searcher:
    """The searcher for a query, kept for the next one like it for as long as the snapshot lives."""
    searcher = known_searcher(snapshot, params)
    if searcher is None:
        searcher = Searcher(snapshot, params, fetch)
        if not kernels().compiled:
            return searcher  # the next one may have machine code, and a fast path
        known = snapshot.kept.setdefault(_KEPT, BoundedCache[Hashable, Searcher](_SEARCHERS, _MASK_BYTES))
        known.put(params.key, searcher, searcher.nbytes)  # type: ignore[attr-defined]
    return searcher


def _effort(snapshot: Snapshot, params: QueryParams) -> Effort:
    """The effort that calibration chooses, or the caller did."""
    if params.ef is None and params.shortlist is None:
        return snapshot.calibration.effort(params.k, params.target_recall)
    return access_path.effort(params.k, params.ef, params.shortlist)


def _prepared(live_group: LiveGroup, params: QueryParams, effort: Effort) -> tuple[Step, SegmentPlan]:
    """The search of one group, and its part of the plan with nothing counted yet."""
    group, rows = live_group.group, len(live_group.group.keys)
    if params.where is not None:
        effort = effort.at(live_group.size / rows)
    by_codes = params.by_codes and kernels().compiled
    path = access_path.choose(group, live_group.size, effort) if by_codes else "exact"
    segment = live_group.holder if isinstance(live_group.holder, Segment) and path != "exact" else None
    search = prepare_search(path, group, params.k, effort, live_group.allowed, dim=params.dim)
    step = Step(live_group, segment, search)
    if path == "exact" or group.index is None:
        return step, SegmentPlan(live_group.name, rows, path, 0, 0, 0, 0)
    ef, code_bytes = 0 if path == "scan" else effort.ef, group.index.codes.shape[1]
    return step, SegmentPlan(live_group.name, rows, path, ef, effort.shortlist, 0, 0, code_bytes)


def _plan(
    generation: int,
    params: QueryParams,
    effort: Effort,
    segments: tuple[SegmentPlan, ...],
    matching: int | None,
) -> Plan:
    """The plan with nothing counted yet, and the recall that calibration lets expect."""
    if not params.by_codes:
        return Plan(generation, "exact", segments, matching)
    return Plan(
        generation, effort.name, segments, matching,
        target=effort.target, expected=effort.expected, remark=effort.remark,
    )  # fmt: skip


def _fast_path(steps: tuple[Step, ...], params: QueryParams) -> _FastPath | None:
    """The fast path, if the query and its only group allow it."""
    if params.min_score is not None or params.explain or len(steps) != 1:
        return None
    _, segment, search = steps[0]
    if segment is None or not isinstance(search, Walk | Scan) or search.group.index is None:
        return None
    index = search.group.index
    if isinstance(search, Walk) and index.neighbours is None:
        return None
    return _FastPath(search, segment, index.prefix_dim, (segment.dim,), next(_numbers))


def _joint_fast_path(
    joint: JointSearch, steps: tuple[Step, ...], params: QueryParams
) -> _JointFastPath | None:
    """The fast path of several groups, if the query allows it."""
    if params.min_score is not None or params.explain:
        return None
    segments = tuple(step.segment for step in steps if step.segment is not None)
    shape = (steps[0].live_group.group.vectors.shape[1],)
    return _JointFastPath(joint, segments, shape, next(_numbers))


def _search(step: Step, queries: Queries, scratch: Scratch) -> GroupHits:
    """Search one group; where its rows have to be read from the disk, start that for many at once."""
    live_group, segment, search = step
    if segment is None:
        return search(queries, scratch)
    if segment.read_ahead.needed:
        return search(queries, scratch, partial(segment.read_ahead.request, live_group.start))
    started = perf_counter()
    hits = search(queries, scratch)
    elapsed_s = perf_counter() - started
    if elapsed_s > WARM_SEARCH_S:
        segment.read_ahead.learn(elapsed_s, hits.counts.tolist())
    return hits


def _traced(step: Step, query: Queries, scratch: Scratch, trace: Trace) -> GroupHits:
    """The same search of one query, its two stages apart and timed."""
    live_group, segment = step.live_group, step.segment
    group = live_group.group
    seen = GroupTrace(group, live_group.size, perf_counter())

    def before_rerank(rows: NDArray[np.int64], start: int, stop: int) -> None:
        if start == 0:
            seen.listed_at = perf_counter()
            seen.listed, seen.absent = rows.copy(), absent_pages(group.vectors, rows)
            seen.reranking_at = perf_counter()
        if segment is not None and segment.read_ahead.needed:
            segment.read_ahead.request(live_group.start, rows, start, stop)

    hits = step.search(query, scratch, before_rerank)
    seen.done, seen.rows = perf_counter(), hits.rows[0, : hits.counts[0, 0]]
    trace.groups.append(seen)
    return hits
