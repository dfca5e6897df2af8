"""Runs the search of several groups: reads rows ahead that are not in memory, and sees for explain=True."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.kernels.scratch import Scratch
from mrlstore.search.explain import GroupTrace, Trace
from mrlstore.search.group_search import Exact, GroupSearch
from mrlstore.search.joint_search import JointSearch
from mrlstore.search.queries import Queries
from mrlstore.search.workspace import JointHits
from mrlstore.storage.page_cache import WARM_SEARCH_S
from mrlstore.storage.segment import Segment
from mrlstore.storage.snapshot import LiveGroup
from mrlstore.system.residency import absent_pages


class Step(NamedTuple):
    """One group that is searched."""

    live_group: LiveGroup
    segment: Segment | None  # whose shortlisted rows may have to be read from the disk
    search: GroupSearch


def search_together(
    joint: JointSearch, steps: Sequence[Step], queries: Queries, scratch: Scratch, trace: Trace | None
) -> JointHits:
    """The best rows of all groups for each query, or for the one that is traced."""
    segments = [step.segment for step in steps if step.segment is not None]
    if trace is not None:
        return _traced(joint, steps, queries, scratch, trace)
    if any(segment.read_ahead.needed for segment in segments):

        def before_rerank(places: NDArray[np.int64], start: int, stop: int) -> None:
            _request(joint, steps, places[start:stop])

        return joint(queries, scratch, before_rerank)
    started = perf_counter()
    hits = joint(queries, scratch)
    learn_from(segments, perf_counter() - started, hits)
    return hits


def learn_from(segments: Iterable[Segment], elapsed_s: float, hits: JointHits) -> None:
    """Let the segments judge by the time of a search whether their rows have to be read from the disk."""
    if elapsed_s > WARM_SEARCH_S:
        counts = hits.counts.sum(axis=1).tolist()
        for segment in segments:
            segment.read_ahead.learn(elapsed_s, counts)


def _request(joint: JointSearch, steps: Sequence[Step], places: NDArray[np.int64]) -> None:
    """Have the rows at these places read from the disk, where they may not be in memory."""
    for step, rows in zip(steps, joint.by_group(places), strict=True):
        if step.segment is not None and step.segment.read_ahead.needed:
            step.segment.read_ahead.request(step.live_group.start, rows, 0, len(rows))


def _traced(
    joint: JointSearch, steps: Sequence[Step], query: Queries, scratch: Scratch, trace: Trace
) -> JointHits:
    """The same search of one query, its two stages apart; the first group's trace gets the times of all."""
    started = perf_counter()
    seen = [GroupTrace(step.live_group.group, step.live_group.size, started) for step in steps]

    def before_rerank(places: NDArray[np.int64], start: int, stop: int) -> None:
        if start == 0:
            listed_at = perf_counter()
            for one, step, rows in zip(seen, steps, joint.by_group(places), strict=True):
                if not isinstance(step.search, Exact):
                    one.listed, one.absent = rows, absent_pages(one.group.vectors, rows)
            seen[0].listed_at, seen[0].reranking_at = listed_at, perf_counter()
        _request(joint, steps, places[start:stop])

    hits = joint(query, scratch, before_rerank)
    done, size = perf_counter(), int(hits.sizes[0, 0])
    for number, one in enumerate(seen):
        one.rows = hits.rows[0, :size][hits.which[0, :size] == number]
        one.done = done if number == 0 else one.started
        if number:
            one.listed_at = one.reranking_at = one.started
    trace.groups += seen
    return hits
