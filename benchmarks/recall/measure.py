"""Recall@K by exact score, with its interval, and what the plan had expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.planning import confidence

K = 10
TIE = 1e-6  # scores that differ by no more are equal: both rows count as hits


class Recall(NamedTuple):
    """What some questions found.

    recall: the mean share of the exact best K, with its 95% interval. without_a_hit: questions that found
    none of them. expected: the mean recall that the plans promised, None where nothing was measured.
    visited, reranked: codes and full rows scored for a question, in the mean.
    """

    recall: confidence.Interval
    without_a_hit: int
    expected: float | None
    visited: float
    reranked: float

    def __str__(self) -> str:
        promised = "nothing" if self.expected is None else f"{self.expected:.4f}"
        return (
            f"{self.recall}, expected {promised}, {self.without_a_hit} without a true hit, "
            f"codes {self.visited:,.0f}, full rows {self.reranked:,.0f}"
        )


class Asked(NamedTuple):
    """The outcome of each question of one call of `ask`: one number a question in each array."""

    shares: NDArray[np.float64]
    expected: NDArray[np.float64]  # NaN where nothing was measured
    visited: NDArray[np.float64]
    reranked: NDArray[np.float64]


def ask(store: mrlstore.Store, questions: NDArray[np.float32], where: Any = None, **options: Any) -> Asked:
    """Ask each question [n, dim] by itself, and compare with the exact answer under the same filter.

    options: what `Store.query` takes, for the answer that is judged.
    """
    exact = store.query_batch(questions, K, exact=True, where=where, include=())
    outcomes = []
    for question, scores in zip(questions, exact.scores, strict=True):
        scores = scores[~np.isnan(scores)]
        if not len(scores):
            continue
        result = store.query(question, K, where=where, include=(), **options)
        share = sum(hit.score >= scores[-1] - TIE for hit in result) / len(scores)
        plan = result.plan
        promised = np.nan if plan.expected is None else plan.expected.recall
        outcomes.append((min(share, 1.0), promised, plan.visited, plan.reranked))
    columns = np.array(outcomes, dtype=np.float64).reshape(-1, 4).T
    return Asked(*columns)


def together(outcomes: Iterable[Asked]) -> Recall:
    """The recall over all the questions of several calls of `ask`."""
    shares, expected, visited, reranked = (np.concatenate(part) for part in zip(*outcomes, strict=True))
    promised = None if np.isnan(expected).all() else float(np.nanmean(expected))
    return Recall(
        confidence.of_shares(shares, K),
        int(np.count_nonzero(shares == 0)),
        promised,
        float(np.mean(visited)),
        float(np.mean(reranked)),
    )


def recall(
    store: mrlstore.Store, questions: NDArray[np.float32], where: Any = None, **options: Any
) -> Recall:
    """The recall of these questions [n, dim]; equal scores count as hits."""
    return together([ask(store, questions, where, **options)])


def filled(
    path: Path,
    source: Iterable[NDArray[np.float32]],
    metadatas: Iterator[dict[str, Any]] | None = None,
    *,
    prefix: int | None = None,
) -> mrlstore.Store:
    """An indexed store of these blocks of rows [n, dim], whose ids are their numbers."""
    store: mrlstore.Store | None = None
    count = 0
    for block in source:
        if store is None:
            store = mrlstore.open(path, dim=block.shape[1], prefix_dim=prefix, auto_maintain=False)
        ids = [str(count + i) for i in range(len(block))]
        store.upsert(ids, block, None if metadatas is None else [next(metadatas) for _ in ids])
        count += len(block)
    assert store is not None
    store.optimize()
    return store
