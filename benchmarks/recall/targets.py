"""Recall, and the work that it took, by target recall, on questions that calibration has not seen.

python -m benchmarks.recall.targets                                  (every set)
python -m benchmarks.recall.targets te3small ROWS.npy --filters
python -m benchmarks.recall.targets generated --rows 100000 --dim 3072

Figures are the recall@10 with its 95% interval, and what the plans had expected; a hit whose score is within
1e-6 of the tenth best counts. With `--filters` ten stored rows are anchors: a filter "along" the questions
nearest to an anchor passes the rows nearest to it, one "against" them passes those farthest from it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.recall import sets
from benchmarks.recall.measure import ask, filled, recall, together

TARGETS = (0.90, 0.95, None, 0.999)
ANCHORS = 10
PASSED = (50, 20, 10, 5, 1)  # percent of the rows


class Anchors:
    """Stored rows that filters are made of: each row's metadata holds its rank from each, in percent."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.vectors = _unit(rows[np.random.default_rng(4).permutation(len(rows))[:ANCHORS]])
        similar = _unit(rows) @ self.vectors.T
        self.percent = np.argsort(np.argsort(similar, axis=0), axis=0) * 100 // len(rows)

    def metadatas(self) -> Iterator[dict[str, Any]]:
        """One dict a row: {"a0": 0 for the farthest from anchor 0 .. 99 for the nearest, ...}."""
        for row in self.percent.tolist():
            yield {f"a{number}": percent for number, percent in enumerate(row)}

    def lines(self, store: mrlstore.Store, questions: NDArray[np.float32]) -> Iterator[str]:
        """One line for each target, share and direction, over the questions nearest to each anchor."""
        similar = _unit(questions) @ self.vectors.T
        nearest = np.argsort(-similar, axis=0)[: max(len(questions) // ANCHORS, 1)]
        for target in TARGETS:
            for percent in PASSED:
                for direction, passes in (
                    ("along", {"$gte": 100 - percent}),
                    ("against", {"$lt": percent}),
                ):
                    outcome = together(
                        ask(store, questions[nearest[:, i]], {f"a{i}": passes}, target_recall=target)
                        for i in range(ANCHORS)
                    )
                    yield f"target {target or 'default'}, {percent}% {direction}: {outcome}"


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measured(made: sets.Set, *, filters: bool) -> Iterator[str]:
    """Lines for one set: how long `optimize` took, then one for each target."""
    anchors = Anchors(made.rows) if filters else None
    blocks = (made.rows[start : start + 10_000] for start in range(0, len(made.rows), 10_000))
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        filled(
            Path(folder) / "s.mrl", blocks, anchors.metadatas() if anchors else None, prefix=made.prefix
        ) as store,
    ):
        dims, seconds = made.rows.shape[1], time.perf_counter() - started
        yield f"{len(made.rows):,} rows of {dims} dims, stored and indexed in {seconds:.1f} s"
        for target in TARGETS:
            outcome = recall(store, made.questions, target_recall=target)
            path = store.query(made.questions[0], target_recall=target, include=()).plan.segments[0].path
            yield f"target {target or 'default'}: {outcome}, {path}"
        if anchors:
            yield from anchors.lines(store, made.questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", default=sets.NAMES, help=f"{', '.join(sets.NAMES)}, or files .npy")
    parser.add_argument("--rows", type=int, default=20_000, help="of sets that are generated")
    parser.add_argument("--dim", type=int, default=768, help="of sets that are generated")
    parser.add_argument("--prefix", type=int, help="indexed dims, in place of the set's own")
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--split", type=int, default=0, help="holds other rows of a real set out")
    parser.add_argument("--filters", action="store_true")
    options = parser.parse_args()
    for name in options.sets:
        made = sets.load(name, options.rows, options.dim, options.questions, options.split)
        if options.prefix:
            made = made._replace(prefix=options.prefix)
        print(f"{name}, {len(made.questions)} questions", flush=True)
        for line in measured(made, filters=options.filters):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
