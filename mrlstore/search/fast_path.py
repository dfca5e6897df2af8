"""The usual query without detours: one segment that is in memory, one float32 vector, no least score.

It runs the same kernel as every search, and does nothing else that could wait. Whatever is unusual about a
query gives None: it is then answered, or refused, the long way. A quarter of a query's time was Python's
(docs/decisions/0013-a-shortcut-for-the-usual-query.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX
from mrlstore.kernels.load import kernels
from mrlstore.search.group_search import SEPARATOR, Scan, Walk, outputs
from mrlstore.search.params import Asked
from mrlstore.search.searcher import Place, Search
from mrlstore.storage.segment import WARM_S, Segment
from mrlstore.types import Plan

_FLOAT32 = np.dtype(np.float32)


class Best(NamedTuple):
    """The best rows of a segment, best first."""

    ids: list[str]
    scores: NDArray[np.float32]
    make_plan: Callable[[], Plan]
    segment: Segment
    rows: list[int]  # of the segment

    @property
    def keys(self) -> NDArray[np.int64]:
        """Their row keys."""
        return self.segment.keys[self.rows]

    def places(self) -> list[Place]:
        """Where they lie."""
        return [(self.segment, row) for row in self.rows]


class _Room:
    """What one query at a time is worked out in; memory that is used again is still in the caches."""

    __slots__ = ("length", "out", "unit", "vector")

    def __init__(self, dim: int, k: int) -> None:
        self.unit, self.length, self.out = np.empty((1, dim), np.float32), np.empty(1), outputs(1, k)
        self.vector = self.unit[0]


class Shortcut:
    """Answers queries by a search that has been made ready; safe to use from many threads."""

    __slots__ = (
        "_heat", "_k", "_normalise", "_plan", "_prefix_dim", "_rooms", "_search", "_segment", "_shape",
        "_start",
    )  # fmt: skip

    def __init__(self, search: Search, segment: Segment, start: int, way: Walk | Scan) -> None:
        index = way.group.index
        assert index is not None
        self._search, self._k, self._heat = way, way.k, segment.heat
        self._segment, self._start = segment, start
        self._normalise, self._plan = kernels().normalise, search.outline.plan
        self._prefix_dim, self._shape = index.prefix_dim, (segment.dim,)
        self._rooms: list[_Room] = []  # that nobody is in

    def __call__(self, vector: Any) -> Best | None:
        """The best rows, or None where this is not the way."""
        if self._heat.cold or type(vector) is not np.ndarray:
            return None
        if vector.dtype != _FLOAT32 or vector.shape != self._shape:
            return None
        try:
            room = self._rooms.pop()  # a signal handler that asks meanwhile finds another
        except IndexError:
            room = _Room(len(vector), self._k)
        result = self._answer(vector, room)
        self._rooms.append(room)
        return result

    def _answer(self, vector: NDArray[np.float32], room: _Room) -> Best | None:
        room.vector[:] = vector
        if not self._normalise(room.unit, self._prefix_dim, room.length) or room.length[0] < SHORT_PREFIX:
            return None
        out, started = room.out, perf_counter()
        self._search.launch(room.unit, out)
        elapsed_s, counts = perf_counter() - started, out.counts.tolist()
        if elapsed_s > WARM_S:
            self._heat.learn(elapsed_s, counts)
        (count,) = counts
        rows = out.rows[0, : count[0]].tolist()
        if self._start:
            rows = [self._start + row for row in rows]
        try:
            ids = str(out.ids[: max(count[3], 0)].tobytes(), "utf-8").split(SEPARATOR)
            ids.pop()
        except UnicodeDecodeError:
            ids = []
        if len(ids) < len(rows):  # too long, or damaged: each by itself, which tells what is wrong
            ids = self._segment.ids(rows)
        scores = out.scores[0, : len(rows)].copy()
        return Best(ids, scores, partial(self._plan, counts), self._segment, rows)


def shortcut(asked: Asked, search: Search) -> Shortcut | None:
    """The shortcut for a search, if there is one."""
    if asked.wanted.min_score is not None or asked.explain or len(search.steps) != 1:
        return None
    ((stretch, segment, way),) = search.steps
    if segment is None or not isinstance(way, Walk | Scan) or way.group.index is None:
        return None
    if isinstance(way, Walk) and way.group.index.neighbours is None:
        return None
    return Shortcut(search, segment, stretch.start, way)
