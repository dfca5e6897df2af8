"""Which rows of a graph are reached, and links that reach the others. For builds, not for queries."""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import device, kernel
from .links import distance, load_query


@kernel("int64(uint32[:,::1], int64[::1], int64[::1], int64[::1], int64[::1], uint32[::1])")
def reverse(neighbours: Any, sources: Any, counts: Any, targets: Any, starts: Any, offered: Any) -> Any:
    """The links of the rows `sources`: int64 the other way round; gives how many different targets they have.

    counts: int64 [n], all zero, and left so; targets: int64, in the order in which they are first linked to.
    starts: int64 [targets + 1]: where the rows that link to each target begin in offered: uint32 [links].
    """
    n, width = neighbours.shape
    found = 0
    for row in sources:
        for j in range(width):
            other = np.int64(neighbours[row, j])
            if other < n:
                if counts[other] == 0:
                    targets[found] = other
                    found += 1
                counts[other] += 1
    starts[0] = 0
    for i in range(found):
        size = counts[targets[i]]
        counts[targets[i]] = starts[i]
        starts[i + 1] = starts[i] + size
    for row in sources:
        for j in range(width):
            other = np.int64(neighbours[row, j])
            if other < n:
                offered[counts[other]] = row
                counts[other] += 1
    for i in range(found):
        counts[targets[i]] = 0
    return found


@kernel("int64(uint32[:,::1], int64, int64[::1], int64[::1])")
def reach(neighbours: Any, start: Any, parents: Any, queue: Any) -> Any:
    """Mark all rows that links lead to from a row; gives how many are newly reached.

    neighbours: uint32 [n, width]; queue: int64 [n], overwritten. parents: int64 [n], -1 for rows not reached
    yet; receives the slot (row x width + column) of the link through which each row is reached. `start` keeps
    its own, or gets n x width.
    """
    n, width = neighbours.shape
    if parents[start] < 0:
        parents[start] = n * width
    queue[0] = start
    taken, filled = 0, 1
    while taken < filled:
        row = queue[taken]
        taken += 1
        for j in range(width):
            other = neighbours[row, j]
            if other < n and parents[other] < 0:
                parents[other] = row * width + j
                queue[filled] = other
                filled += 1
    return filled


@device
def free_slot(neighbours: Any, parents: Any, row: Any) -> Any:
    """The last slot of a row that is empty or not the only known link to its target; -1 if there is none.

    neighbours: uint32 [n, width]; parents: int64 [n], see reach.
    """
    n, width = neighbours.shape
    for j in range(width - 1, -1, -1):
        other = neighbours[row, j]
        if other >= n or parents[other] != row * width + j:
            return j
    return -1


@kernel("int64(int64, int64, float32[::1], uint32[:,::1], int64[::1], int64, int8[::1])")
def link_to(
    codes: Any, stride: Any, squares: Any, neighbours: Any, parents: Any, row: Any, signed: Any
) -> Any:
    """Link an unreached row from the nearest reached one that has a slot to spare; gives that row.

    codes: address of uint8 [n, stride]; squares: float32 [n]; parents: int64 [n], see reach; signed: int8
    [2 x stride], the second half all ones. The row's own neighbours are tried first, then all rows. A reached
    row with a spare slot always exists, as fewer links than rows are needed.
    """
    n, width = neighbours.shape
    bias, scale = load_query(codes, row, stride, signed)
    best: Any = np.int64(-1)
    nearest = np.float32(np.inf)
    for j in range(width):
        other = np.int64(neighbours[row, j])
        if other < n and parents[other] >= 0 and free_slot(neighbours, parents, other) >= 0:
            far = distance(codes, stride, squares, row, other, signed.ctypes.data, bias, scale)
            if far < nearest:
                best, nearest = other, far
    if best < 0:
        for i in range(n):
            if parents[i] >= 0:
                far = distance(codes, stride, squares, row, i, signed.ctypes.data, bias, scale)
                if far < nearest and free_slot(neighbours, parents, i) >= 0:
                    best, nearest = i, far
    place = free_slot(neighbours, parents, best)
    neighbours[best, place] = row
    parents[row] = best * width + place
    return best
