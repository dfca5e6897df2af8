"""Working memory of searches: borrowed for one call, then given back for the next one.

It belongs to a call and not to a thread, because a signal handler may query in the midst of a query of its
thread. A call that ends by an exception does not give it back: what was left half done is dropped with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.kernels.scratch import Scratch

ID_SEPARATOR: Final = "\0"  # written behind each id; where an id holds one, none are written
_ID_BYTES, _MAX_TEXT = 64, 65_536  # for each id, and for all of a call; longer ids are read one by one
_KEPT = 32  # workspaces that wait for the next call; more are only made by more threads at once


class GroupHits(NamedTuple):
    """What a kernel writes: for each of m queries the best rows of one group, best first, from the left."""

    rows: NDArray[np.int64]  # [m, k], rows of the group
    scores: NDArray[np.float32]  # [m, k]
    counts: NDArray[np.int64]  # [m, 5]: see kernels.two_stage.search_walk
    ids: NDArray[np.uint8]  # UTF-8 of the ids of all queries, ID_SEPARATOR behind each


def empty_hits(queries: int, k: int) -> GroupHits:
    """Arrays for the answers to so many queries; nothing in them is set."""
    return GroupHits(
        np.empty((queries, k), np.int64),
        np.empty((queries, k), np.float32),
        np.empty((queries, 5), np.int64),
        np.empty(min(_ID_BYTES * queries * k, _MAX_TEXT), np.uint8),
    )


class JointHits(NamedTuple):
    """What a kernel writes of several groups: for each of m queries the best rows of all, best first."""

    rows: NDArray[np.int64]  # [m, k], rows of the groups
    which: NDArray[np.int64]  # [m, k], the number of each row's group
    scores: NDArray[np.float32]  # [m, k]
    sizes: NDArray[np.int64]  # [m, 2]: rows written, and where the query's ids end in `ids`
    counts: NDArray[np.int64]  # [m, groups, 5]: see kernels.several_groups.search_groups
    ids: NDArray[np.uint8]  # as in GroupHits; empty ones for rows of groups without ids


def empty_joint_hits(queries: int, k: int, groups: int) -> JointHits:
    """Arrays for the answers to so many queries; nothing in them is set."""
    return JointHits(
        np.empty((queries, k), np.int64),
        np.empty((queries, k), np.int64),
        np.empty((queries, k), np.float32),
        np.empty((queries, 2), np.int64),
        np.empty((queries, groups, 5), np.int64),
        np.empty(min(_ID_BYTES * queries * k, _MAX_TEXT), np.uint8),
    )


class Workspace:
    """What one call works in: the kernels' scratch, and room for one query of the fast path.

    Memory that was used a moment ago is still in the caches of its core, which new pages are not.
    """

    __slots__ = (
        "fitted", "hits", "joint_hits", "launch", "norm", "normalise", "scratch", "unit", "vector",
    )  # fmt: skip
    # Set by the fast path for which the workspace is fitted: its two kernels, bound to the arrays below.
    normalise: Callable[[], object]
    launch: Callable[[], object]

    def __init__(self) -> None:
        self.scratch = Scratch()
        self.fitted = 0  # the number of the fast path that `unit`, `hits` and `scratch` have room for
        self.fit(0, 0)

    def fit(self, dim: int, k: int, groups: int = 1) -> None:
        """Make room for one query of `dim` numbers and its best `k` rows, of one group or of several."""
        self.unit, self.norm = np.empty((1, dim), np.float32), np.empty(1)
        self.vector, self.hits = self.unit[0], empty_hits(1, k if groups == 1 else 0)
        self.joint_hits = empty_joint_hits(1, k if groups > 1 else 0, groups)


_waiting: list[Workspace] = []


def borrow() -> Workspace:
    """A workspace that no other call uses: the one given back last, or a new one."""
    try:
        return _waiting.pop()
    except IndexError:
        return Workspace()


def give_back(workspace: Workspace) -> None:
    """Let the next call have it."""
    if len(_waiting) < _KEPT:
        _waiting.append(workspace)
