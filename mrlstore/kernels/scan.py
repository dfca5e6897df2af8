"""Scan the codes of a group: the way for small groups and for filters that let few rows through.

Most of a scan is waiting for memory, and most rows lie far from the query, which the leads of their codes
tell: the first bytes, that hold the numbers that vary most. The rest is read of the others alone
(docs/decisions/0016-a-scan-reads-the-leads-of-most-codes.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlstore.kernels import group_table as t

from . import scratch as w
from .dot import load_byte, load_row, lowest_bit, nonzero_bytes, not_below, prefetch
from .encode import NO_PREFIX, encode_query, lead_of, score_four
from .jit import device, kernel
from .rerank import rerank_list, write_ids
from .topk import best_first, offer
from .views import floats, longs

TILE = 64  # rows whose bytes in a mask are looked at together
LEAD = 128  # bytes: a pair of cache lines, which the processor is quick to read together
PLACES = 8  # of a group that tiles are taken from in turn
LEARNED = 256  # rows that are scored whole before one is judged by its lead
TINY = 1e-12


@device
def scan_codes(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, limit: Any, margin: Any, scores: Any,
    rows: Any, pending: Any, pending_scores: Any, leads: Any,
) -> Any:  # fmt: skip
    """Heap of the best `limit` allowed rows by code; gives (size, rows looked at).

    Rows are collected first and scored then, so that many codes are on the way from memory at a time. Of most
    only the lead is scored: where it is too low for the row to enter the heap, by what the first rows and one
    of each batch since have told (see lowest_lead), it is left at that. Tiles are taken from PLACES of the
    group in turn, lest the first rows are all of a kind. With margin 0 all are scored whole. pending: int64
    [>= TILE], for rows to be scored; pending_scores: float32, as long; leads: float32, 16 more.
    """
    n, stride = table[t.ROWS], table[t.STRIDE]
    length = LEAD if margin > 0 and stride > LEAD and table[t.SCALE] < LEAD else stride
    lead_bias, energy = lead_of(code, length, stride)
    if length == stride:
        pending_scores = leads
    tiles = (n + TILE - 1) // TILE
    step, first, tile = (tiles + PLACES - 1) // PLACES, 0, 0
    size, seen, waiting, learned = 0, 0, 0, 0
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
        score_pending(table, code, length, scale, lead_bias, pending, waiting, leads)
        judging = size == limit and (learned >= LEARNED or length == stride)
        if judging:
            least = scores[0]
            if length < stride:
                least = lowest_lead(sums, learned, energy, margin, least)
            waiting = narrow(table, length, least, pending, waiting, leads)
        if length < stride:
            score_pending(table, code, stride, scale, bias, pending, waiting, pending_scores)
        for j in range(waiting):
            score = pending_scores[j]
            if not score > NO_PREFIX:
                continue
            if size < limit or score >= scores[0]:
                size = offer(scores, rows, size, limit, score, pending[j], table[t.KEYS])
            if j == 0 or not judging:
                sums = learn(sums, leads[j], score)
                learned += 1
        waiting = 0
    return size, seen


@device
def learn(sums: Any, lead: Any, score: Any) -> Any:
    """Add a row to the sums of leads, of scores, of their squares, and of their products; all float64."""
    x, y = np.float64(lead), np.float64(score)
    return sums[0] + x, sums[1] + y, sums[2] + x * x, sums[3] + y * y, sums[4] + x * y


@device
def lowest_lead(sums: Any, count: Any, energy: Any, margin: Any, score: Any) -> Any:
    """The lowest lead that is expected of a row with this score, float32.

    Such a row may be like others: then the line that leads and scores of the rows seen lie about tells its
    lead. Or it lies around the query itself, and its lead has the share that the query's own has in its
    squares, `energy`. The lower of both, less `margin` standard deviations from that line.
    """
    lead, middle = sums[0] / count, sums[1] / count
    variance = max(sums[3] / count - middle * middle, TINY)
    together = sums[4] / count - lead * middle
    spread = np.sqrt(max(sums[2] / count - lead * lead - together * together / variance, 0.0))
    beyond = score - middle
    return np.float32(lead + min(together / variance * beyond, energy * beyond) - margin * spread)


@device
def narrow(table: Any, length: Any, least: Any, pending: Any, waiting: Any, leads: Any) -> Any:
    """Keep the first row, and those whose leads are not below `least`; gives their number.

    The rest of their codes is asked for.
    """
    kept, stride, address = 0, table[t.STRIDE], leads.ctypes.data
    for start in range(0, waiting, 16):
        bits = not_below(address + 4 * start, least) | np.int64(start == 0)
        while bits != 0:
            j = start + lowest_bit(bits)
            bits &= bits - 1
            if j >= waiting:
                break
            pending[kept], leads[kept] = pending[j], leads[j]
            kept += 1
            prefetch(table[t.CODES] + pending[j] * stride + length, stride - length)
    return kept


@device
def collect(table: Any, allowed: Any, start: Any, stop: Any, length: Any, pending: Any, waiting: Any) -> Any:
    """Append the allowed ones of the rows [start, stop), TILE at most, to pending; gives its length.

    The first `length` bytes of their codes are asked for.
    """
    stride = table[t.STRIDE]
    if allowed == 0:
        for row in range(start, stop):
            pending[waiting] = row
            waiting += 1
            prefetch(table[t.CODES] + row * stride, length)
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
        prefetch(table[t.CODES] + row * stride, length)
    return waiting


@device
def score_pending(
    table: Any, code: Any, length: Any, scale: Any, bias: Any, pending: Any, waiting: Any, scores: Any
) -> None:
    """Scores of pending[:waiting], four at a time; scores: float32, as long as pending. See score_four."""
    codes, stride, last = table[t.CODES], table[t.STRIDE], waiting - 1
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


@device
def add_unprefixed(table: Any, allowed: Any, listed: Any, count: Any) -> Any:
    """Put the rows without a usable prefix, which no code can find, behind the shortlist; gives its length.

    Their list is ascending; what is not (damage) is passed over, so no row comes twice.
    """
    n, previous = np.uint64(table[t.ROWS]), np.int64(-1)
    for i in range(table[t.UNPREFIXED_COUNT]):
        row = np.int64(load_row(table[t.UNPREFIXED] + 4 * i))
        if np.uint64(row) >= n or row <= previous:
            continue
        previous = row
        if allowed == 0 or load_byte(allowed + row) != 0:
            listed[count] = row
            count += 1
    return count


@device
def finish(
    table: Any, query: Any, work: Any, allowed: Any, coded: Any, k: Any, margin: Any, rows: Any, scores: Any
) -> Any:
    """Add the rows that no code can find to a shortlist of `coded` rows, and re-rank it.

    Gives (rows of the answer, full rows scored); with k = 0 the length of the shortlist, and `coded`.
    """
    count = add_unprefixed(table, allowed, longs(work[w.LISTED], work[w.SHORTLIST]), coded)
    if k == 0:
        return count, coded
    return rerank_list(table, query, work, coded, count, k, margin, rows, scores)


@device
def list_by_scan(
    table: Any, work: Any, code: Any, scale: Any, bias: Any, allowed: Any, shortlist: Any, margin: Any
) -> Any:
    """Leave the best `shortlist` allowed rows by code in `work`, best first: (their number, rows seen)."""
    listed, scores = longs(work[w.LISTED], work[w.SHORTLIST]), floats(work[w.LIST_SCORES], work[w.SHORTLIST])
    room = work[w.PENDING_SIZE]
    pending, pending_scores = longs(work[w.PENDING], room), floats(work[w.PENDING_SCORES], room)
    count, seen = scan_codes(
        table, code, scale, bias, allowed, shortlist, margin, scores, listed,
        pending, pending_scores, floats(work[w.LEADS], room),
    )  # fmt: skip
    best_first(scores, listed, count, table[t.KEYS])
    return count, seen


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, float32,"
    " int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_scan(
    table: Any, queries: Any, work: Any, allowed: Any, shortlist: Any, margin: Any, rows: Any,
    scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query scan the codes, re-rank the best `shortlist`, write the best k rows and scores.

    The arguments are those of search_walk.
    """
    padded, code, rotated_code = floats(work[w.PADDED], work[w.NUMBERS]), work[w.CODE], work[w.ROTATED_CODE]
    place = 0
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        count, counts[q, 2] = list_by_scan(table, work, address, scale, bias, allowed, shortlist, margin)
        counts[q, 0], counts[q, 1] = finish(
            table, queries[q], work, allowed, count, rows.shape[1], margin, rows[q], scores[q]
        )
        place = counts[q, 3] = write_ids(table, rows[q], counts[q, 0], ids, place)
