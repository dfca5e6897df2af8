"""Walks the graph of a group under a filter (docs/decisions/0011-walks-under-a-filter.md)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import nonzero_bytes
from .encode import NO_PREFIX, of_four
from .group_steps import LEAST_RANK
from .group_table import CODES, ENTRY_COUNT, ROWS, STRIDE
from .jit import device
from .memory import load_byte, prefetch_far
from .scan import score_pending
from .topk import insert, pack, packed_row, packed_score
from .walk import (
    EXPANDED_AT_ONCE,
    SEEDS,
    edge_of_all,
    edge_score,
    gather,
    join,
    keep,
    next_node,
    prefetch_next,
    score_entries,
    start_walk,
)

SAMPLE = 64  # allowed rows whose best SEEDS a filtered walk starts from, besides the entries


@device
def sample_allowed(table: Any, allowed: Any, marks: Any, pending: Any) -> Any:
    """Put the first allowed row of each of SAMPLE or more equal runs of the group into pending; their number.

    pending: int64 [>= 2 x SAMPLE]. Marked rows are left out. Their codes are prefetched.
    """
    n, stride, waiting = table[ROWS], table[STRIDE], 0
    step = max(n // SAMPLE, 1)
    for start in range(0, n, step):
        at, stop = start, min(start + step, n)
        while at + 64 <= stop and nonzero_bytes(allowed + at) == 0:
            at += 64
        while at < stop and load_byte(allowed + at) == 0:
            at += 1
        if at < stop and marks[at] == 0:
            pending[waiting] = at
            waiting += 1
            prefetch_far(table[CODES] + at * stride, stride)
    return waiting


@device
def start_filtered(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, shortlist: Any,
    beam: Any, found: Any, marks: Any, seen: Any, pending: Any, scores: Any,
) -> Any:  # fmt: skip
    """Put the best entries and the best sampled allowed rows into the beam, the allowed ones into found.

    Where no row near an entry is allowed, only the sample leads to those that are. Gives (beam size, found
    size, rows marked, codes scored, score of the last of SEEDS entries).
    """
    size, visited = start_walk(table, code, scale, bias, min(ef, SEEDS), beam, marks, seen)
    waiting = sample_allowed(table, allowed, marks, pending)
    score_pending(table, code, table[STRIDE], scale, bias, pending, waiting, scores)
    kept, limit = 0, min(shortlist, SEEDS)
    for j in range(waiting):
        if scores[j] > NO_PREFIX and insert(found, kept, limit, pack(scores[j], pending[j])) < limit:
            kept = min(kept + 1, limit)
    sampled = kept
    for i in range(sampled):
        row = packed_row(found[i])
        marks[row] = 1
        seen[size + i] = row
    entries = size
    for i in range(entries):
        pending[i] = beam[i]
    nearest = packed_score(beam[entries - 1]) if entries == SEEDS else NO_PREFIX
    for i in range(sampled):
        if insert(beam, size, ef, found[i]) < ef:
            size = min(size + 1, ef)
    for i in range(entries):
        entry = pending[i]
        if load_byte(allowed + packed_row(entry)) != 0 and insert(found, kept, shortlist, entry) < shortlist:
            kept = min(kept + 1, shortlist)
    return size, kept, entries + sampled, visited + waiting, nearest


@device
def walk_filtered(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, shortlist: Any, k: Any,
    beam_ratio: Any, lost_entries: Any, beam: Any, found: Any, marks: Any, seen: Any, pending: Any,
    scores: Any, joint: Any, joint_size: Any, first: Any,
) -> Any:  # fmt: skip
    """Fill `found` with the best `shortlist` allowed rows that a walk finds.

    Gives (found size, codes scored, whether it ran out of nodes, whether it may be lost, joint size). It is
    the walk of `walk`, but rows that are not allowed are visited too, as bridges of one node: behind such a
    node only allowed rows are. So rows that pass at random are reached over those between them, and the walk
    does not go astray in regions where no row passes. It ends by the k-th best of the allowed rows. Where all
    of these lie far from the query it may end among rows that are farther still. It counts as lost if more
    than `lost_entries` of the entries, which are a sample of all rows, are nearer than the k-th best.

    found: int64 [>= shortlist + 16], packed entries, best first; pending: int64 [>= 2 x SAMPLE]. joint,
    joint_size and first: see walk.
    """
    size, kept, count, visited, nearest = start_filtered(
        table, code, scale, bias, allowed, ef, shortlist, beam, found, marks, seen, pending, scores
    )
    cursor, last, several = 0, max(k, LEAST_RANK) - 1, joint.size > 0
    if several:
        for i in range(kept):
            joint_size = join(joint, joint_size, packed_score(found[i]), first + packed_row(found[i]))
    while cursor < size:
        edge = np.float32(NO_PREFIX)
        if beam_ratio > 0:
            if several:
                edge = edge_of_all(joint, joint_size, found, kept, last, beam_ratio)
            elif kept > last:
                edge = edge_score(found[last], beam_ratio)
            if packed_score(beam[cursor]) < edge:
                break
        waiting = 0
        for _ in range(EXPANDED_AT_ONCE):
            row = packed_row(beam[cursor])
            beam[cursor] |= 1
            only = 0 if load_byte(allowed + row) != 0 else allowed
            count, waiting = gather(table, row, only, marks, seen, count, pending, waiting)
            cursor = next_node(beam, cursor, size)
            if cursor == size:
                break
        prefetch_next(table, beam, cursor, size)
        score_pending(table, code, table[STRIDE], scale, bias, pending, waiting, scores)
        for j in range(waiting):
            if not scores[j] > NO_PREFIX:
                continue
            entry = pack(scores[j], pending[j])
            if load_byte(allowed + pending[j]) != 0:
                if several:
                    joint_size = join(joint, joint_size, scores[j], first + pending[j])
                if insert(found, kept, shortlist, entry) < shortlist:
                    kept = min(kept + 1, shortlist)
            if scores[j] >= edge:
                size, cursor = keep(table, beam, size, ef, entry, cursor)
        visited += waiting
        while cursor < size and beam[cursor] & 1:
            cursor += 1
    for i in range(count):
        marks[seen[i]] = 0
    lost = False
    if kept > last and nearest > packed_score(found[last]):
        lost = entries_before(table, code, scale, bias, packed_score(found[last])) > lost_entries
    return kept, visited, cursor >= size, lost, joint_size


@device
def entries_before(table: Any, code: Any, scale: Any, bias: Any, score: Any) -> Any:
    """How many entries have a higher score."""
    count, last = 0, table[ENTRY_COUNT] - 1
    for i in range(0, last + 1, 4):
        four = score_entries(table, code, scale, bias, i)
        for j in range(min(4, last + 1 - i)):
            count += 1 if of_four(four, j) > score else 0
    return count
