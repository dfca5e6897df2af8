"""Re-ranks rows of several groups together. A row is known by its place, see group_steps.

The heap of the best k holds slots, each with the key and the place of a row, because rows of different groups
have their keys in different arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import group_steps, group_table, scratch
from .bits import square_root
from .dot import dot_half
from .encode import NO_PREFIX
from .group_table import DIM, ID_STARTS, ID_TEXT, INV_NORMS, KEYS, VECTORS
from .jit import device
from .memory import load_byte, load_float, load_long, prefetch
from .near_copies import list_copies, offsets
from .rerank import FEWEST_SCORED, SAME, SEPARATOR, clipped, write_id
from .score_line import FEWEST_FITTED, NO_PAIRS, SAMPLED, add_pair, highest_expected, is_sampled
from .topk import best_first, insert, offer, pack, packed_row, packed_score, worse
from .views import floats, longs


@device
def group_of(steps: Any, place: Any) -> Any:
    """The group that a place lies in."""
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if steps[middle, group_steps.FIRST] <= place:
            low = middle
        else:
            high = middle - 1
    return low


@device
def offer_place(
    memory: Any, scores: Any, size: Any, k: Any, score: Any, steps: Any, group: Any, place: Any
) -> Any:
    """Put a row into the heap of the best k; gives the heap's new size.

    scores: float32 [k]. One slot more than k is there: heap[k] says which is free once k are taken.
    """
    if size >= k and score < scores[0]:
        return size
    count = memory[scratch.KEPT]
    heap, keys, places = (
        longs(memory[scratch.HEAP], count),
        longs(memory[scratch.SLOT_KEYS], count),
        longs(memory[scratch.SLOT_PLACES], count),
    )
    slot, address = size if size < k else heap[k], memory[scratch.SLOT_KEYS]
    row = place - steps[group, group_steps.FIRST]
    keys[slot], places[slot] = (
        load_long(longs(steps[group, group_steps.TABLE], group_table.FIELDS)[KEYS] + 8 * row),
        place,
    )
    if size < k:
        return offer(scores, heap, size, k, score, slot, address)
    last = heap[0]
    if worse(scores[0], last, score, slot, address):
        offer(scores, heap, size, k, score, slot, address)
        heap[k] = last
    return size


@device
def score_place(steps: Any, query: Any, group: Any, place: Any, next_group: Any, following: Any) -> Any:
    """The exact score, float32, of the row at a place; the one at the place `following` is prefetched.

    query: address of float32 [dim], unit length.
    """
    table, other = (
        longs(steps[group, group_steps.TABLE], group_table.FIELDS),
        longs(steps[next_group, group_steps.TABLE], group_table.FIELDS),
    )
    row, coming = place - steps[group, group_steps.FIRST], following - steps[next_group, group_steps.FIRST]
    dim, row_bytes = table[DIM], 2 * table[DIM]
    prefetch(other[INV_NORMS] + 4 * coming, 1)
    dot = dot_half(query, table[VECTORS] + row * row_bytes, dim, other[VECTORS] + coming * row_bytes)
    return clipped(dot * load_float(table[INV_NORMS] + 4 * row))


@device
def is_older(steps: Any, memory: Any, group: Any, place: Any) -> Any:
    """Whether the key of the row at a place is smaller than that of the worst row in the heap."""
    row = place - steps[group, group_steps.FIRST]
    key = load_long(longs(steps[group, group_steps.TABLE], group_table.FIELDS)[KEYS] + 8 * row)
    heap = longs(memory[scratch.HEAP], memory[scratch.KEPT])
    return key < longs(memory[scratch.SLOT_KEYS], memory[scratch.KEPT])[heap[0]]


@device
def rerank_places(
    steps: Any, query: Any, memory: Any, listed: Any, codes: Any, count: Any, scores: Any, size: Any, k: Any,
    stop_margin: Any, exact: Any, scored_of: Any,
) -> Any:  # fmt: skip
    """As rerank.rerank_while, for places listed: int64 [count] of any group.

    Equal rows of several groups may be copies of several nodes: the re-rank goes on while a row that is not
    better has a smaller key, by which equal scores go.

    scored_of: int64 [groups, 5], the answers' counts: [1] grows by the rows of each group that are scored.
    """
    last, scored = count - 1, 0
    total, squared = np.float32(0), np.float32(0)
    group = group_of(steps, listed[0]) if count > 0 else 0
    for i in range(count):
        if stop_margin > 0 and size >= k and scored >= FEWEST_SCORED:
            mean = total / np.float32(scored)
            spread = square_root(max(squared / np.float32(scored) - mean * mean, np.float32(0)))
            highest = codes[i] - mean + stop_margin * spread
            if highest < scores[0] + SAME and (
                highest < scores[0] - SAME or not is_older(steps, memory, group, listed[i])
            ):
                break
        following = listed[min(i + 1, last)]
        next_group = group_of(steps, following)
        score = score_place(steps, query, group, listed[i], next_group, following)
        size = offer_place(memory, scores, size, k, score, steps, group, listed[i])
        scored_of[steps[group, group_steps.NUMBER], 1] += 1
        off = codes[i] - score
        total += off
        squared += off * off
        if exact.size > 0:
            insert(exact, scored, exact.size - 16, pack(score, i))
        scored += 1
        group = next_group
    return size, scored, squared


@device
def rerank_many_places(
    steps: Any, query: Any, memory: Any, group: Any, listed: Any, codes: Any, count: Any, scores: Any,
    size: Any, k: Any, scored_of: Any,
) -> Any:  # fmt: skip
    """As near_copies.rerank_many, for places listed: int64 [count] of one group; it ends as rerank_places."""
    step, scored = count // SAMPLED, 0
    sums, squared = NO_PAIRS, np.float32(0)
    for turn in range(SAMPLED + count):
        i = turn * step if turn < SAMPLED else turn - SAMPLED
        if turn >= SAMPLED:
            if is_sampled(i, step):
                continue
            highest = highest_expected(sums, codes[i])
            if (
                size >= k
                and highest < scores[0] + SAME
                and (highest < scores[0] - SAME or not is_older(steps, memory, group, listed[i]))
            ):
                break
        following = i + step if turn < SAMPLED - 1 else i + 1
        score = score_place(steps, query, group, listed[i], group, listed[min(following, count - 1)])
        size = offer_place(memory, scores, size, k, score, steps, group, listed[i])
        sums = add_pair(sums, codes[i], score)
        off = codes[i] - score
        squared += off * off
        scored += 1
    scored_of[steps[group, group_steps.NUMBER], 1] += scored
    return size, scored, squared


@device
def rerank_whole(
    steps: Any, query: Any, memory: Any, start: Any, stop: Any, scores: Any, size: Any, k: Any, scored_of: Any
) -> Any:
    """Offer the rows without a code, [start, stop) of the shortlist, to the heap; gives its new size."""
    listed = longs(memory[scratch.LISTED], memory[scratch.SHORTLIST])
    for i in range(start, stop):
        group, following = group_of(steps, listed[i]), listed[min(i + 1, stop - 1)]
        score = score_place(steps, query, group, listed[i], group_of(steps, following), following)
        size = offer_place(memory, scores, size, k, score, steps, group, listed[i])
        scored_of[steps[group, group_steps.NUMBER], 1] += 1
    return size


@device
def score_whole_groups(
    steps: Any, query: Any, memory: Any, scores: Any, size: Any, k: Any, scored_of: Any
) -> Any:
    """Offer every allowed row of the groups without codes to the heap; gives its new size."""
    for group in range(len(steps)):
        if steps[group, group_steps.PATH] != group_steps.EXACT:
            continue
        first, count = steps[group, group_steps.FIRST], steps[group, group_steps.ROWS]
        allowed, last = steps[group, group_steps.ALLOWED], first + count - 1
        for row in range(count):
            if allowed != 0 and load_byte(allowed + row) == 0:
                continue
            place = first + row
            score = score_place(steps, query, group, place, group, min(place + 1, last))
            size = offer_place(memory, scores, size, k, score, steps, group, place)
            scored_of[steps[group, group_steps.NUMBER], 1] += 1
    return size


@device
def rerank_copies_of(
    steps: Any, query: Any, memory: Any, code: Any, scale: Any, bias: Any, coded: Any, count: Any,
    scored: Any, off: Any, k: Any, stop_margin: Any, reach: Any, scores: Any, size: Any, scored_of: Any,
) -> Any:  # fmt: skip
    """Score the near copies of the nodes, see near_copies.rerank_nodes; gives (heap's size, nodes scored).

    The best `scored` of `coded` nodes stand in the beam, by exact score, as positions in the shortlist,
    behind whose `count` places copies are listed. off: the sum of squares that rerank_places gave.
    """
    whole = memory[scratch.SHORTLIST]
    listed, codes = longs(memory[scratch.LISTED], whole), floats(memory[scratch.LIST_SCORES], whole)
    nodes = longs(memory[scratch.BEAM], memory[scratch.BEAM_SIZE])
    pending = longs(memory[scratch.PENDING], memory[scratch.PENDING_SIZE])
    pending_scores = floats(memory[scratch.PENDING_SCORES], memory[scratch.PENDING_SIZE])
    mean, deviation = offsets(nodes, scored, codes)
    unknown = square_root(off / np.float32(max(scored, 1)))
    by_code, in_full, limit, first_scored = 0, 0, 0, scored
    squares, missed = np.float32(0), np.float32(0)
    for group in range(len(steps)):
        limit = max(limit, steps[group, group_steps.COPIES])
    for i in range(coded):
        spread = square_root(squares / np.float32(max(by_code, 1)) + missed / np.float32(max(in_full, 1)))
        at = packed_row(nodes[i]) if i < first_scored else i
        group = group_of(steps, listed[at])
        if i < first_scored:
            score = packed_score(nodes[i])
            away = max(spread, unknown) if in_full < FEWEST_SCORED else spread
        else:
            highest = codes[i] - mean + stop_margin * deviation + reach * spread
            if reach == 0 or in_full == 0 or in_full >= limit or (size >= k and highest < scores[0] + SAME):
                break
            score, away = score_place(steps, query, group, listed[i], group, listed[i]), spread
            allowed = steps[group, group_steps.ALLOWED]
            if allowed == 0 or load_byte(allowed + listed[i] - steps[group, group_steps.FIRST]) != 0:
                size = offer_place(memory, scores, size, k, score, steps, group, listed[i])
            scored_of[steps[group, group_steps.NUMBER], 1] += 1
            scored += 1
        most, number = steps[group, group_steps.COPIES], steps[group, group_steps.NUMBER]
        too_far = reach > 0 and size >= k and (score + reach * away < scores[0] or in_full >= most)
        if most == 0 or too_far:
            continue
        table, first = (
            longs(steps[group, group_steps.TABLE], group_table.FIELDS),
            steps[group, group_steps.FIRST],
        )
        copies, copy_codes = listed[count : count + most], codes[count : count + most]
        found, differences = list_copies(
            table, code, scale, bias, steps[group, group_steps.ALLOWED], listed[at] - first, codes[at], score,
            copies, copy_codes, pending, pending_scores,
        )  # fmt: skip
        if found == 0:
            continue
        best_first(copy_codes, copies, found, table[KEYS])
        for j in range(found):
            copies[j] += first
        if stop_margin > 0 and found >= FEWEST_FITTED:
            size, done, error = rerank_many_places(
                steps, query, memory, group, copies, copy_codes, found, scores, size, k, scored_of
            )
        else:
            size, done, error = rerank_places(
                steps, query, memory, copies, copy_codes, found, scores, size, k, stop_margin, pending[:0],
                scored_of,
            )  # fmt: skip
        scored_of[number, 2] += found
        scored_of[number, 4] += done
        by_code, in_full, squares, missed = (
            by_code + found,
            in_full + done,
            squares + differences,
            missed + error,
        )
    return size, scored


@device
def unpack_places(steps: Any, memory: Any, scores: Any, size: Any, rows: Any, which: Any) -> None:
    """Sort the heap, and write each of its places as a row and the number of its group."""
    count = memory[scratch.KEPT]
    heap, places = longs(memory[scratch.HEAP], count), longs(memory[scratch.SLOT_PLACES], count)
    best_first(scores, heap, size, memory[scratch.SLOT_KEYS])
    for i in range(size):
        place = places[heap[i]]
        group = group_of(steps, place)
        rows[i], which[i] = place - steps[group, group_steps.FIRST], steps[group, group_steps.NUMBER]


@device
def write_ids_of_places(steps: Any, memory: Any, size: Any, written: Any, end: Any) -> Any:
    """As rerank.write_ids, for the sorted heap; groups without ids get an empty one for each row."""
    count = memory[scratch.KEPT]
    heap, places = longs(memory[scratch.HEAP], count), longs(memory[scratch.SLOT_PLACES], count)
    if end < 0:
        return -1
    for i in range(size):
        group = group_of(steps, places[heap[i]])
        starts = longs(steps[group, group_steps.TABLE], group_table.FIELDS)[ID_STARTS]
        prefetch(starts + 8 * (places[heap[i]] - steps[group, group_steps.FIRST]), 16)
    for i in range(size):
        group = group_of(steps, places[heap[i]])
        table, row = (
            longs(steps[group, group_steps.TABLE], group_table.FIELDS),
            places[heap[i]] - steps[group, group_steps.FIRST],
        )
        if table[ID_STARTS] != 0:
            prefetch(table[ID_TEXT] + load_long(table[ID_STARTS] + 8 * row), 1)
    for i in range(size):
        group = group_of(steps, places[heap[i]])
        table, row = (
            longs(steps[group, group_steps.TABLE], group_table.FIELDS),
            places[heap[i]] - steps[group, group_steps.FIRST],
        )
        if table[ID_STARTS] != 0:
            end = write_id(table, row, written, end)
            if end < 0:
                return -1
        elif end >= written.size:
            return -1
        else:
            written[end] = SEPARATOR
            end += 1
    return end


@device
def empty_heap(memory: Any, k: Any) -> None:
    """Make the heap ready for the best k."""
    longs(memory[scratch.HEAP], memory[scratch.KEPT])[k] = k


@device
def bound_of(joint: Any, size: Any) -> Any:
    """The least code score, float32, with which a row enters the best of all groups."""
    return packed_score(joint[size - 1]) if size >= joint.size - 16 else np.float32(NO_PREFIX)
