"""Chooses the links of a graph: pruned neighbour lists and links back. For builds, not for queries.

Distances are squared, between stored codes: |a|^2 + |b|^2 - 2ab. Each call works on a range of rows and
writes only their lists, so ranges run on several threads and the outcome does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .convert import sign_codes
from .dot import dot_codes
from .group_table import CODES, EMPTY, STRIDE
from .jit import device, kernel
from .memory import load_byte, load_float, prefetch
from .topk import packed_row, packed_score
from .walk import walk

ROUNDS = 3  # how often candidates are tried
RELAX = np.float32(1.2)  # the factor by which alpha grows each time


@device
def load_query(codes: Any, row: Any, stride: Any, signed: Any) -> Any:
    """Write a stored row's code as int8 to `signed`; gives (128 x the sum of its numbers, its scale).

    codes: address of uint8 [n, stride]; signed: int8 [2 x stride], the second half all ones.
    """
    start = codes + row * stride
    sign_codes(start, stride, signed.ctypes.data)
    signed[:4] = 0  # the scale
    raw = np.int64(dot_codes(start, signed.ctypes.data + stride, stride)) - 128 * (stride - 4)
    for i in range(4):
        raw -= np.int64(load_byte(start + i))
    return 128 * raw, load_float(start)


@device
def distance(
    codes: Any, stride: Any, squares: Any, row: Any, other: Any, signed: Any, bias: Any, scale: Any
) -> Any:
    """The squared distance, float32, between row `row`, which load_query has written, and row `other`.

    codes: address of uint8 [n, stride]; squares: float32 [n], squared lengths; signed: address of int8
    [stride].
    """
    address = codes + other * stride
    dot = np.float32(dot_codes(address, signed, stride) - bias) * (load_float(address) * scale)
    return max(squares[row] + squares[other] - 2 * dot, np.float32(0))


@kernel("void(int64, int64, int64, int64, int8[::1], float32[::1])")
def square_lengths(codes: Any, stride: Any, start: Any, stop: Any, signed: Any, squares: Any) -> None:
    """Write the squared lengths of the code rows [start, stop) to squares: float32 [n].

    codes: address of uint8 [n, stride]; signed: int8 [2 x stride], the second half all ones.
    """
    for row in range(start, stop):
        bias, scale = load_query(codes, row, stride, signed)
        dot = np.float32(dot_codes(codes + row * stride, signed.ctypes.data, stride) - bias)
        squares[row] = dot * scale * scale


@device
def keep_near(near: Any, distances: Any, count: Any, limit: Any, other: Any, far: Any) -> Any:
    """Insert a row at distance `far` into candidates sorted by (distance, row); gives the new count.

    near: int64 [limit] and distances: float32 [limit].
    """
    if count == limit and not far < distances[count - 1]:
        return count
    at = min(count, limit - 1)
    while at > 0 and (distances[at - 1] > far or (distances[at - 1] == far and near[at - 1] > other)):
        near[at], distances[at] = near[at - 1], distances[at - 1]
        at -= 1
    near[at], distances[at] = other, far
    return min(count + 1, limit)


@device
def prune(
    codes: Any, stride: Any, squares: Any, near: Any, distances: Any, count: Any, alpha: Any, width: Any,
    fill: Any, signed: Any, chosen: Any,
) -> Any:  # fmt: skip
    """Choose links among candidates; gives how many were written to chosen: int64 [width].

    near: int64 and distances: float32 [count], sorted by distance; near is overwritten. A candidate is passed
    over when a chosen one is nearer to it, by the factor alpha, than the row itself is (Subramanya et al.,
    DiskANN, 2019). While fewer than `fill` are chosen, the others are tried again with a larger alpha.
    """
    kept, enough = 0, width
    for _ in range(ROUNDS):
        for i in range(count):
            if kept >= enough:
                return kept
            if near[i] < 0:
                continue
            bias, scale = load_query(codes, near[i], stride, signed)
            good = True
            for j in range(kept):
                between = distance(
                    codes, stride, squares, near[i], chosen[j], signed.ctypes.data, bias, scale
                )
                if alpha * between <= distances[i]:
                    good = False
                    break
            if good:
                chosen[kept] = near[i]
                kept += 1
                near[i] = -1
        alpha *= RELAX
        enough = fill
    return kept


@kernel(
    "void(int64, int64, float32[::1], uint32[:,::1], int64[::1], int64[::1], uint32[::1], int64, int64,"
    " float32, int64, uint8[::1], int64[::1], int8[::1], int8[::1], int64[::1], float32[::1], int64[::1])"
)
def refine(
    codes: Any, stride: Any, squares: Any, neighbours: Any, rows: Any, starts: Any, offered: Any,
    start: Any, stop: Any, alpha: Any, fill: Any, marks: Any, pending: Any, own: Any, signed: Any, near: Any,
    distances: Any, chosen: Any,
) -> None:  # fmt: skip
    """Offer links to rows[start:stop]: appended while slots are free, else chosen anew among old and offered.

    codes: address of uint8 [n, stride]; neighbours: uint32 [n, width], changed in place; rows: int64,
    distinct; offered: uint32, and starts: int64 [len(rows) + 1], where the starts to each row begin in it;
    marks: uint8 [n], all zero; pending: int64 [>= width + the most starts to a row]; own, signed: int8 [2 x
    stride], the second half all ones; near: int64 and distances: float32, of the length of pending; chosen:
    int64 [width].
    """
    n, width = neighbours.shape
    for i in range(start, stop):
        row = rows[i]
        marks[row] = 1
        waiting = 0
        for j in range(width):
            other = np.int64(neighbours[row, j])
            if other < n and marks[other] == 0:
                marks[other] = 1
                pending[waiting] = other
                waiting += 1
        for j in range(starts[i], starts[i + 1]):
            other = np.int64(offered[j])
            if other < n and marks[other] == 0:
                marks[other] = 1
                pending[waiting] = other
                waiting += 1
        for j in range(waiting):
            marks[pending[j]] = 0
        marks[row] = 0
        if waiting <= width:
            kept = waiting
            for j in range(kept):
                chosen[j] = pending[j]
        else:
            bias, scale = load_query(codes, row, stride, own)
            count = 0
            for j in range(waiting):
                if j + 4 < waiting:
                    prefetch(codes + pending[j + 4] * stride, stride)
                far = distance(codes, stride, squares, row, pending[j], own.ctypes.data, bias, scale)
                count = keep_near(near, distances, count, waiting, pending[j], far)
            kept = prune(codes, stride, squares, near, distances, count, alpha, width, fill, signed, chosen)
        for j in range(width):
            neighbours[row, j] = chosen[j] if j < kept else EMPTY


@device
def with_distance(squares: Any, row: Any, entry: Any) -> Any:
    """A packed entry of a beam as (row, squared distance from `row`)."""
    other = packed_row(entry)
    return other, max(squares[row] + squares[other] - 2 * packed_score(entry), np.float32(0))


@kernel(
    "void(int64[::1], float32[::1], uint32[:,::1], int64[::1], int64, int64, int64, float32, int64,"
    " int64[::1], uint8[::1], int32[::1], int64[::1], int8[::1], int8[::1], int64[::1], float32[::1],"
    " int64[::1], int64[::1], float32[::1])"
)
def insert_rows(
    table: Any, squares: Any, neighbours: Any, rows: Any, start: Any, stop: Any, ef: Any, alpha: Any,
    fill: Any, beam: Any, marks: Any, seen: Any, pending: Any, own: Any, signed: Any, near: Any,
    distances: Any, chosen: Any, trace: Any, scores: Any,
) -> None:  # fmt: skip
    """Write the neighbours of rows[start:stop]: walk the graph as it stands, choose among the beam.

    All nodes that a walk expanded are candidates too, which gives the graph its long-range links. Only the
    neighbours of these rows are written, and no link leads to them yet, so that ranges run side by side.

    neighbours: uint32 [n, width]; squares: float32 [n]; rows: int64; beam: int64 [ef + 16]; pending: int64
    and scores: float32 [>= EXPANDED_AT_ONCE x width]; own, signed: int8 [2 x stride], the second half all
    ones; near, trace: int64 and distances: float32 [>= 2 x ef]; chosen: int64 [width].
    """
    codes, stride, width, most = table[CODES], table[STRIDE], neighbours.shape[1], 2 * ef
    trace = trace[:most]
    for i in range(start, stop):
        row = rows[i]
        bias, scale = load_query(codes, row, stride, own)
        size, _, steps, _, _ = walk(
            table, own.ctypes.data, scale, bias, ef, ef, 1, np.float32(0),
            beam, marks, seen, pending, scores, trace, beam[:0], 0, 0,
        )  # fmt: skip
        count = 0
        for j in range(size):
            count = keep_near(near, distances, count, most, *with_distance(squares, row, beam[j]))
        for j in range(min(steps, trace.size)):
            if trace[j] < (beam[size - 1] | 1):  # what the beam still holds is there already
                count = keep_near(near, distances, count, most, *with_distance(squares, row, trace[j]))
        kept = prune(codes, stride, squares, near, distances, count, alpha, width, fill, signed, chosen)
        for j in range(width):
            neighbours[row, j] = chosen[j] if j < kept else EMPTY
