"""Exact scores on full rows: dot(query, float16 row) x inv_norm in float32, clipped to [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlstore.kernels import group_table as t

from . import scratch as w
from .dot import (
    dot_half,
    dot_half_squares,
    load_byte,
    load_float,
    load_long,
    prefetch,
    sum_of_squares,
)
from .jit import device, kernel
from .topk import best_first, offer
from .views import floats, longs

LEAST = 12  # rows that are re-ranked before the rest of a shortlist may be left out
SEPARATOR = 0  # behind each id; one that holds it is rare
SMALL, LARGE = 1e-30, 1e37  # squared lengths that float32 holds without trouble


@device
def clipped(score: Any) -> Any:
    """Into [-1, 1]; what is not a number (damaged rows only) becomes -1."""
    if not score > np.float32(-1):
        return np.float32(-1)
    return min(score, np.float32(1))


@device
def exact_score(table: Any, query: Any, row: Any, following: Any) -> Any:
    """The score of one row; query: address of float32 [dim]; the row `following` is prefetched meanwhile."""
    dim = table[t.DIM]
    row_bytes = 2 * dim
    prefetch(table[t.INV_NORMS] + 4 * following, 1)
    dot = dot_half(query, table[t.VECTORS] + row * row_bytes, dim, table[t.VECTORS] + following * row_bytes)
    return clipped(dot * load_float(table[t.INV_NORMS] + 4 * row))


@device
def rerank_rows(
    table: Any, query: Any, listed: Any, count: Any, scores: Any, rows: Any, size: Any, k: Any
) -> Any:
    """Offer rows, listed: int64 [count], to a heap by exact score; those beyond the group are passed over."""
    last = count - 1
    n = np.uint64(table[t.ROWS])
    for i in range(count):
        row = listed[i]
        if np.uint64(row) < n:
            score = exact_score(table, query, row, listed[min(i + 1, last)])
            size = offer(scores, rows, size, k, score, row, table[t.KEYS])
    return size


@device
def rerank_while(
    table: Any, query: Any, listed: Any, codes: Any, count: Any, scores: Any, rows: Any, k: Any, margin: Any
) -> Any:
    """The same for a shortlist by falling code score, as long as it is worth while; also gives how many.

    How far the exact scores of this query lie from its code scores is learned on the way: once a code score
    is `margin` standard deviations too low for the row to enter the best k, the rest is left out. The test
    is that of ADSampling (Gao and Long, 2023) with the distribution taken from the query itself. codes:
    float32 [count]. With margin 0 all are scored.
    """
    last, n, size, scored = count - 1, np.uint64(table[t.ROWS]), 0, 0
    total, squared = np.float32(0), np.float32(0)
    for i in range(count):
        row = listed[i]
        if np.uint64(row) >= n:
            continue
        if margin > 0 and size >= k and scored >= LEAST:
            mean = total / np.float32(scored)
            spread = np.sqrt(max(squared / np.float32(scored) - mean * mean, np.float32(0)))
            if codes[i] - mean + margin * spread < scores[0]:
                break
        score = exact_score(table, query, row, listed[min(i + 1, last)])
        size = offer(scores, rows, size, k, score, row, table[t.KEYS])
        off = codes[i] - score
        total += off
        squared += off * off
        scored += 1
    return size, scored


@device
def rerank_list(
    table: Any, query: Any, work: Any, coded: Any, count: Any, k: Any, margin: Any, rows: Any, scores: Any
) -> Any:
    """The second stage: the best k of the shortlist in `work`, `coded` rows by code score and then others.

    rows: int64 [k], scores: float32 [k]. Gives (rows of the answer, full rows scored).
    """
    listed, codes = longs(work[w.LISTED], work[w.SHORTLIST]), floats(work[w.LIST_SCORES], work[w.SHORTLIST])
    address = query.ctypes.data
    size, scored = rerank_while(table, address, listed, codes, coded, scores, rows, k, margin)
    size = rerank_rows(table, address, listed[coded:count], count - coded, scores, rows, size, k)
    best_first(scores, rows, size, table[t.KEYS])
    return size, scored + count - coded


@device
def write_ids(table: Any, rows: Any, size: Any, written: Any, place: Any) -> Any:
    """Write the ids of rows[:size] to `written`: uint8, from `place` on, SEPARATOR after each.

    Gives where they end; -1 where the group has no ids, where there is no room, where an id holds the
    SEPARATOR, or where their places are damaged: the ids are then to be read one by one. All are on their way
    from memory before the first is waited for.
    """
    starts, text = table[t.ID_STARTS], table[t.ID_TEXT]
    if starts == 0 or place < 0 or size > rows.size:
        return -1
    for i in range(size):
        prefetch(starts + 8 * rows[i], 16)
    for i in range(size):
        prefetch(text + load_long(starts + 8 * rows[i]), 1)
    for i in range(size):
        start, stop = load_long(starts + 8 * rows[i]), load_long(starts + 8 * rows[i] + 8)
        if not 0 <= start <= stop <= table[t.ID_BYTES] or stop - start >= written.size - place:
            return -1
        for at in range(text + start, text + stop):
            byte = load_byte(at)
            if byte == SEPARATOR:
                return -1
            written[place] = byte
            place += 1
        written[place] = SEPARATOR
        place += 1
    return place


@kernel(
    "UniTuple(int64, 2)(int64[::1], float32[::1], int64[::1], int64, int64, int64, float32, int64[::1],"
    " float32[::1])"
)
def rerank(
    table: Any, query: Any, work: Any, coded: Any, count: Any, k: Any, margin: Any, rows: Any, scores: Any
) -> Any:
    """The same, called by itself."""
    return rerank_list(table, query, work, coded, count, k, margin, rows, scores)


@kernel("UniTuple(int64, 2)(int64[::1], float32[::1], int64, int64, int64, int64[::1], float32[::1])")
def exact(table: Any, query: Any, dim: Any, allowed: Any, k: Any, rows: Any, scores: Any) -> Any:
    """Score every row that is allowed (address of uint8 [n], or 0) and write the best k: rows, scores [k].

    With dim below the full one: cosine of the first dim dims; query is then of unit length there. Gives
    (rows written, rows scored).
    """
    address, n, size, scored = query.ctypes.data, table[t.ROWS], 0, 0
    row_bytes = 2 * table[t.DIM]
    whole = dim == table[t.DIM]
    for row in range(n):
        if allowed != 0 and load_byte(allowed + row) == 0:
            continue
        scored += 1
        if whole:
            score = exact_score(table, address, row, min(row + 1, n - 1))
        else:
            start = table[t.VECTORS] + row * row_bytes
            dot, squares = dot_half_squares(address, start, dim, start + row_bytes)
            score = clipped(dot / np.sqrt(max(squares, np.float32(1e-30))))
        size = offer(scores, rows, size, k, score, row, table[t.KEYS])
    best_first(scores, rows, size, table[t.KEYS])
    return size, scored


@kernel("boolean(float32[:, ::1], int64, float64[::1])")
def normalise(vectors: Any, prefix_dim: Any, norms: Any) -> Any:
    """Bring rows [m, dim] to unit length in place; norms [m]: the length of each prefix, as a part.

    False, at the first row whose length is zero, not finite, or beyond what float32 squares hold.
    """
    m, size = vectors.shape
    prefix_dim = min(prefix_dim, size)
    for row in range(m):
        address = vectors[row].ctypes.data
        prefix = sum_of_squares(address, prefix_dim)
        whole = prefix + sum_of_squares(address + 4 * prefix_dim, size - prefix_dim)
        if not SMALL < whole < LARGE:
            return False
        factor = np.float32(1.0 / np.sqrt(np.float64(whole)))
        for i in range(size):
            vectors[row, i] *= factor
        norms[row] = np.sqrt(np.float64(prefix) / np.float64(whole))
    return True
