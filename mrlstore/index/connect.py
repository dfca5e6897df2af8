"""Adds links to a graph until every row is reached, and tells which rows reach a given one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.kernels.load import kernels


def connect(
    codes: NDArray[np.uint8],
    squares: NDArray[np.float32],
    neighbours: NDArray[np.uint32],
    nodes: NDArray[np.int64],
    start: int,
) -> None:
    """Change `neighbours` until every row of `nodes` is reached from the row `start`.

    A row that is not reached gets a link from the nearest row that has a slot to spare.
    """
    address, stride, queue = address_of(codes), codes.shape[1], np.empty(len(neighbours), np.int64)
    signed, parents = np.ones(2 * stride, np.int8), np.full(len(neighbours), -1, np.int64)
    kernels().reach(neighbours, start, parents, queue)
    for row in nodes[parents[nodes] < 0].tolist():
        if parents[row] < 0:
            kernels().link_to(address, stride, squares, neighbours, parents, row, signed)
            kernels().reach(neighbours, row, parents, queue)


def rows_reached(neighbours: NDArray[np.uint32], start: int) -> NDArray[np.bool_]:
    """Bool [n]: the rows that links lead to from `start`."""
    parents = np.full(len(neighbours), -1, np.int64)
    kernels().reach(neighbours, start, parents, np.empty(len(neighbours), np.int64))
    return parents >= 0


def rows_that_reach(neighbours: NDArray[np.uint32], target: int) -> NDArray[np.bool_]:
    """Bool [n]: the rows from which links lead to `target`."""
    n, width = neighbours.shape
    rows, sources = np.empty(n, np.int64), np.empty(n * width, np.uint32)
    starts = np.empty(n + 1, np.int64)
    found = kernels().reverse(neighbours, np.arange(n), np.zeros(n, np.int64), rows, starts, sources)
    ranges = {row: slice(starts[i], starts[i + 1]) for i, row in enumerate(rows[:found].tolist())}
    reached = np.zeros(n, np.bool_)
    reached[target] = True
    front = [target]
    while front:
        behind = [sources[ranges[row]] for row in front if row in ranges]
        candidates = np.unique(np.concatenate(behind)) if behind else np.zeros(0, np.uint32)
        front = candidates[~reached[candidates]].tolist()
        reached[front] = True
    return reached


def address_of(array: NDArray[Any]) -> int:
    """Where an array's memory begins, as kernels take it."""
    address: int = array.__array_interface__["data"][0]
    return address
