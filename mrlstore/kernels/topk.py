"""Keeps the best rows: a heap for any k, and a sorted beam for walks.

Better means a higher score. Of equal scores the smaller row key is better in a heap, the smaller row number
in a beam.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .bits import bits_float, count_greater, float_bits
from .group_table import LAST_ROW
from .jit import device
from .memory import load_long, move

LOWEST: Final = -(2**63)  # the smallest int64


@device
def worse(score: Any, row: Any, other_score: Any, other_row: Any, keys: Any) -> Any:
    """Whether (score, row) comes after (other_score, other_row).

    keys: address of int64 [n], the row keys, by which equal scores go.
    """
    if score != other_score:
        return score < other_score
    return load_long(keys + 8 * row) > load_long(keys + 8 * other_row)


@device
def sift_down(scores: Any, rows: Any, size: Any, at: Any, keys: Any) -> None:
    """Restore the heap, worst at the root, below position `at`. scores: float32; rows: int64."""
    score, row = scores[at], rows[at]
    child = 2 * at + 1
    while child < size:
        right = min(child + 1, size - 1)
        if scores[right] == scores[child]:
            if worse(scores[right], rows[right], scores[child], rows[child], keys):
                child = right
        else:  # without a branch, which the processor could not predict
            child += np.int64(scores[right] < scores[child])
        if not worse(scores[child], rows[child], score, row, keys):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
        child = 2 * at + 1
    scores[at], rows[at] = score, row


@device
def offer(scores: Any, rows: Any, size: Any, k: Any, score: Any, row: Any, keys: Any) -> Any:
    """Put a row into a heap of at most k; gives the heap's new size.

    scores: float32 [k]; rows: int64 [k]; size: how many of them are the heap.
    """
    if size >= k:
        if worse(scores[0], rows[0], score, row, keys):
            scores[0], rows[0] = score, row
            sift_down(scores, rows, size, 0, keys)
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not worse(score, row, scores[parent], rows[parent], keys):
            break
        scores[at], rows[at] = scores[parent], rows[parent]
        at = parent
    scores[at], rows[at] = score, row
    return size + 1


@device
def best_first(scores: Any, rows: Any, size: Any, keys: Any) -> None:
    """Sort a heap of `size` in place, best first. scores: float32; rows: int64."""
    while size > 1:
        size -= 1
        score, row = scores[0], rows[0]
        scores[0], rows[0] = scores[size], rows[size]
        scores[size], rows[size] = score, row
        sift_down(scores, rows, size, 0, keys)


@device
def pack(score: Any, row: Any) -> Any:
    """A score, float32, and a row as one int64, which orders by score and then by the smaller row.

    The lowest bit is free: walks set it for entries that they have expanded.
    """
    bits = float_bits(score)
    rising = np.int64(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
    return (rising << 32) | ((LAST_ROW - np.int64(row)) << 1)


@device
def packed_row(entry: Any) -> Any:
    """The row of a packed entry."""
    return LAST_ROW - ((entry & 0xFFFFFFFF) >> 1)


@device
def packed_score(entry: Any) -> Any:
    """The score, float32, of a packed entry."""
    rising = np.int32(entry >> 32)
    return bits_float(rising ^ ((rising >> 31) & np.int32(0x7FFFFFFF)))


@device
def clear(beam: Any, start: Any, stop: Any) -> None:
    """Set positions [start, stop) of a beam to a value lower than any entry."""
    for i in range(start, stop):
        beam[i] = LOWEST


@device
def insert(beam: Any, size: Any, limit: Any, entry: Any) -> Any:
    """Put an entry into a beam: int64 [limit + 16], best first, at most `limit`; gives its position.

    Gives `limit` where it is refused. Whoever shortens a beam has to clear what lies behind its new end. The
    position is counted, not searched for: the processor can't predict the branches of a search.
    """
    if size >= limit and entry <= beam[size - 1]:
        return limit
    if size % 16 == 0:
        clear(beam, size, size + 16)
    low = count_greater(beam.ctypes.data, size, entry)
    start = beam.ctypes.data + 8 * low
    move(start + 8, start, 8 * (min(size, limit - 1) - low))
    beam[low] = entry
    return low
