"""Links of a graph: alpha-pruned lists, reverse links, and what is reachable. For builds, not for queries.

Distances are squared lengths between stored codes: |a|^2 + |b|^2 - 2ab. Each call works on a range of rows and
writes only their lists, so ranges run on several threads and the outcome does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dot import dot_codes, load_byte, load_float, prefetch
from .jit import device, kernel

EMPTY = 0xFFFFFFFF


@device
def load_query(codes: Any, row: Any, stride: Any, signed: Any) -> Any:
    """Write a stored row's code as int8 to `signed`; gives 128 x its sum and its scale."""
    total, start = np.int64(0), codes + row * stride
    for i in range(stride - 4):
        number = np.int64(load_byte(start + i)) - 128
        signed[i] = np.int8(number)
        total += number
    for i in range(stride - 4, stride):
        signed[i] = np.int8(0)
    return 128 * total, load_float(start + stride - 4)


@device
def distance(
    codes: Any, stride: Any, norms: Any, row: Any, other: Any, signed: Any, bias: Any, scale: Any
) -> Any:
    """Squared distance of two rows, the first of which was loaded by load_query."""
    address = codes + other * stride
    dot = np.float32(dot_codes(address, signed, stride) - bias) * (load_float(address + stride - 4) * scale)
    return max(norms[row] + norms[other] - 2 * dot, np.float32(0))


@kernel("void(int64, int64, int64, int64, int8[::1], float32[::1])")
def measure(codes: Any, stride: Any, start: Any, stop: Any, signed: Any, norms: Any) -> None:
    """Squared length of each code row in [start, stop)."""
    for row in range(start, stop):
        bias, scale = load_query(codes, row, stride, signed)
        dot = np.float32(dot_codes(codes + row * stride, signed.ctypes.data, stride) - bias)
        norms[row] = dot * scale * scale


@device
def keep_near(near: Any, distances: Any, count: Any, limit: Any, other: Any, far: Any) -> Any:
    """Insert into candidates sorted by (distance, row); gives the new count."""
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
    codes: Any, stride: Any, norms: Any, near: Any, distances: Any, count: Any, alpha: Any, width: Any, fill: Any,
    signed: Any, chosen: Any,
) -> Any:  # fmt: skip
    """Choose links among candidates sorted by distance; gives how many stand in chosen.

    A candidate is passed over when a chosen one is nearer to it, by the factor alpha, than the row itself is
    (Subramanya et al., DiskANN, 2019). Up to `fill` slots are then filled with the nearest of those passed over.
    """
    kept = 0
    for i in range(count):
        if kept == width:
            return kept
        bias, scale = load_query(codes, near[i], stride, signed)
        good = True
        for j in range(kept):
            between = distance(codes, stride, norms, near[i], chosen[j], signed.ctypes.data, bias, scale)
            if alpha * between <= distances[i]:
                good = False
                break
        if good:
            chosen[kept] = near[i]
            kept += 1
            near[i] = -1
    for i in range(count):
        if kept >= fill:
            break
        if near[i] >= 0:
            chosen[kept] = near[i]
            kept += 1
    return kept


@kernel(
    "void(int64, int64, float32[::1], uint32[:,::1], int64[::1], uint32[::1], uint32[:,::1], int64, int64,"
    " int64, float32, int64, boolean)"
)
def refine(
    codes: Any, stride: Any, norms: Any, lists: Any, offers: Any, offered: Any, out: Any, start: Any, stop: Any,
    candidates: Any, alpha: Any, fill: Any, two_hops: Any,
) -> None:  # fmt: skip
    """Choose the links of rows [start, stop) anew, among their present ones and what is offered to them.

    lists: uint32 [n, any], present links; offers: int64 [n + 1], where in offered: uint32 each row's offers
    begin; out: uint32 [n, width]. With two_hops the neighbours' neighbours are candidates too.
    """
    n, width = lists.shape[0], out.shape[1]
    own, signed = np.zeros(stride, np.int8), np.zeros(stride, np.int8)
    near, distances = np.empty(candidates + width, np.int64), np.empty(candidates + width, np.float32)
    chosen, marks, pending = np.empty(width, np.int64), np.zeros(n, np.uint8), np.empty(n, np.int64)
    for row in range(start, stop):
        bias, scale = load_query(codes, row, stride, own)
        marks[row] = 1
        waiting = 0
        for other in lists[row]:
            if other < n and marks[other] == 0:
                marks[other] = 1
                pending[waiting] = other
                waiting += 1
        for i in range(offers[row], offers[row + 1]):
            other = offered[i]
            if other < n and marks[other] == 0:
                marks[other] = 1
                pending[waiting] = other
                waiting += 1
        direct = waiting
        if two_hops:
            for i in range(direct):
                for other in lists[pending[i]]:
                    if other < n and marks[other] == 0:
                        marks[other] = 1
                        pending[waiting] = other
                        waiting += 1
        count = 0
        for i in range(waiting - 1, -1, -1):
            if i >= 4:
                prefetch(codes + pending[i - 4] * stride, stride)
            other = pending[i]
            limit = candidates if i >= direct else near.size  # long links stay candidates in a dense spot
            marks[other] = 0
            if load_float(codes + other * stride + stride - 4) > 0:
                far = distance(codes, stride, norms, row, other, own.ctypes.data, bias, scale)
                count = keep_near(near, distances, count, limit, other, far)
        marks[row] = 0
        kept = prune(codes, stride, norms, near, distances, count, alpha, width, fill, signed, chosen)
        for i in range(width):
            out[row, i] = chosen[i] if i < kept else EMPTY


@kernel("void(uint32[:,::1], int64[::1], uint32[::1])")
def reverse(lists: Any, offers: Any, offered: Any) -> None:
    """Every link the other way round: offers int64 [n + 1], offered uint32 [links], by target, then by source."""
    n, width = lists.shape
    offers[:] = 0
    for row in range(n):
        for j in range(width):
            if lists[row, j] < n:
                offers[lists[row, j] + 1] += 1
    for row in range(n):
        offers[row + 1] += offers[row]
    for row in range(n):
        for j in range(width):
            other = lists[row, j]
            if other < n:
                offered[offers[other]] = row
                offers[other] += 1
    for row in range(n, 0, -1):
        offers[row] = offers[row - 1]
    offers[0] = 0


@kernel("int64(uint32[:,::1], int64, int64[::1], int64[::1])")
def reach(lists: Any, start: Any, parents: Any, queue: Any) -> Any:
    """Mark all that is reachable from a row; gives how many are newly reached.

    parents: int64 [n], -1 where not yet reached; receives the slot (row x width + column) of the link through
    which each row was reached, for `start` what stands there already, or n x width.
    """
    n, width = lists.shape
    if parents[start] < 0:
        parents[start] = n * width
    queue[0] = start
    taken, filled = 0, 1
    while taken < filled:
        row = queue[taken]
        taken += 1
        for j in range(width):
            other = lists[row, j]
            if other < n and parents[other] < 0:
                parents[other] = row * width + j
                queue[filled] = other
                filled += 1
    return filled


@device
def free_slot(lists: Any, parents: Any, row: Any) -> Any:
    """The last slot of a row that is empty or not the only known way to its target; -1 if there is none."""
    n, width = lists.shape
    for j in range(width - 1, -1, -1):
        other = lists[row, j]
        if other >= n or parents[other] != row * width + j:
            return j
    return -1


@kernel("int64(int64, int64, float32[::1], uint32[:,::1], int64[::1], int64, int8[::1])")
def link_to(codes: Any, stride: Any, norms: Any, lists: Any, parents: Any, row: Any, signed: Any) -> Any:
    """Link an unreached row from the nearest reached one that can spare a slot; gives that row.

    Its own neighbours are tried first, then all rows. A reached row with a spare slot always exists, as there
    are fewer needed links than rows.
    """
    n, width = lists.shape
    bias, scale = load_query(codes, row, stride, signed)
    best: Any = np.int64(-1)
    nearest = np.float32(np.inf)
    for j in range(width):
        other = np.int64(lists[row, j])
        if other < n and parents[other] >= 0 and free_slot(lists, parents, other) >= 0:
            far = distance(codes, stride, norms, row, other, signed.ctypes.data, bias, scale)
            if far < nearest:
                best, nearest = other, far
    if best < 0:
        for other in range(n):
            if parents[other] >= 0:
                far = distance(codes, stride, norms, row, other, signed.ctypes.data, bias, scale)
                if far < nearest and free_slot(lists, parents, other) >= 0:
                    best, nearest = other, far
    place = free_slot(lists, parents, best)
    lists[best, place] = row
    parents[row] = best * width + place
    return best
