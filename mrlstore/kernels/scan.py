"""Scan the codes of a group: the way for small groups and for filters that let few rows through."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table as t
from . import scratch as w
from .dot import load_byte, load_row, prefetch
from .encode import NO_PREFIX, encode_query, score_code
from .jit import device, kernel
from .rerank import rerank_list
from .topk import best_first, offer
from .views import floats, longs

AHEAD = 4  # allowed rows that are prefetched before they are scored


@device
def scan_codes(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, limit: Any, scores: Any, rows: Any
) -> Any:
    """Heap of the best `limit` allowed rows by code; gives (size, rows scored)."""
    n, stride, codes = table[t.ROWS], table[t.STRIDE], table[t.CODES]
    size, scored, row, ahead = 0, 0, 0, 0
    between = 0  # allowed rows between row and ahead, prefetched and not yet scored
    while row < n:
        while between < AHEAD and ahead < n:
            if allowed == 0 or load_byte(allowed + ahead) != 0:
                prefetch(codes + ahead * stride, stride)
                between += 1
            ahead += 1
        if allowed == 0 or load_byte(allowed + row) != 0:
            between -= 1
            scored += 1
            score = score_code(codes + row * stride, stride, code, scale, bias)
            if score > NO_PREFIX:
                size = offer(scores, rows, size, limit, score, row, table[t.KEYS])
        row += 1
    return size, scored


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
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, int64, float32,"
    " int64[:, ::1], float32[:, ::1], int64[:, ::1])"
)
def search_scan(
    table: Any, queries: Any, work: Any, allowed: Any, shortlist: Any, k: Any, margin: Any,
    rows: Any, scores: Any, counts: Any,
) -> None:  # fmt: skip
    """For each query scan the codes, re-rank the best `shortlist`, write the best k rows and scores.

    The arguments are those of search_walk. counts: [m, >= 3]: rows written, full rows scored, codes scored.
    """
    padded, code, rotated_code = floats(work[w.PADDED], work[w.NUMBERS]), work[w.CODE], work[w.ROTATED_CODE]
    listed, list_scores = (
        longs(work[w.LISTED], work[w.SHORTLIST]),
        floats(work[w.LIST_SCORES], work[w.SHORTLIST]),
    )
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        count, counts[q, 2] = scan_codes(table, address, scale, bias, allowed, shortlist, list_scores, listed)
        best_first(list_scores, listed, count, table[t.KEYS])
        counts[q, 0], counts[q, 1] = finish(
            table, queries[q], work, allowed, count, k, margin, rows[q], scores[q]
        )
