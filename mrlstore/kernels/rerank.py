"""Exact scores of full rows: dot(query, float16 row) x inv_norm in float32, limited to [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import scratch
from .bits import square_root
from .dot import dot_half, dot_half_squares
from .group_table import DIM, ID_BYTES, ID_STARTS, ID_TEXT, INV_NORMS, KEYS, ROWS, VECTORS
from .jit import device, kernel
from .memory import load_byte, load_float, load_long, prefetch
from .topk import best_first, insert, offer, pack
from .views import floats, longs

SAME = np.float32(1e-6)  # scores that differ by less are the same: many copies are not scored one by one
FEWEST_SCORED = 12  # rows from which the spread of code scores about exact ones is estimated, at least
SEPARATOR = 0  # written behind each id; ids that hold this byte are read by Python


@device
def clipped(score: Any) -> Any:
    """A score limited to [-1, 1]; a NaN, which only damaged rows give, becomes -1."""
    if not score > np.float32(-1):
        return np.float32(-1)
    return min(score, np.float32(1))


@device
def exact_score(table: Any, query: Any, row: Any, following: Any) -> Any:
    """The score, float32, of one row; the row `following` is prefetched meanwhile.

    query: address of float32 [dim], unit length. Both row numbers are below n.
    """
    dim = table[DIM]
    row_bytes = 2 * dim
    prefetch(table[INV_NORMS] + 4 * following, 1)
    dot = dot_half(query, table[VECTORS] + row * row_bytes, dim, table[VECTORS] + following * row_bytes)
    return clipped(dot * load_float(table[INV_NORMS] + 4 * row))


@device
def rerank_rows(
    table: Any, query: Any, listed: Any, count: Any, scores: Any, rows: Any, size: Any, k: Any
) -> Any:
    """Offer rows to a heap by exact score; gives the heap's new size. Row numbers of n and above are skipped.

    query: address of float32 [dim]; listed: int64 [count]; scores: float32 [k]; rows: int64 [k].
    """
    last = count - 1
    n = np.uint64(table[ROWS])
    for i in range(count):
        row = listed[i]
        if np.uint64(row) < n:
            score = exact_score(table, query, row, listed[min(i + 1, last)])
            size = offer(scores, rows, size, k, score, row, table[KEYS])
    return size


@device
def rerank_while(
    table: Any, query: Any, listed: Any, codes: Any, count: Any, scores: Any, rows: Any, size: Any, k: Any,
    stop_margin: Any, exact: Any,
) -> Any:  # fmt: skip
    """Offer a shortlist to a heap by exact score, until the rest can hardly enter.

    Gives (the heap's new size, rows scored, sum of the squared differences of code and exact scores).
    listed: int64 [count], by falling code score; codes: float32 [count], those scores; scores: float32 [k]
    and rows: int64 [k], the heap, of which there are `size`. exact: int64, empty, or a beam that holds
    `count`: it receives the exact scores with the positions in `listed`, best first.

    How far the code scores of this query lie above its exact scores is learned from the rows scored so far.
    The re-rank ends at a code score that is `stop_margin` standard deviations too low for the row to enter
    the best k: the test of ADSampling (Gao and Long, 2023), with the distribution taken from the query
    itself. With stop_margin 0 all are scored.
    """
    last, n, scored = count - 1, np.uint64(table[ROWS]), 0
    total, squared = np.float32(0), np.float32(0)
    for i in range(count):
        row = listed[i]
        if np.uint64(row) >= n:
            continue
        if stop_margin > 0 and size >= k and scored >= FEWEST_SCORED:
            mean = total / np.float32(scored)
            spread = square_root(max(squared / np.float32(scored) - mean * mean, np.float32(0)))
            if codes[i] - mean + stop_margin * spread < scores[0] + SAME:
                break
        score = exact_score(table, query, row, listed[min(i + 1, last)])
        size = offer(scores, rows, size, k, score, row, table[KEYS])
        off = codes[i] - score
        total += off
        squared += off * off
        if exact.size > 0:
            insert(exact, scored, exact.size - 16, pack(score, i))
        scored += 1
    return size, scored, squared


@device
def rerank_list(
    table: Any, query: Any, memory: Any, coded: Any, count: Any, k: Any, stop_margin: Any, rows: Any,
    scores: Any,
) -> Any:  # fmt: skip
    """Re-rank the shortlist in `memory`: `coded` rows by falling code score, then others up to `count`.

    Writes the best k, best first, to rows: int64 [k] and scores: float32 [k]. query: float32 [dim].
    Gives (rows written, full rows scored).
    """
    listed, codes = (
        longs(memory[scratch.LISTED], memory[scratch.SHORTLIST]),
        floats(memory[scratch.LIST_SCORES], memory[scratch.SHORTLIST]),
    )
    address = query.ctypes.data
    size, scored, _ = rerank_while(
        table, address, listed, codes, coded, scores, rows, 0, k, stop_margin, listed[:0]
    )
    size = rerank_rows(table, address, listed[coded:count], count - coded, scores, rows, size, k)
    best_first(scores, rows, size, table[KEYS])
    return size, scored + count - coded


@device
def write_ids(table: Any, rows: Any, size: Any, written: Any, end: Any) -> Any:
    """Write the ids of rows[:size] to `written`: uint8, from position `end` on, SEPARATOR after each.

    Gives where they end. Gives -1 where the group has no ids, `written` is too short, an id holds the
    SEPARATOR, or the id table is damaged: the caller then reads the ids one by one. rows: int64. The text of
    all ids is prefetched before the first is copied.
    """
    starts, text = table[ID_STARTS], table[ID_TEXT]
    if starts == 0 or end < 0 or size > rows.size:
        return -1
    for i in range(size):
        prefetch(starts + 8 * rows[i], 16)
    for i in range(size):
        prefetch(text + load_long(starts + 8 * rows[i]), 1)
    for i in range(size):
        end = write_id(table, rows[i], written, end)
        if end < 0:
            return -1
    return end


@device
def write_id(table: Any, row: Any, written: Any, end: Any) -> Any:
    """Write the id of one row, see write_ids."""
    starts, text = table[ID_STARTS], table[ID_TEXT]
    start, stop = load_long(starts + 8 * row), load_long(starts + 8 * row + 8)
    if not 0 <= start <= stop <= table[ID_BYTES] or stop - start >= written.size - end:
        return -1
    for at in range(text + start, text + stop):
        byte = load_byte(at)
        if byte == SEPARATOR:
            return -1
        written[end] = byte
        end += 1
    written[end] = SEPARATOR
    return end + 1


@kernel(
    "UniTuple(int64, 2)(int64[::1], float32[::1], int64[::1], int64, int64, int64, float32, int64[::1],"
    " float32[::1])"
)
def rerank(
    table: Any, query: Any, memory: Any, coded: Any, count: Any, k: Any, stop_margin: Any, rows: Any,
    scores: Any,
) -> Any:  # fmt: skip
    """As rerank_list: a kernel of its own, for searches that read rows from the disk in between."""
    return rerank_list(table, query, memory, coded, count, k, stop_margin, rows, scores)


@kernel(
    "void(int64[::1], float32[::1], int64[::1], int64, int64, float32[::1], int64[::1], float32[::1],"
    " int64[::1])"
)
def rerank_ends(
    table: Any, query: Any, memory: Any, coded: Any, k: Any, stop_margins: Any, rows: Any, scores: Any,
    ends: Any,
) -> None:  # fmt: skip
    """Write to `ends` how many of the `coded` rows in `memory` rerank_while scores at each stop margin.

    stop_margins: float32 [m], rising, above 0; ends: int64 [m]; rows: int64 [k] and scores: float32 [k] are
    working memory. All ends are found in one pass, since the rows scored until then are the same.
    """
    listed, codes = (
        longs(memory[scratch.LISTED], memory[scratch.SHORTLIST]),
        floats(memory[scratch.LIST_SCORES], memory[scratch.SHORTLIST]),
    )
    address, n, size, scored, ended = query.ctypes.data, np.uint64(table[ROWS]), 0, 0, 0
    total, squared = np.float32(0), np.float32(0)
    for i in range(coded):
        row = listed[i]
        if np.uint64(row) >= n:
            continue
        if size >= k and scored >= FEWEST_SCORED:
            mean = total / np.float32(scored)
            spread = square_root(max(squared / np.float32(scored) - mean * mean, np.float32(0)))
            while ended < ends.size and codes[i] - mean + stop_margins[ended] * spread < scores[0] + SAME:
                ends[ended] = scored
                ended += 1
            if ended == ends.size:
                return
        score = exact_score(table, address, row, listed[min(i + 1, coded - 1)])
        size = offer(scores, rows, size, k, score, row, table[KEYS])
        off = codes[i] - score
        total += off
        squared += off * off
        scored += 1
    for i in range(ended, ends.size):
        ends[i] = scored


@kernel("UniTuple(int64, 2)(int64[::1], float32[::1], int64, int64, int64, int64[::1], float32[::1])")
def exact(table: Any, query: Any, dim: Any, allowed: Any, k: Any, rows: Any, scores: Any) -> Any:
    """Score every allowed row on its first `dim` dims, write the best k; gives (rows written, scored).

    query: float32 [dim], unit length. With dim below the group's own the score is the cosine of the first dim
    dims. rows: int64 [k]; scores: float32 [k].
    """
    address, n, size, scored = query.ctypes.data, table[ROWS], 0, 0
    row_bytes = 2 * table[DIM]
    whole = dim == table[DIM]
    for row in range(n):
        if allowed != 0 and load_byte(allowed + row) == 0:
            continue
        scored += 1
        if whole:
            score = exact_score(table, address, row, min(row + 1, n - 1))
        else:
            start = table[VECTORS] + row * row_bytes
            dot, squares = dot_half_squares(address, start, dim, start + row_bytes)
            score = clipped(dot / square_root(max(squares, np.float32(1e-30))))
        size = offer(scores, rows, size, k, score, row, table[KEYS])
    best_first(scores, rows, size, table[KEYS])
    return size, scored
