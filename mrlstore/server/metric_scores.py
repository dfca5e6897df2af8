"""Scores by dot product and by Euclidean distance of rows of length 1, where they follow from the cosine.

A store ranks by the cosine. For rows of one length the inner product with a question is the cosine times both
lengths, and the squared distance falls as it rises, so that the ranks are the same and the scores exact.
docs/decisions/0021-dot-product-of-unit-rows.md has the reasons.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.indexes import Metric
from mrlstore.server.refusals import invalid

TOLERANCE: Final = 1e-3  # by which a length may differ from 1: what rounding to float16 or 4 decimals does


def check_lengths(metric: Metric, rows: NDArray[np.float32]) -> None:
    """Refuse rows [n, dim] of another length than 1 in an index whose metric is not the cosine."""
    if metric == "cosine":
        return
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    wrong = np.flatnonzero(np.abs(lengths - 1) > TOLERANCE)
    if len(wrong):
        raise invalid(
            f"vectors[{wrong[0]}]: its length is {lengths[wrong[0]]:.6g}. {metric} is offered here "
            "for vectors of length 1; scale them, or create the index with the metric cosine"
        )


def scores_of(
    metric: Metric, cosines: NDArray[np.float32], question: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The scores of rows of length 1, given their cosines with a question [dim]. Best first stays so."""
    if metric == "cosine":
        return cosines
    length = float(np.linalg.norm(question.astype(np.float64)))
    if metric == "dotproduct":
        return (cosines * length).astype(np.float32)
    squares = length * length + 1 - 2 * length * cosines.astype(np.float64)
    return np.maximum(squares, 0).astype(np.float32)
