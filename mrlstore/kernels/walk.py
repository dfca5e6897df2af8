"""Walks the graph of a group over its codes, from the nearest entries towards the query."""

from __future__ import annotations

from typing import Any

import numpy as np

from .encode import NO_PREFIX, of_four, score_four
from .group_steps import LEAST_RANK
from .group_table import CODES, ENTRIES, ENTRY_CODES, ENTRY_COUNT, NEIGHBOURS, ROWS, STRIDE, WIDTH
from .jit import device
from .memory import load_byte, load_row, prefetch_far
from .scan import score_pending
from .topk import clear, insert, pack, packed_row, packed_score

SEEDS = 4  # entries that a walk starts from
# Of several groups one may end by the k-th best of all, once it holds so many rows nearer than where it ends:
# fewer, and a walk would end on its way down to the query's neighbours.
NEAR_RANK = 3
EXPANDED_AT_ONCE = 2  # nodes that are expanded before their neighbours are scored
# Distances below 0.2 count as 0.2 in an adaptive walk: the error of int8 codes dominates there.
LEAST_DISTANCE = np.float32(0.2)


@device
def gather(
    table: Any, row: Any, allowed: Any, marks: Any, seen: Any, count: Any, pending: Any, waiting: Any
) -> Any:
    """Append the unseen neighbours of one node to pending; gives (rows seen, rows pending).

    row: the node; allowed: 0, or neighbours that are not allowed are left out. count, waiting: rows seen and
    pending so far. Their codes are prefetched. Every row number is compared with n: links of a damaged list
    are skipped.
    """
    n, width, stride = np.uint64(table[ROWS]), table[WIDTH], table[STRIDE]
    start = table[NEIGHBOURS] + row * width * 4
    for j in range(width):
        other = np.int64(load_row(start + 4 * j))
        if np.uint64(other) >= n or marks[other] != 0:
            continue
        if allowed != 0 and load_byte(allowed + other) == 0:
            continue
        marks[other] = 1
        seen[count] = other
        count += 1
        pending[waiting] = other
        waiting += 1
        prefetch_far(table[CODES] + other * stride, stride)
    return count, waiting


@device
def start_walk(
    table: Any, code: Any, scale: Any, bias: Any, limit: Any, beam: Any, marks: Any, seen: Any
) -> Any:
    """Put the best `limit` entries into the empty beam and mark them; gives (its size, codes scored)."""
    n, size = table[ROWS], 0
    last = table[ENTRY_COUNT] - 1
    for i in range(0, last + 1, 4):
        four = score_entries(table, code, scale, bias, i)
        for j in range(min(4, last + 1 - i)):
            row = np.int64(load_row(table[ENTRIES] + 4 * (i + j)))
            if (
                np.uint64(row) < np.uint64(n)
                and of_four(four, j) > NO_PREFIX
                and insert(beam, size, limit, pack(of_four(four, j), row)) < limit
            ):
                size = min(size + 1, limit)
    count = 0
    for i in range(size):
        row = packed_row(beam[i])
        if marks[row] == 0:
            marks[row] = 1
            seen[count] = row
            beam[count] = beam[i]
            count += 1
    clear(beam, count, size)
    return count, last + 1


@device
def score_entries(table: Any, code: Any, scale: Any, bias: Any, i: Any) -> Any:
    """Scores of the entries i to i + 3, four float32; behind the last entry that of the last."""
    start, stride, last = table[ENTRY_CODES], table[STRIDE], table[ENTRY_COUNT] - 1
    return score_four(
        table,
        start + i * stride,
        start + min(i + 1, last) * stride,
        start + min(i + 2, last) * stride,
        start + min(i + 3, last) * stride,
        stride, code, scale, bias,
    )  # fmt: skip


@device
def edge_score(entry: Any, beam_ratio: Any) -> Any:
    """The score, float32, below which an adaptive walk ends whose k-th best is this packed entry.

    Distances, 1 - score, below LEAST_DISTANCE count as that.
    """
    nearest = packed_score(entry)
    return nearest - beam_ratio * max(np.float32(1) - nearest, LEAST_DISTANCE)


@device
def edge_of_all(joint: Any, joint_size: Any, own: Any, own_size: Any, last: Any, beam_ratio: Any) -> Any:
    """As edge_score, of the k-th best (position `last`) of all groups that were walked so far.

    joint: int64, the best of all groups; own: int64, those of this one, where at least the NEAR_RANK-th best
    has to be nearer. NO_PREFIX while there are too few.
    """
    if joint_size <= last or own_size < NEAR_RANK:
        return np.float32(NO_PREFIX)
    return min(edge_score(joint[last], beam_ratio), edge_score(own[NEAR_RANK - 1], beam_ratio))


@device
def join(joint: Any, size: Any, score: Any, place: Any) -> Any:
    """Put a row into the best of all groups: int64 [limit + 16], packed entries, see topk; gives its size."""
    limit = joint.size - 16
    if insert(joint, size, limit, pack(score, place)) < limit:
        size = min(size + 1, limit)
    return size


@device
def keep(table: Any, beam: Any, size: Any, ef: Any, entry: Any, cursor: Any) -> Any:
    """Put an entry into the beam of a walk; gives (the beam's size, the position of the next node to expand).

    The neighbour list of a new best node is prefetched.
    """
    place = insert(beam, size, ef, entry)
    if place < ef:
        size = min(size + 1, ef)
        if place <= cursor:
            cursor = place
            list_bytes = table[WIDTH] * 4
            prefetch_far(table[NEIGHBOURS] + packed_row(entry) * list_bytes, list_bytes)
    return size, cursor


@device
def prefetch_next(table: Any, beam: Any, cursor: Any, size: Any) -> None:
    """Prefetch the neighbour lists of the nodes that are likely to be expanded next."""
    list_bytes = table[WIDTH] * 4
    for _ in range(EXPANDED_AT_ONCE):
        if cursor < size:
            prefetch_far(table[NEIGHBOURS] + packed_row(beam[cursor]) * list_bytes, list_bytes)
            cursor = next_node(beam, cursor, size)


@device
def next_node(beam: Any, cursor: Any, size: Any) -> Any:
    """The position of the next entry behind `cursor` that was not expanded; size if there is none."""
    cursor += 1
    while cursor < size and beam[cursor] & 1:
        cursor += 1
    return cursor


@device
def walk(
    table: Any, code: Any, scale: Any, bias: Any, ef: Any, shortlist: Any, k: Any, beam_ratio: Any,
    beam: Any, marks: Any, seen: Any, pending: Any, scores: Any, trace: Any, joint: Any, joint_size: Any,
    first: Any,
) -> Any:  # fmt: skip
    """Fill the beam with the best rows that a walk from the entries finds.

    Gives (beam size, codes scored, nodes expanded, whether it ran out of nodes, joint size). Best first over
    a sorted beam: the best nodes that were not expanded yet are expanded, EXPANDED_AT_ONCE at a time, so that
    more of their neighbours' codes are on their way from memory while others are scored. The walk ends when
    all are expanded. With a beam_ratio above 0 it ends earlier, at a node whose distance, 1 - score, is more
    than 1 + beam_ratio times that of the k-th best (adaptive beam search, Al-Jazzazi et al., 2025); the beam
    then holds the best `shortlist` rows, and others nearer than that distance.

    beam: int64 [>= ef + 16], the lowest bit of an entry says expanded; pending: int64 and scores: float32
    [>= EXPANDED_AT_ONCE x width]; trace: int64, receives the expanded entries, as many as it holds.
    joint: empty, or the best rows of all groups, see join: this one's are put there too, row i as first + i,
    and the walk ends by the k-th best of all, see edge_of_all. The beam is then only what is to be expanded,
    a node at a time: such walks are short, and the second best node is often not worth its neighbours.
    """
    size, visited = start_walk(table, code, scale, bias, min(ef, SEEDS), beam, marks, seen)
    count, cursor, steps = size, 0, 0
    last, several, at_once = max(k, LEAST_RANK) - 1, joint.size > 0, EXPANDED_AT_ONCE
    if several:
        at_once = 1
        for i in range(size):
            joint_size = join(joint, joint_size, packed_score(beam[i]), first + packed_row(beam[i]))
    while cursor < size:
        edge = np.float32(NO_PREFIX)
        if beam_ratio > 0:
            if several:
                edge = edge_of_all(joint, joint_size, beam, size, last, beam_ratio)
            elif size > last:
                edge = edge_score(beam[last], beam_ratio)
            if packed_score(beam[cursor]) < edge:
                break
        waiting = 0
        for _ in range(at_once):
            row = packed_row(beam[cursor])
            beam[cursor] |= 1
            if steps < trace.size:
                trace[steps] = beam[cursor]
            steps += 1
            count, waiting = gather(table, row, 0, marks, seen, count, pending, waiting)
            cursor = next_node(beam, cursor, size)
            if cursor == size:
                break
        prefetch_next(table, beam, cursor, size)
        score_pending(table, code, table[STRIDE], scale, bias, pending, waiting, scores)
        for j in range(waiting):
            if not scores[j] > NO_PREFIX:
                continue
            if several:
                joint_size = join(joint, joint_size, scores[j], first + pending[j])
            if scores[j] < edge and (
                several or (size >= shortlist and pack(scores[j], 0) < beam[shortlist - 1])
            ):
                continue
            size, cursor = keep(table, beam, size, ef, pack(scores[j], pending[j]), cursor)
        visited += waiting
        while cursor < size and beam[cursor] & 1:
            cursor += 1
    for i in range(count):
        marks[seen[i]] = 0
    return size, visited, steps, cursor >= size, joint_size
