"""Keeping the best: a heap for any k, and a sorted beam for walks.

Better means a higher score; equal scores go by the smaller key (heap) or the smaller row (beam).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .dot import bits_float, count_greater, float_bits, load_long, move
from .jit import device

LAST_ROW: Final = 0x7FFFFFFF
LOWEST: Final = -(2**63)  # of int64


@device
def worse(score: Any, row: Any, other_score: Any, other_row: Any, keys: Any) -> Any:
    """Whether (score, row) comes after (other_score, other_row); keys: address of int64 [n]."""
    if score != other_score:
        return score < other_score
    return load_long(keys + 8 * row) > load_long(keys + 8 * other_row)


@device
def sift_down(scores: Any, rows: Any, size: Any, at: Any, keys: Any) -> None:
    """Restore the heap (worst at the root) below position `at`; scores float32, rows int64."""
    score, row = scores[at], rows[at]
    child = 2 * at + 1
    while child < size:
        right = min(child + 1, size - 1)
        if scores[right] == scores[child]:
            if worse(scores[right], rows[right], scores[child], rows[child], keys):
                child = right
        else:  # without a branch: which way it would turn the processor can't foresee
            child += np.int64(scores[right] < scores[child])
        if not worse(scores[child], rows[child], score, row, keys):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
        child = 2 * at + 1
    scores[at], rows[at] = score, row


@device
def offer(scores: Any, rows: Any, size: Any, k: Any, score: Any, row: Any, keys: Any) -> Any:
    """Put a row into a heap of at most k; gives the heap's new size."""
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
    """Sort a heap in place, best first."""
    while size > 1:
        size -= 1
        score, row = scores[0], rows[0]
        scores[0], rows[0] = scores[size], rows[size]
        scores[size], rows[size] = score, row
        sift_down(scores, rows, size, 0, keys)


@device
def pack(score: Any, row: Any) -> Any:
    """One int64 that orders as the beam does: by score, then by the smaller row. The lowest bit is free."""
    bits = float_bits(score)
    rising = np.int64(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
    return (rising << 32) | ((LAST_ROW - np.int64(row)) << 1)


@device
def packed_row(entry: Any) -> Any:
    """The row of an entry."""
    return LAST_ROW - ((entry & 0xFFFFFFFF) >> 1)


@device
def packed_score(entry: Any) -> Any:
    """The score of an entry."""
    rising = np.int32(entry >> 32)
    return bits_float(rising ^ ((rising >> 31) & np.int32(0x7FFFFFFF)))


@device
def clear(beam: Any, start: Any, stop: Any) -> None:
    """Make places [start, stop) of a beam lower than any entry."""
    for i in range(start, stop):
        beam[i] = LOWEST


@device
def insert(beam: Any, size: Any, limit: Any, entry: Any) -> Any:
    """Put an entry into a beam: int64 [limit + 16], best first, at most `limit`; gives its place.

    Gives `limit` if it is refused. Whoever makes a beam shorter has to clear what it leaves. An entry's place
    is counted, not searched for: which way a search turns the processor can't foresee.
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
