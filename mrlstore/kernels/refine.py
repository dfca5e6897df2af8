"""Links of a graph: alpha-pruned lists, reverse links, and what is reachable. For builds, not for queries.

Distances are squared, between stored codes: |a|^2 + |b|^2 - 2ab. Each call works on a range of rows and
writes only their lists, so ranges run on several threads and the outcome does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlstore.kernels import group_table as t

from .dot import dot_codes, load_byte, load_float, load_long, prefetch, sign_codes
from .jit import device, kernel
from .topk import packed_row, packed_score
from .walk import TOGETHER, walk

EMPTY = 0xFFFFFFFF
ROUNDS, RELAX = 3, np.float32(1.2)  # how often candidates are asked, and by how much alpha grows each time


@device
def load_query(codes: Any, row: Any, stride: Any, signed: Any) -> Any:
    """Write a stored row's code as int8 to `signed`; gives 128 x its sum and its scale.

    signed: int8 [2 x stride], the second half all ones.
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
    codes: Any, stride: Any, norms: Any, row: Any, other: Any, signed: Any, bias: Any, scale: Any
) -> Any:
    """Squared distance of two rows, the first of which was loaded by load_query."""
    address = codes + other * stride
    dot = np.float32(dot_codes(address, signed, stride) - bias) * (load_float(address) * scale)
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
    codes: Any, stride: Any, norms: Any, near: Any, distances: Any, count: Any, alpha: Any, width: Any,
    fill: Any, signed: Any, chosen: Any,
) -> Any:  # fmt: skip
    """Choose links among candidates sorted by distance; gives how many stand in chosen.

    A candidate is passed over when a chosen one is nearer to it, by the factor alpha, than the row itself is
    (Subramanya et al., DiskANN, 2019). While fewer than `fill` are chosen, the others are asked again with a
    larger alpha.
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
                between = distance(codes, stride, norms, near[i], chosen[j], signed.ctypes.data, bias, scale)
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
    " float32, int64, uint8[::1], int64[::1], int8[::1], int8[::1])"
)
def refine(
    codes: Any, stride: Any, norms: Any, lists: Any, rows: Any, offers: Any, offered: Any,
    start: Any, stop: Any, alpha: Any, fill: Any, marks: Any, pending: Any, own: Any, signed: Any,
) -> None:  # fmt: skip
    """Offer links to rows[start:stop]: append while there is room, else choose anew among old and offered.

    lists: uint32 [n, width], changed in place; rows: int64, distinct; offers: int64 [len(rows) + 1], where
    in offered: uint32 the offers to each begin. marks: uint8 [n], all zero; pending: int64, room for all.
    """
    n, width = lists.shape
    chosen = np.empty(width, np.int64)
    for i in range(start, stop):
        row = rows[i]
        marks[row] = 1
        waiting = 0
        for j in range(width):
            other = np.int64(lists[row, j])
            if other < n and marks[other] == 0:
                marks[other] = 1
                pending[waiting] = other
                waiting += 1
        for j in range(offers[i], offers[i + 1]):
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
            near, distances = np.empty(waiting, np.int64), np.empty(waiting, np.float32)
            bias, scale = load_query(codes, row, stride, own)
            count = 0
            for j in range(waiting):
                if j + 4 < waiting:
                    prefetch(codes + pending[j + 4] * stride, stride)
                far = distance(codes, stride, norms, row, pending[j], own.ctypes.data, bias, scale)
                count = keep_near(near, distances, count, waiting, pending[j], far)
            kept = prune(codes, stride, norms, near, distances, count, alpha, width, fill, signed, chosen)
        for j in range(width):
            lists[row, j] = chosen[j] if j < kept else EMPTY


@device
def measured(norms: Any, row: Any, entry: Any) -> Any:
    """An entry of a beam as (row, squared distance from `row`)."""
    other = packed_row(entry)
    return other, max(norms[row] + norms[other] - 2 * packed_score(entry), np.float32(0))


@kernel(
    "void(int64[::1], float32[::1], uint32[:,::1], int64[::1], int64, int64, int64, float32, int64,"
    " int64[::1], uint8[::1], int32[::1], int64[::1], int8[::1], int8[::1])"
)
def insert_rows(
    table: Any, norms: Any, lists: Any, rows: Any, start: Any, stop: Any, ef: Any, alpha: Any, fill: Any,
    beam: Any, marks: Any, seen: Any, pending: Any, own: Any, signed: Any,
) -> None:  # fmt: skip
    """Find each of rows[start:stop] its links: walk the graph as it stands, choose among the beam.

    All that it expanded on its way are candidates, which gives the graph its long links. Only the new
    rows' own lists are written, and nothing leads to them yet, so ranges run side by side.
    """
    codes, stride, width = table[t.CODES], table[t.STRIDE], lists.shape[1]
    near, distances = np.empty(2 * ef, np.int64), np.empty(2 * ef, np.float32)
    chosen, trace = np.empty(width, np.int64), np.empty(2 * ef, np.int64)
    scores = np.empty(TOGETHER * width, np.float32)
    for i in range(start, stop):
        row = rows[i]
        bias, scale = load_query(codes, row, stride, own)
        size, _, steps, _ = walk(
            table, own.ctypes.data, scale, bias, ef, ef, 1, np.float32(0),
            beam, marks, seen, pending, scores, trace,
        )  # fmt: skip
        count = 0
        for j in range(size):
            count = keep_near(near, distances, count, near.size, *measured(norms, row, beam[j]))
        for j in range(min(steps, trace.size)):
            if trace[j] < (beam[size - 1] | 1):  # what the beam still holds is there already
                count = keep_near(near, distances, count, near.size, *measured(norms, row, trace[j]))
        kept = prune(codes, stride, norms, near, distances, count, alpha, width, fill, signed, chosen)
        for j in range(width):
            lists[row, j] = chosen[j] if j < kept else EMPTY


@kernel("int64(uint32[:,::1], int64[::1], int64[::1], int64[::1], int64[::1], uint32[::1])")
def reverse(lists: Any, sources: Any, counts: Any, targets: Any, offers: Any, offered: Any) -> Any:
    """The links of `sources` the other way round; gives how many targets there are.

    counts: int64 [n], all zero, and left so; targets: int64, as they are first mentioned; their offers begin
    at offers: int64 [targets + 1] in offered: uint32 [links], in the order of the sources.
    """
    n, width = lists.shape
    found = 0
    for row in sources:
        for j in range(width):
            other = np.int64(lists[row, j])
            if other < n:
                if counts[other] == 0:
                    targets[found] = other
                    found += 1
                counts[other] += 1
    offers[0] = 0
    for i in range(found):
        size = counts[targets[i]]
        counts[targets[i]] = offers[i]
        offers[i + 1] = offers[i] + size
    for row in sources:
        for j in range(width):
            other = np.int64(lists[row, j])
            if other < n:
                offered[counts[other]] = row
                counts[other] += 1
    for i in range(found):
        counts[targets[i]] = 0
    return found


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
        for i in range(n):
            if parents[i] >= 0:
                far = distance(codes, stride, norms, row, i, signed.ctypes.data, bias, scale)
                if far < nearest and free_slot(lists, parents, i) >= 0:
                    best, nearest = i, far
    place = free_slot(lists, parents, best)
    lists[best, place] = row
    parents[row] = best * width + place
    return best


@kernel("int64(int64, int64, uint32[:,::1], int64[::1], int64[::1], int64[::1])")
def join_equals(codes: Any, stride: Any, lists: Any, parents: Any, rows: Any, hashes: Any) -> Any:
    """Link rows of equal codes in rings, so that a walk that finds one finds all; gives the links made.

    rows: int64, sorted by hashes: int64, equal ones by row. Reachability is to be proved again afterwards.
    """
    n, width = lists.shape
    made, first = 0, 0
    for i in range(rows.size):
        if hashes[i] != hashes[first]:
            first = i
        last = i + 1 == rows.size or hashes[i + 1] != hashes[i]
        row, following = rows[i], rows[first] if last else rows[i + 1]
        if row == following or not same(codes, stride, row, following):
            continue
        place, known = free_slot(lists, parents, row), False
        for j in range(width):
            other = np.int64(lists[row, j])
            known |= other == following
            if place < 0 and other < n and same(codes, stride, row, other):
                place = j  # a needed link, but along the ring it leads there too
        if place >= 0 and not known:
            lists[row, place] = following
            made += 1
    return made


@device
def same(codes: Any, stride: Any, row: Any, other: Any) -> Any:
    """Whether two rows have the same code, byte for byte."""
    for i in range(0, stride, 8):
        if load_long(codes + row * stride + i) != load_long(codes + other * stride + i):
            return False
    return True
