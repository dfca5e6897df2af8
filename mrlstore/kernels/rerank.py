"""Exact scores on full rows: dot(query, float16 row) x inv_norm in float32, clipped to [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table as t
from .dot import dot_half, dot_half_squares, load_byte, load_float
from .jit import device, kernel
from .topk import best_first, offer


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


@kernel("int64(int64[::1], float32[::1], int64[::1], int64, int64, float32[::1], int64[::1])")
def rerank(table: Any, query: Any, listed: Any, count: Any, k: Any, scores: Any, rows: Any) -> Any:
    """Score the rows listed [count], int64; write the best k, best first, and give how many there are."""
    size = rerank_rows(table, query.ctypes.data, listed, count, scores, rows, 0, k)
    best_first(scores, rows, size, table[t.KEYS])
    return size


@kernel("int64(int64[::1], float32[::1], int64, int64, int64, float32[::1], int64[::1], int64[::1])")
def exact(table: Any, query: Any, dim: Any, allowed: Any, k: Any, scores: Any, rows: Any, counts: Any) -> Any:
    """Score every row that is allowed (address of uint8 [n], or 0); write the best k, give how many.

    With dim below the full one: cosine of the first dim dims; query is then of unit length there.
    counts[1] receives the number of rows scored.
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
    counts[1] = scored
    return size


@kernel("float64(float32[::1], int64)")
def normalise(vector: Any, prefix_dim: Any) -> Any:
    """Bring the vector to unit length in place; gives the length of its prefix as a part of the whole."""
    prefix = squares(vector, 0, min(prefix_dim, vector.size))
    whole = prefix + squares(vector, min(prefix_dim, vector.size), vector.size)
    factor = 1.0 / np.sqrt(whole)
    for i in range(vector.size):
        vector[i] = np.float32(vector[i] * factor)
    return np.sqrt(prefix / whole)


@device
def squares(vector: Any, start: Any, stop: Any) -> Any:
    """Sum of squares in float64, which no float32 overflows, as four sums side by side."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = stop - (stop - start) % 4
    for i in range(start, whole, 4):
        a += np.float64(vector[i]) * np.float64(vector[i])
        b += np.float64(vector[i + 1]) * np.float64(vector[i + 1])
        c += np.float64(vector[i + 2]) * np.float64(vector[i + 2])
        d += np.float64(vector[i + 3]) * np.float64(vector[i + 3])
    for i in range(whole, stop):
        a += np.float64(vector[i]) * np.float64(vector[i])
    return (a + b) + (c + d)
