"""Scan the codes of a group: the way for small groups and for filters that let few rows through."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table as t
from . import scratch as w
from .dot import load_byte, load_row, lowest_bit, nonzero_bytes, prefetch
from .encode import NO_PREFIX, encode_query, score_four
from .jit import device, kernel
from .rerank import rerank_list, write_ids
from .topk import best_first, offer
from .views import floats, longs

TILE = 64  # rows whose bytes in a mask are looked at together


@device
def scan_codes(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, limit: Any, scores: Any, rows: Any,
    pending: Any, pending_scores: Any,
) -> Any:  # fmt: skip
    """Heap of the best `limit` allowed rows by code; gives (size, rows scored).

    Rows are collected first and scored then, so that many codes are on the way from memory at a time.
    pending: int64 [>= TILE], for rows to be scored; pending_scores: float32, as long.
    """
    n, size, scored, waiting = table[t.ROWS], 0, 0, 0
    for start in range(0, n, TILE):
        waiting = collect(table, allowed, start, min(start + TILE, n), pending, waiting)
        if waiting <= pending.size - TILE and start + TILE < n:
            continue
        score_pending(table, code, scale, bias, pending, waiting, pending_scores)
        for j in range(waiting):
            score = pending_scores[j]
            if score > NO_PREFIX and (size < limit or score >= scores[0]):
                size = offer(scores, rows, size, limit, score, pending[j], table[t.KEYS])
        scored += waiting
        waiting = 0
    return size, scored


@device
def collect(table: Any, allowed: Any, start: Any, stop: Any, pending: Any, waiting: Any) -> Any:
    """Append the allowed ones of the rows [start, stop), TILE at most, to pending; gives its length."""
    if allowed == 0:
        for row in range(start, stop):
            pending[waiting] = row
            waiting += 1
        return waiting
    bits = np.int64(0)
    if stop - start == TILE:
        bits = nonzero_bytes(allowed + start)
    else:
        for i in range(stop - start):
            bits |= np.int64(load_byte(allowed + start + i) != 0) << i
    stride = table[t.STRIDE]
    while bits != 0:
        row = start + lowest_bit(bits)
        bits &= bits - 1
        pending[waiting] = row
        waiting += 1
        prefetch(table[t.CODES] + row * stride, stride)
    return waiting


@device
def score_pending(
    table: Any, code: Any, scale: Any, bias: Any, pending: Any, waiting: Any, scores: Any
) -> None:
    """Scores of pending[:waiting], four at a time; scores: float32, as long as pending."""
    codes, stride, last = table[t.CODES], table[t.STRIDE], waiting - 1
    for j in range(0, waiting, 4):
        b, c, d = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        scores[j], scores[b], scores[c], scores[d] = score_four(
            codes + pending[j] * stride,
            codes + pending[b] * stride,
            codes + pending[c] * stride,
            codes + pending[d] * stride,
            stride, code, scale, bias,
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


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, float32,"
    " int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_scan(
    table: Any, queries: Any, work: Any, allowed: Any, shortlist: Any, margin: Any, rows: Any,
    scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query scan the codes, re-rank the best `shortlist`, write the best k rows and scores.

    The arguments are those of search_walk. counts: [m, 6], the fifth zero.
    """
    padded, code, rotated_code = floats(work[w.PADDED], work[w.NUMBERS]), work[w.CODE], work[w.ROTATED_CODE]
    listed, list_scores = (
        longs(work[w.LISTED], work[w.SHORTLIST]),
        floats(work[w.LIST_SCORES], work[w.SHORTLIST]),
    )
    pending = longs(work[w.PENDING], work[w.PENDING_SIZE])
    pending_scores = floats(work[w.PENDING_SCORES], work[w.PENDING_SIZE])
    place = 0
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        count, counts[q, 2] = scan_codes(
            table, address, scale, bias, allowed, shortlist, list_scores, listed, pending, pending_scores
        )
        best_first(list_scores, listed, count, table[t.KEYS])
        counts[q, 0], counts[q, 1] = finish(
            table, queries[q], work, allowed, count, rows.shape[1], margin, rows[q], scores[q]
        )
        place = write_ids(table, rows[q], counts[q, 0], ids, place)
        counts[q, 3], counts[q, 4], counts[q, 5] = count, 0, place
