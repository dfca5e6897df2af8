"""Re-ranks nodes that stand for near copies. Which rows are copies is decided by builds, see index.copies.

A walk or scan lists nodes only, so that its shortlist holds many distinct places. The nodes are scored on
their full rows first; then the copies of the best, in the order of the scores that their nodes let expect.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import scratch
from .bits import square_root
from .encode import NO_PREFIX
from .group_table import CODES, COPIES, COPY_COUNT, COPY_SETS, KEYS, ROWS, SET_COUNT, STRIDE
from .jit import device
from .memory import load_byte, load_long, load_row, prefetch_far
from .rerank import FEWEST_SCORED, SAME, exact_score, rerank_rows, rerank_while
from .scan import score_pending
from .score_line import FEWEST_FITTED, NO_PAIRS, SAMPLED, add_pair, highest_expected, is_sampled
from .topk import best_first, offer, packed_row, packed_score
from .views import floats, longs


@device
def copies_of(table: Any, node: Any) -> Any:
    """Where the copies of a node begin and end in the list of copies; (0, 0) where it has none."""
    low, high = np.int64(0), table[SET_COUNT]
    while low < high:
        middle = (low + high) // 2
        if np.int64(load_row(table[COPY_SETS] + 12 * middle)) < node:
            low = middle + 1
        else:
            high = middle
    entry = table[COPY_SETS] + 12 * low
    if low == table[SET_COUNT] or np.int64(load_row(entry)) != node:
        return np.int64(0), np.int64(0)
    first, last = np.int64(load_row(entry + 4)), np.int64(load_row(entry + 8))
    return first, min(last, table[COPY_COUNT])


@device
def list_copies(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, node: Any, node_code: Any, node_score: Any,
    rows: Any, scores: Any, pending: Any, pending_scores: Any,
) -> Any:  # fmt: skip
    """Fill a heap with the allowed copies of a node; gives (its size, sum of squares of their differences).

    scores: float32 and rows: int64 of one length, the heap: the exact score of the node, plus the difference
    between the code scores of copy and node. Damaged row numbers are skipped: within a set they rise.
    """
    n, stride = np.uint64(table[ROWS]), table[STRIDE]
    first, last = copies_of(table, node)
    size, squares, previous = 0, np.float32(0), np.int64(-1)
    while first < last:
        waiting = 0
        while first < last and waiting < pending.size:
            row = np.int64(load_row(table[COPIES] + 4 * first))
            first += 1
            if np.uint64(row) >= n or row <= previous:
                continue
            previous = row
            if allowed == 0 or load_byte(allowed + row) != 0:
                pending[waiting] = row
                waiting += 1
                prefetch_far(table[CODES] + row * stride, stride)
        score_pending(table, code, stride, scale, bias, pending, waiting, pending_scores)
        for j in range(waiting):
            if pending_scores[j] > NO_PREFIX:
                off = pending_scores[j] - node_code
                squares += off * off
                size = offer(scores, rows, size, rows.size, node_score + off, pending[j], table[KEYS])
    return size, squares


@device
def rerank_many(
    table: Any, query: Any, listed: Any, codes: Any, count: Any, scores: Any, rows: Any, size: Any, k: Any
) -> Any:
    """As rerank_while, for FEWEST_FITTED copies of one node or more: it ends by the line of their scores.

    Copies from everywhere in the list are scored first, then the others from the best on: while they may be
    better than the worst in the heap, or equal with a smaller key.
    """
    step, scored = count // SAMPLED, 0
    sums, squared = NO_PAIRS, np.float32(0)
    for turn in range(SAMPLED + count):
        i = turn * step if turn < SAMPLED else turn - SAMPLED
        if turn >= SAMPLED:
            if is_sampled(i, step):
                continue
            if size >= k:
                highest = highest_expected(sums, codes[i])
                older = load_long(table[KEYS] + 8 * listed[i]) < load_long(table[KEYS] + 8 * rows[0])
                if highest < scores[0] + SAME and (highest < scores[0] - SAME or not older):
                    break
        following = i + step if turn < SAMPLED - 1 else i + 1
        score = exact_score(table, query, listed[i], listed[min(following, count - 1)])
        size = offer(scores, rows, size, k, score, listed[i], table[KEYS])
        sums = add_pair(sums, codes[i], score)
        off = codes[i] - score
        squared += off * off
        scored += 1
    return size, scored, squared


@device
def offsets(nodes: Any, scored: Any, codes: Any) -> Any:
    """How far the code scores of nodes lie above their exact ones, as (mean, standard deviation), float32.

    nodes: int64, the first `scored` a beam of exact scores and positions in codes: float32.
    """
    total, squared, count = np.float32(0), np.float32(0), np.float32(max(scored, 1))
    for i in range(scored):
        off = codes[packed_row(nodes[i])] - packed_score(nodes[i])
        total += off
        squared += off * off
    mean = total / count
    return mean, square_root(max(squared / count - mean * mean, np.float32(0)))


@device
def rerank_nodes(
    table: Any, query: Any, code: Any, scale: Any, bias: Any, memory: Any, allowed: Any, coded: Any,
    count: Any, most: Any, k: Any, stop_margin: Any, reach: Any, rows: Any, scores: Any,
) -> Any:  # fmt: skip
    """Re-rank the shortlist in `memory`, `coded` nodes by falling code score, then others up to `count`.

    Writes the best k of the nodes, their copies and the others, best first, to rows: int64 [k] and scores:
    float32 [k]. First nodes are scored until the rest can hardly enter, see rerank_while. Then their copies
    are, at most `most` of a node and about as many in all, by falling score of the nodes, while that is at
    most `reach` standard deviations of copies about their nodes too low for the best k. Nodes further down
    the shortlist follow, while their copies may be so much better than they themselves; with reach 0 nothing
    ends.
    query: float32 [dim]. Gives (rows written, nodes and others scored, copies scored in full, by code).
    """
    whole = memory[scratch.SHORTLIST]
    listed, codes = longs(memory[scratch.LISTED], whole), floats(memory[scratch.LIST_SCORES], whole)
    nodes = longs(memory[scratch.BEAM], memory[scratch.BEAM_SIZE])
    pending = longs(memory[scratch.PENDING], memory[scratch.PENDING_SIZE])
    pending_scores = floats(memory[scratch.PENDING_SCORES], memory[scratch.PENDING_SIZE])
    address, keys = query.ctypes.data, table[KEYS]
    _, scored, off = rerank_while(
        table, address, listed, codes, coded, scores, rows, 0, k, stop_margin, nodes
    )
    size = 0
    for i in range(scored):
        row = listed[packed_row(nodes[i])]
        if allowed == 0 or load_byte(allowed + row) != 0:
            size = offer(scores, rows, size, k, packed_score(nodes[i]), row, keys)
    size = rerank_rows(table, address, listed[coded:count], count - coded, scores, rows, size, k)
    copies, copy_codes = listed[count : count + most], codes[count : count + most]
    mean, deviation = offsets(nodes, scored, codes)
    unknown = square_root(off / np.float32(max(scored, 1)))  # before copies have shown how far they lie
    by_code, in_full, first = 0, 0, scored
    squares, missed = np.float32(0), np.float32(0)
    for i in range(coded):
        spread = square_root(squares / np.float32(max(by_code, 1)) + missed / np.float32(max(in_full, 1)))
        if i < first:
            place, score = packed_row(nodes[i]), packed_score(nodes[i])
            away = max(spread, unknown) if in_full < FEWEST_SCORED else spread
        else:
            highest = codes[i] - mean + stop_margin * deviation + reach * spread
            if reach == 0 or in_full == 0 or in_full >= most or (size >= k and highest < scores[0] + SAME):
                break
            if np.uint64(listed[i]) >= np.uint64(table[ROWS]):
                continue
            place, score, away = (
                i,
                exact_score(table, address, listed[i], listed[min(i + 1, coded - 1)]),
                spread,
            )
            if allowed == 0 or load_byte(allowed + listed[i]) != 0:
                size = offer(scores, rows, size, k, score, listed[i], keys)
            scored += 1
        if reach > 0 and size >= k and (score + reach * away < scores[0] or in_full >= most):
            continue
        found, off = list_copies(
            table, code, scale, bias, allowed, listed[place], codes[place], score, copies, copy_codes,
            pending, pending_scores,
        )  # fmt: skip
        if found == 0:
            continue
        best_first(copy_codes, copies, found, keys)
        if stop_margin > 0 and found >= FEWEST_FITTED:
            size, done, error = rerank_many(table, address, copies, copy_codes, found, scores, rows, size, k)
        else:
            size, done, error = rerank_while(
                table, address, copies, copy_codes, found, scores, rows, size, k, stop_margin, pending[:0]
            )
        by_code, in_full, squares, missed = by_code + found, in_full + done, squares + off, missed + error
    best_first(scores, rows, size, keys)
    return size, scored + count - coded, in_full, by_code
