"""The nearest of some rows that are named by their ids: each is scored, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.types import Hit, Include

_ROWS: Final = 1_000  # whose vectors are read at a time


def nearest_of(
    store: Store,
    ids: Sequence[str],
    question: NDArray[np.float32],
    k: int,
    *,
    where: dict[str, Any] | None = None,
    include: tuple[Include, ...] = (),
    dim: int | None = None,
) -> list[Hit]:
    """The best k of the rows with these ids that match a filter, by the cosine, best first.

    Args:
        store: whose namespace "" is searched.
        ids: of the rows; those that are missing or have no vector are passed over.
        question: float32 [dim of the store].
        k: how many, at most.
        where: a filter on metadata.
        include: what hits carry.
        dim: score by so many leading numbers; None takes all.
    """
    wanted = np.asarray(question[:dim], dtype=np.float64)
    wanted /= np.linalg.norm(wanted)
    best: list[tuple[float, str]] = []
    for start in range(0, len(ids), _ROWS):
        rows = store.get(ids[start : start + _ROWS], where=where, include=("vector",))
        there = [(row.id, row.vector[:dim]) for row in rows if row.vector is not None]
        if there:
            matrix = np.stack([vector for _, vector in there]).astype(np.float64)
            cosines = matrix @ wanted / np.maximum(np.linalg.norm(matrix, axis=1), 1e-300)
            best += zip(cosines.tolist(), (id for id, _ in there), strict=True)
            best = nlargest(k, best, key=lambda one: one[0])
    found = {row.id: row for row in store.get([id for _, id in best], include=include)} if best else {}
    return [
        Hit(id, score, found[id].metadata, found[id].document, found[id].vector)
        for score, id in best
        if id in found
    ]
