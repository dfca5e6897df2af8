"""Compares ways to search the same store: a prefix alone, the whole vector, and both in two stages."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.types import Result

K: Final = 10
REPEATS: Final = 3


@dataclass(frozen=True)
class MeasuredSearch:
    """What one way to search gave."""

    name: str
    overlap: float  # mean share of the exact top 10 that it found
    median_ms: float  # of one query
    bytes_per_row: float  # what a store needs for this way to search alone
    rows_scored: float  # mean rows scored in a query, by code, prefix or whole vector
    rows_in_full: float  # mean rows scored by their whole vector


@dataclass(frozen=True)
class _SearchMode:
    name: str
    bytes_per_row: float
    options: dict[str, Any]  # of the query
    in_full: bool  # whether it ever reads whole vectors


def compare(store: mrlstore.Store, questions: NDArray[np.float32]) -> list[MeasuredSearch]:
    """Ask all questions, float32 [n, dim], in every way: the prefixes, exactly, and last in two stages."""
    stats = store.stats()
    dim = stats.dim or questions.shape[1]
    both = sum(stats.bytes_by_kind.get(kind, 0) for kind in ("base", "index")) / max(stats.rows, 1)
    short = [length for length in (768, 1536) if length < dim]
    ways = [
        _SearchMode(f"first {length:,} dims only", 2.0 * length, {"dim": length}, False) for length in short
    ]
    ways.append(_SearchMode(f"all {dim:,} dims, exact", 2.0 * dim, {"exact": True}, True))
    ways.append(_SearchMode("two-stage (mrlstore)", both, {}, True))
    truth = [set(store.query(question, K, exact=True, include=()).ids) for question in questions]
    return [_measure(store, way, questions, truth) for way in ways]


def _measure(
    store: mrlstore.Store, way: _SearchMode, questions: NDArray[np.float32], truth: list[set[str]]
) -> MeasuredSearch:
    def ask(question: NDArray[np.float32]) -> Result:
        return store.query(question, K, include=(), **way.options)

    answers = [ask(question) for question in questions]  # the round that is not timed
    pairs = zip(truth, answers, strict=True)
    shares = [len(best.intersection(answer.ids)) / len(best) for best, answer in pairs]
    seconds = []
    for _ in range(REPEATS):
        for question in questions:
            started = time.perf_counter()
            ask(question)
            seconds.append(time.perf_counter() - started)
    in_full = statistics.fmean(answer.plan.reranked for answer in answers)
    visited = statistics.fmean(answer.plan.visited for answer in answers)
    return MeasuredSearch(
        name=way.name,
        overlap=statistics.fmean(shares),
        median_ms=statistics.median(seconds) * 1000,
        bytes_per_row=way.bytes_per_row,
        rows_scored=max(visited, in_full),
        rows_in_full=in_full if way.in_full else 0.0,
    )
