"""Keeping the best: a heap for any k, and a sorted beam for walks.

Better means a higher score; equal scores go by the smaller key (heap) or the smaller row (beam).
"""

from __future__ import annotations

from typing import Any

from .dot import load_long
from .jit import device


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
        right = child + 1
        if right < size and worse(scores[right], rows[right], scores[child], rows[child], keys):
            child = right
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
def insert(scores: Any, rows: Any, size: Any, limit: Any, score: Any, row: Any) -> Any:
    """Put a row into a beam (sorted, best first) of at most `limit`; gives its place, or `limit` if refused.

    rows: int32, a row, or minus row minus 1 once it has been expanded.
    """
    if size >= limit and not score > scores[size - 1]:
        return limit
    at = min(size, limit - 1)
    while at > 0 and scores[at - 1] < score:
        scores[at], rows[at] = scores[at - 1], rows[at - 1]
        at -= 1
    scores[at], rows[at] = score, row
    return at
