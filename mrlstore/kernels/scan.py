"""Scans the codes of a group: for small groups, and for filters that let few rows pass.

A scan mostly waits for memory, and most rows lie far from the query. The code head (the first bytes of a
code, whose numbers vary most) shows that, so the rest of the code is read for few rows only
(docs/decisions/0016-a-scan-reads-the-heads-of-most-codes.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import lowest_bit, nonzero_bytes, not_below, square_root
from .encode import NO_PREFIX, code_head, score_four
from .group_table import CODES, KEYS, ROWS, SCALE, STRIDE
from .jit import device
from .memory import load_byte, prefetch
from .topk import offer

TILE = 64  # rows whose bytes in a mask are looked at together
HEAD_BYTES = 128  # two cache lines, which the processor fetches as a pair
TILE_STARTS = 8  # places of a group that tiles are taken from in turn
FEWEST_LEARNED = 256  # rows that are scored whole before the first is judged by its head
FEWEST_WITH_FLOOR = 128  # the same where other groups have shown how high a score has to be
TINY = 1e-12  # least variance to divide by


@device
def scan_codes(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, limit: Any, stop_margin: Any, scores: Any,
    rows: Any, pending: Any, pending_scores: Any, head_scores: Any, floor: Any,
) -> Any:  # fmt: skip
    """Fill a heap with the best `limit` allowed rows by code score; gives (its size, rows looked at).

    Rows with a score below `floor` are left out; NO_PREFIX lets all pass.

    scores: float32 [limit] and rows: int64 [limit], the heap; pending: int64 [>= TILE]; pending_scores:
    float32 of that length; head_scores: float32, 16 longer. Rows are collected first and scored then, so that
    many codes are on their way from memory at a time. Of most rows only the code head is scored: where that
    is too low for the row to enter the heap, the rest of its code is not read. How low is too low is learned
    from the first rows and from one row of each batch since, see lowest_head_score. Tiles are taken from
    TILE_STARTS places of the group in turn, because neighbouring rows are often alike. With stop_margin 0 all
    codes are read whole.
    """
    n, stride = table[ROWS], table[STRIDE]
    length = HEAD_BYTES if stop_margin > 0 and stride > HEAD_BYTES and table[SCALE] < HEAD_BYTES else stride
    head_bias, energy = code_head(code, length, stride)
    if length == stride:
        pending_scores = head_scores
    tiles = (n + TILE - 1) // TILE
    step, first, tile = (tiles + TILE_STARTS - 1) // TILE_STARTS, 0, 0
    size, seen, waiting, learned = 0, 0, 0, 0
    enough = FEWEST_LEARNED if floor == NO_PREFIX else FEWEST_WITH_FLOOR
    sums = (0.0, 0.0, 0.0, 0.0, 0.0)
    for i in range(tiles):
        start = tile * TILE
        waiting = collect(table, allowed, start, min(start + TILE, n), length, pending, waiting)
        tile += step
        if tile >= tiles:
            first += 1
            tile = first
        if waiting <= pending.size - TILE and i + 1 < tiles:
            continue
        seen += waiting
        score_pending(table, code, length, scale, head_bias, pending, waiting, head_scores)
        least = max(scores[0], floor) if size == limit else floor
        judging = least > NO_PREFIX and (learned >= enough or length == stride)
        if judging:
            if length < stride:
                least = lowest_head_score(sums, learned, energy, stop_margin, least)
            waiting = narrow(table, length, least, pending, waiting, head_scores)
        if length < stride:
            score_pending(table, code, stride, scale, bias, pending, waiting, pending_scores)
        for j in range(waiting):
            score = pending_scores[j]
            if not score > NO_PREFIX:
                continue
            if score >= floor and (size < limit or score >= scores[0]):
                size = offer(scores, rows, size, limit, score, pending[j], table[KEYS])
            if j == 0 or not judging:
                sums = learn(sums, head_scores[j], score)
                learned += 1
        waiting = 0
    return size, seen


@device
def learn(sums: Any, head: Any, score: Any) -> Any:
    """Add a row to sums of head scores x and scores y: the sums of x, y, x * x, y * y and x * y, float64."""
    x, y = np.float64(head), np.float64(score)
    return sums[0] + x, sums[1] + y, sums[2] + x * x, sums[3] + y * y, sums[4] + x * y


@device
def lowest_head_score(sums: Any, count: Any, energy: Any, stop_margin: Any, score: Any) -> Any:
    """The lowest head score, float32, that a row with this score is expected to have.

    sums, count: see learn; energy: the share of the query's squares in its own head. Either the row is like
    others, then the regression line of head scores on scores tells it. Or it lies close to the query, then
    its head contributes as much as the query's own does. The lower of both counts, less `stop_margin`
    standard deviations from the line.
    """
    head, middle = sums[0] / count, sums[1] / count
    variance = max(sums[3] / count - middle * middle, TINY)
    together = sums[4] / count - head * middle
    spread = square_root(max(sums[2] / count - head * head - together * together / variance, 0.0))
    beyond = score - middle
    return np.float32(head + min(together / variance * beyond, energy * beyond) - stop_margin * spread)


@device
def narrow(table: Any, length: Any, least: Any, pending: Any, waiting: Any, head_scores: Any) -> Any:
    """Keep the first pending row, and those whose head scores are not below `least`; gives their number.

    pending: int64 and head_scores: float32 [waiting], both overwritten. The rest of the codes of kept rows,
    behind the first `length` bytes, is prefetched.
    """
    kept, stride, address = 0, table[STRIDE], head_scores.ctypes.data
    for start in range(0, waiting, 16):
        bits = not_below(address + 4 * start, least) | np.int64(start == 0)
        while bits != 0:
            j = start + lowest_bit(bits)
            bits &= bits - 1
            if j >= waiting:
                break
            pending[kept], head_scores[kept] = pending[j], head_scores[j]
            kept += 1
            prefetch(table[CODES] + pending[j] * stride + length, stride - length)
    return kept


@device
def collect(table: Any, allowed: Any, start: Any, stop: Any, length: Any, pending: Any, waiting: Any) -> Any:
    """Append the allowed ones of the rows [start, stop), at most TILE, to pending; gives its new length.

    The first `length` bytes of their codes are prefetched.
    """
    stride = table[STRIDE]
    if allowed == 0:
        for row in range(start, stop):
            pending[waiting] = row
            waiting += 1
            prefetch(table[CODES] + row * stride, length)
        return waiting
    bits = np.int64(0)
    if stop - start == TILE:
        bits = nonzero_bytes(allowed + start)
    else:
        for i in range(stop - start):
            bits |= np.int64(load_byte(allowed + start + i) != 0) << i
    while bits != 0:
        row = start + lowest_bit(bits)
        bits &= bits - 1
        pending[waiting] = row
        waiting += 1
        prefetch(table[CODES] + row * stride, length)
    return waiting


@device
def score_pending(
    table: Any, code: Any, length: Any, scale: Any, bias: Any, pending: Any, waiting: Any, scores: Any
) -> None:
    """Score the first `length` bytes of the codes of pending[:waiting], four rows at a time, see score_four.

    pending: int64; scores: float32 of the same length, overwritten.
    """
    codes, stride, last = table[CODES], table[STRIDE], waiting - 1
    for j in range(0, waiting, 4):
        b, c, d = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        scores[j], scores[b], scores[c], scores[d] = score_four(
            table,
            codes + pending[j] * stride,
            codes + pending[b] * stride,
            codes + pending[c] * stride,
            codes + pending[d] * stride,
            length, code, scale, bias,
        )  # fmt: skip
