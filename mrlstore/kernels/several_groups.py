"""A query over several groups in one call: a walk or a scan of each, one shortlist, one re-rank.

The best rows by code score are kept for all groups together. So a walk ends where its group can add nothing
to the k-th best of all, and a scan reads the rest of a code only where its head lets it enter the shortlist.
What is re-ranked is as much as for one group (docs/decisions/0023-groups-are-searched-together.md).
"""

from __future__ import annotations

from typing import Any

from . import group_steps, group_table, scratch
from .encode import encode_query
from .filtered_walk import walk_filtered
from .group_steps import EXACT, FILTERED, LEAST_RANK, SCAN, WALK
from .group_table import ENTRY_COUNT, WIDTH
from .jit import device, kernel
from .memory import load_byte
from .places import (
    bound_of,
    empty_heap,
    group_of,
    offer_place,
    rerank_copies_of,
    rerank_places,
    rerank_whole,
    score_whole_groups,
    unpack_places,
    write_ids_of_places,
)
from .topk import clear, packed_row, packed_score
from .two_stage import add_unprefixed, list_by_scan
from .views import floats, ints, longs, unsigned_bytes
from .walk import join, walk


@device
def leave_out(joint: Any, size: Any, first: Any, count: Any) -> Any:
    """Remove the rows of one group, `count` places from `first` on, from the best of all; gives the size."""
    kept = 0
    for i in range(size):
        if not first <= packed_row(joint[i]) < first + count:
            joint[kept] = joint[i]
            kept += 1
    clear(joint, kept, size)
    return kept


@device
def join_by_scan(
    steps: Any, group: Any, memory: Any, code: Any, scale: Any, bias: Any, stop_margin: Any, joint: Any,
    joint_size: Any,
) -> Any:  # fmt: skip
    """Scan the codes of a group; gives (joint size, rows seen). What it had in `joint` is replaced."""
    first = steps[group, group_steps.FIRST]
    joint_size = leave_out(joint, joint_size, first, steps[group, group_steps.ROWS])
    count, seen = list_by_scan(
        longs(steps[group, group_steps.TABLE], group_table.FIELDS), memory, code, scale, bias,
        steps[group, group_steps.NODES], joint.size - 16, stop_margin, bound_of(joint, joint_size),
    )  # fmt: skip
    listed, scores = longs(memory[scratch.LISTED], count), floats(memory[scratch.LIST_SCORES], count)
    for i in range(count):
        joint_size = join(joint, joint_size, scores[i], first + listed[i])
    return joint_size, seen


@device
def join_by_walk(
    steps: Any, group: Any, memory: Any, code: Any, scale: Any, bias: Any, k: Any, beam_ratio: Any,
    joint: Any, joint_size: Any,
) -> Any:  # fmt: skip
    """Walk the graph of a group; gives (joint size, codes scored, whether the walk is lost).

    Lost is also a walk that ran out of nodes before it has seen as many as there are, or a list of links.
    """
    table = longs(steps[group, group_steps.TABLE], group_table.FIELDS)
    beam = longs(memory[scratch.BEAM], memory[scratch.BEAM_SIZE])
    marks = unsigned_bytes(memory[scratch.MARKS], memory[scratch.ROW_COUNT])
    seen = ints(memory[scratch.SEEN], memory[scratch.ROW_COUNT])
    pending = longs(memory[scratch.PENDING], memory[scratch.PENDING_SIZE])
    pending_scores = floats(memory[scratch.PENDING_SCORES], memory[scratch.PENDING_SIZE])
    ef, first, skipped = (
        steps[group, group_steps.EF],
        steps[group, group_steps.FIRST],
        steps[group, group_steps.SKIPPED],
    )
    if skipped >= 0:
        marks[skipped] = 1  # as if the walk had seen it
    if steps[group, group_steps.PATH] == FILTERED:
        found, visited, ended, lost, joint_size = walk_filtered(
            table, code, scale, bias, steps[group, group_steps.NODES], ef, joint.size - 16, k, beam_ratio,
            steps[group, group_steps.LOST_ENTRIES], beam,
            longs(memory[scratch.LISTED], memory[scratch.SHORTLIST]), marks, seen, pending, pending_scores,
            joint, joint_size, first,
        )  # fmt: skip
    else:
        found, visited, _, ended, joint_size = walk(
            table, code, scale, bias, ef, joint.size - 16, k, beam_ratio,
            beam, marks, seen, pending, pending_scores, beam[:0], joint, joint_size, first,
        )  # fmt: skip
        lost = False
        if beam_ratio > 0:
            found = visited - table[ENTRY_COUNT]
    if skipped >= 0:
        marks[skipped] = 0
    enough = min(
        ef if beam_ratio == 0 else min(table[WIDTH], joint.size - 16), steps[group, group_steps.NODE_COUNT]
    )
    return joint_size, visited, lost or (ended and found < enough)


@device
def list_of_groups(
    steps: Any, ratios: Any, memory: Any, code: Any, scale: Any, bias: Any, shortlist: Any, k: Any,
    stop_margin: Any, joint: Any, counts: Any,
) -> Any:  # fmt: skip
    """Leave the best `shortlist` nodes of all groups in `memory`, by falling score; gives their number.

    counts: int64 [groups, 5], of which [2] grows by the codes scored.
    """
    size, nodes = 0, 0
    for group in range(len(steps)):
        path, number, beyond = steps[group, group_steps.PATH], steps[group, group_steps.NUMBER], False
        visited, looked_at = 0, 0
        if path == EXACT:
            continue
        nodes += steps[group, group_steps.NODE_COUNT]
        if path >= WALK:
            size, visited, beyond = join_by_walk(
                steps, group, memory, code, scale, bias, k, ratios[group], joint, size
            )
        if path == SCAN or beyond:
            size, looked_at = join_by_scan(steps, group, memory, code, scale, bias, stop_margin, joint, size)
        counts[number, 2] += visited + looked_at
    if size < min(k, nodes):
        for group in range(len(steps)):
            if steps[group, group_steps.PATH] >= WALK:
                size, looked_at = join_by_scan(
                    steps, group, memory, code, scale, bias, stop_margin, joint, size
                )
                counts[steps[group, group_steps.NUMBER], 2] += looked_at
    count = min(size, shortlist)
    listed, codes = longs(memory[scratch.LISTED], count), floats(memory[scratch.LIST_SCORES], count)
    for i in range(count):
        listed[i], codes[i] = packed_row(joint[i]), packed_score(joint[i])
    return count


@device
def add_unprefixed_of_groups(steps: Any, memory: Any, count: Any) -> Any:
    """As two_stage.add_unprefixed, for all groups."""
    listed = longs(memory[scratch.LISTED], memory[scratch.SHORTLIST])
    for group in range(len(steps)):
        if steps[group, group_steps.PATH] != EXACT:
            start, first = count, steps[group, group_steps.FIRST]
            count = add_unprefixed(
                longs(steps[group, group_steps.TABLE], group_table.FIELDS),
                steps[group, group_steps.ALLOWED],
                listed,
                count,
            )
            for i in range(start, count):
                listed[i] += first
    return count


@device
def rerank_of_groups(
    steps: Any, query: Any, memory: Any, code: Any, scale: Any, bias: Any, coded: Any, count: Any,
    stop_margin: Any, reach: Any, whole: Any, rows: Any, which: Any, scores: Any, counts: Any,
) -> Any:  # fmt: skip
    """Re-rank the shortlist in `memory`, `coded` nodes and then others up to `count`.

    With `whole` also the near copies of its nodes, and the groups without codes. Gives (rows written, whether
    the re-rank ended before the last node).
    """
    k, most = rows.size, 0
    size_of_list, address = memory[scratch.SHORTLIST], query.ctypes.data
    listed, codes = (
        longs(memory[scratch.LISTED], size_of_list),
        floats(memory[scratch.LIST_SCORES], size_of_list),
    )
    for group in range(len(steps)):
        counts[group, 1] = counts[group, 4] = 0
        most = max(most, steps[group, group_steps.COPIES])
    empty_heap(memory, k)
    nodes = longs(memory[scratch.BEAM], memory[scratch.BEAM_SIZE] if most > 0 else 0)
    size, scored, off = rerank_places(
        steps, address, memory, listed, codes, coded, scores, 0, k, stop_margin, nodes, counts
    )
    if most > 0:
        size = 0
        empty_heap(memory, k)
        for i in range(scored):
            place = listed[packed_row(nodes[i])]
            group = group_of(steps, place)
            allowed = steps[group, group_steps.ALLOWED]
            if allowed == 0 or load_byte(allowed + place - steps[group, group_steps.FIRST]) != 0:
                size = offer_place(memory, scores, size, k, packed_score(nodes[i]), steps, group, place)
    size = rerank_whole(steps, address, memory, coded, count, scores, size, k, counts)
    if whole != 0:
        if most > 0:
            size, scored = rerank_copies_of(
                steps, address, memory, code, scale, bias, coded, count, scored, off, k, stop_margin, reach,
                scores, size, counts,
            )  # fmt: skip
        size = score_whole_groups(steps, address, memory, scores, size, k, counts)
    unpack_places(steps, memory, scores, size, rows, which)
    return size, scored < coded


@kernel(
    "void(int64[:, ::1], float32[::1], float32[:, ::1], int64[::1], int64, int64, int64, float32,"
    " float32, int64[:, ::1], int64[:, ::1], float32[:, ::1], int64[:, ::1], int64[:, :, ::1], uint8[::1])"
)
def search_groups(
    steps: Any, ratios: Any, queries: Any, memory: Any, first: Any, shortlist: Any, k: Any, stop_margin: Any,
    reach: Any, rows: Any, which: Any, scores: Any, sizes: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query list the best `shortlist` nodes of all groups, re-rank them, write the best k rows.

    steps: see group_steps; ratios: float32 [groups], how far each walk goes; queries: float32 [m, dim], unit
    length; first: nodes to list at first, see two_stage.search_walk; k: the rank that walks measure by;
    reach: see near_copies.rerank_nodes.
    rows, which: int64 [m, k], rows and the numbers of their groups, and scores: float32 [m, k], filled from
    the left; with k = 0 the re-rank is left out and the shortlist stays in `memory`. sizes: int64 [m, 2]:
    rows written and where the query's ids end in ids: uint8, see write_ids_of_places; of shortlists the
    length, and how many of it have a code. counts: int64 [m, groups, 5], by number: [1] full rows scored, [2]
    codes scored, [4] copies scored.
    """
    end = 0
    for q in range(len(queries)):
        counts[q] = 0
        code, scale, bias = encode_query(
            longs(steps[0, group_steps.TABLE], group_table.FIELDS), queries[q],
            floats(memory[scratch.PADDED], memory[scratch.NUMBERS]),
            memory[scratch.CODE], memory[scratch.ROTATED_CODE],
        )  # fmt: skip
        length = first
        while True:
            joint = longs(memory[scratch.JOINT], max(length, LEAST_RANK) + 16)
            coded = list_of_groups(
                steps, ratios, memory, code, scale, bias, length, k, stop_margin, joint, counts[q]
            )
            count = add_unprefixed_of_groups(steps, memory, coded)
            if rows.shape[1] == 0:
                break
            sizes[q, 0], ended = rerank_of_groups(
                steps, queries[q], memory, code, scale, bias, coded, count, stop_margin, reach, 1,
                rows[q], which[q], scores[q], counts[q],
            )  # fmt: skip
            if ended or length >= shortlist or coded < length:
                break
            length = shortlist
        if rows.shape[1] == 0:
            sizes[q, 0], sizes[q, 1] = count, coded
        else:
            end = sizes[q, 1] = write_ids_of_places(steps, memory, sizes[q, 0], ids, end)


@kernel(
    "int64(int64[:, ::1], float32[::1], int64[::1], int64, int64, int64, float32, float32, int64[::1],"
    " int64[::1], float32[::1], int64[:, ::1])"
)
def rerank_groups(
    steps: Any, query: Any, memory: Any, coded: Any, count: Any, whole: Any, stop_margin: Any, reach: Any,
    rows: Any, which: Any, scores: Any, counts: Any,
) -> Any:  # fmt: skip
    """As rerank_of_groups: a kernel of its own, for searches that read rows from the disk in between.

    Gives the rows written. rows, which: int64 [k]; scores: float32 [k]; counts: int64 [groups, 5], by number.
    """
    code, scale, bias = encode_query(
        longs(steps[0, group_steps.TABLE], group_table.FIELDS), query,
        floats(memory[scratch.PADDED], memory[scratch.NUMBERS]),
        memory[scratch.CODE], memory[scratch.ROTATED_CODE],
    )  # fmt: skip
    size, _ = rerank_of_groups(
        steps, query, memory, code, scale, bias, coded, count, stop_margin, reach, whole,
        rows, which, scores, counts,
    )  # fmt: skip
    return size
