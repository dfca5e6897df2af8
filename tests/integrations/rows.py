"""Rows that the tests of several integrations store, a question, and its answer by plain numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

VECTORS = np.random.default_rng(3).normal(size=(30, 12))  # row n has the id f"{n:02}"
QUERY = np.random.default_rng(4).normal(size=12).tolist()


def nearest(rows: Iterable[int], k: int, query: Sequence[float] = QUERY) -> list[str]:
    """Ids of the best k of these rows by cosine, best first."""
    chosen = list(rows)
    scores = VECTORS[chosen] @ query / np.linalg.norm(VECTORS[chosen], axis=1)
    return [f"{chosen[place]:02}" for place in np.argsort(-scores)[:k]]
