"""Compares searches of the same store: by a prefix alone, by the whole vector, and in two stages."""

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
    """The figures measured for one search mode."""

    name: str
    overlap: float  # mean share of the exact top K that was found
    median_ms: float  # median time of one query
    bytes_per_row: float  # of the files that a store with this search mode alone would need
    rows_scored: float  # mean rows per query whose code, prefix or whole vector was scored
    rows_in_full: float  # mean rows per query whose whole vector was scored


@dataclass(frozen=True)
class _SearchMode:
    name: str
    bytes_per_row: float
    options: dict[str, Any]  # keyword arguments of Store.query
    in_full: bool  # whether whole vectors are read


def compare(store: mrlstore.Store, questions: NDArray[np.float32]) -> list[MeasuredSearch]:
    """Ask all questions, float32 [n, dim], in every mode: by prefixes, exactly, and last in two stages."""
    stats = store.stats()
    dim = stats.dim or questions.shape[1]
    both = sum(stats.bytes_by_kind.get(kind, 0) for kind in ("base", "index")) / max(stats.rows, 1)
    short = [length for length in (768, 1536) if length < dim]
    modes = [
        _SearchMode(f"first {length:,} dims only", 2.0 * length, {"dim": length}, False) for length in short
    ]
    modes.append(_SearchMode(f"all {dim:,} dims, exact", 2.0 * dim, {"exact": True}, True))
    modes.append(_SearchMode("two-stage (mrlstore)", both, {}, True))
    truth = [set(store.query(question, K, exact=True, include=()).ids) for question in questions]
    return [_measure(store, mode, questions, truth) for mode in modes]


def _measure(
    store: mrlstore.Store, mode: _SearchMode, questions: NDArray[np.float32], truth: list[set[str]]
) -> MeasuredSearch:
    def ask(question: NDArray[np.float32]) -> Result:
        return store.query(question, K, include=(), **mode.options)

    results = [ask(question) for question in questions]  # untimed round, for the results
    pairs = zip(truth, results, strict=True)
    shares = [len(best.intersection(result.ids)) / len(best) for best, result in pairs]
    seconds = []
    for _ in range(REPEATS):
        for question in questions:
            started = time.perf_counter()
            ask(question)
            seconds.append(time.perf_counter() - started)
    in_full = statistics.fmean(result.plan.reranked for result in results)
    visited = statistics.fmean(result.plan.visited for result in results)
    return MeasuredSearch(
        name=mode.name,
        overlap=statistics.fmean(shares),
        median_ms=statistics.median(seconds) * 1000,
        bytes_per_row=mode.bytes_per_row,
        rows_scored=max(visited, in_full),
        rows_in_full=in_full if mode.in_full else 0.0,
    )
