"""Recall of questions unlike the rows, before and after the audit has kept 300 of them.

python -m benchmarks.recall.live_questions

Rows are generated nested vectors of 256 dims, questions are Gaussian, or blends of two
rows; the target is 0.95.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.recall.measure import filled, recall
from tests.nested import nested

DIM, PREFIX, TARGET = 256, 64, 0.95


def gaussian(count: int) -> NDArray[np.float32]:
    """Questions [count, DIM] that resemble no row."""
    return np.random.default_rng(0).standard_normal((count, DIM), dtype=np.float32)


def blended(count: int) -> NDArray[np.float32]:
    """Questions [count, DIM] half way between two rows of the same source as the stored ones."""
    return nested(count, DIM, seed=21) + nested(count, DIM, seed=22)


def audited(store: mrlstore.Store, count: int, deadline_s: float) -> bool:
    """Whether so many questions were audited before the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if sum(stats.queries for stats in store.stats().audit) >= count:
            return True
        time.sleep(0.05)
    return False


def measured(
    source: Callable[[int], NDArray[np.float32]], rows: int, questions: int, taught: int
) -> Iterator[str]:
    """Lines before and after."""
    asked = source(taught + questions)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        filled(Path(folder) / "s.mrl", [nested(rows, DIM)], prefix=PREFIX) as store,
    ):
        yield f"before: {recall(store, asked[taught:], target_recall=TARGET)}"
        store.audit(1.0, cost=1.0, learn=True)
        for number, question in enumerate(asked[:taught], 1):
            store.query(question, include=())
            if not audited(store, number, 20):
                raise SystemExit(f"question {number} was not audited within 20 s")
        store.audit(0)
        yield f"calibrated by: {store.calibrate().source}"
        yield f"after {taught} audited questions: {recall(store, asked[taught:], target_recall=TARGET)}"
        yield f"like rows: {recall(store, nested(questions, DIM, seed=5), target_recall=TARGET)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=1_000, help="that recall is measured with")
    parser.add_argument("--taught", type=int, default=300, help="that are audited")
    options = parser.parse_args()
    for source in (gaussian, blended):
        print(source.__name__, flush=True)
        for line in measured(source, options.rows, options.questions, options.taught):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
