"""Compares ways to search the same store: a prefix alone, the whole vector, and both in two stages."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.types import Result

K: Final = 10
REPEATS: Final = 3


@dataclass(frozen=True)
class Tier:
    """What one way to search gave."""

    name: str
    overlap: float  # mean share of the exact top 10 that it found
    median_ms: float  # of one query
    bytes_per_row: float  # what a store needs for this way to search alone
    rows_scored: float  # mean rows scored in a query, by code or by vector
    rows_reranked: float  # mean rows re-ranked


def compare(store: mrlstore.Store, questions: NDArray[np.float32]) -> list[Tier]:
    """Ask all questions, float32 [n, dim], in every way; several rounds, medians, first round not counted."""
    stats = store.stats()
    dim = stats.dim or questions.shape[1]
    two_stage_bytes = sum(stats.bytes_by_kind.get(kind, 0) for kind in ("base", "index")) / max(stats.rows, 1)
    ways: list[tuple[str, float, Callable[[NDArray[np.float32]], Result]]] = [
        (f"first {short:,} dims only", 2.0 * short, _by_prefix(store, short))
        for short in (768, 1536)
        if short < dim
    ]
    ways.append((f"all {dim:,} dims, exact", 2.0 * dim, lambda v: store.query(v, K, exact=True, include=())))
    ways.append(("two-stage (mrlstore)", two_stage_bytes, lambda v: store.query(v, K, include=())))
    truth = [set(store.query(question, K, exact=True, include=()).ids) for question in questions]
    return [_measure(name, size, ask, questions, truth) for name, size, ask in ways]


def _by_prefix(store: mrlstore.Store, dim: int) -> Callable[[NDArray[np.float32]], Result]:
    return lambda vector: store.query(vector, K, dim=dim, include=())


def _measure(
    name: str,
    bytes_per_row: float,
    ask: Callable[[NDArray[np.float32]], Result],
    questions: NDArray[np.float32],
    truth: list[set[str]],
) -> Tier:
    answers = [ask(question) for question in questions]
    pairs = zip(truth, answers, strict=True)
    shares = [len(best.intersection(answer.ids)) / len(best) for best, answer in pairs]
    seconds = []
    for _ in range(REPEATS):
        for question in questions:
            started = time.perf_counter()
            ask(question)
            seconds.append(time.perf_counter() - started)
    return Tier(
        name,
        overlap=statistics.fmean(shares),
        median_ms=statistics.median(seconds) * 1000,
        bytes_per_row=bytes_per_row,
        rows_scored=statistics.fmean(answer.plan.visited for answer in answers),
        rows_reranked=statistics.fmean(answer.plan.reranked for answer in answers),
    )
