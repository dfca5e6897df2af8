"""What the kernels should give, in plain numpy and float64, independent of the library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def exact_scores(rows: NDArray[np.float16], query: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    """Cosine of the first `dim` dims of every row with the query."""
    wide, q = rows[:, :dim].astype(np.float64), query[:dim].astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1) * np.linalg.norm(q), 1e-30)
    return np.clip(wide @ q / lengths, -1, 1)


def top(scores: NDArray[np.float64], keys: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Row numbers of the best k, equal scores by key."""
    return np.lexsort((keys, -scores))[:k]


def prefix_scores(rows: NDArray[np.float16], query: NDArray[np.float32], prefix: int) -> NDArray[np.float64]:
    """Cosine of the renormalised prefixes."""
    return exact_scores(rows, query, prefix)


def reachable(lists: NDArray[np.uint32], start: int) -> set[int]:
    """Rows that links lead to from `start`."""
    found, front = {start}, [start]
    while front:
        for other in lists[front.pop()].tolist():
            if other < len(lists) and other not in found:
                found.add(other)
                front.append(other)
    return found
