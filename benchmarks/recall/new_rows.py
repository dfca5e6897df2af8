"""Recall where some rows are new and of another distribution, after `optimize()`.

python -m benchmarks.recall.new_rows

Old rows are generated nested vectors of 256 dims. New ones are Gaussian with most of their information behind
the prefix ("late"), or nested vectors whose numbers stand at other places ("rolled"). Figures are the
recall@10 of questions near the new rows, of questions like the new rows, and of questions like the old ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.recall.measure import filled, recall
from tests.nested import nested

DIM, PREFIX = 256, 64
SHARES = (5, 10, 17, 30)  # percent of all rows
Source = Callable[[int, int], NDArray[np.float32]]


def late(count: int, seed: int) -> NDArray[np.float32]:
    """Gaussian rows [count, DIM] with a prefix that says little about them."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    rows[:, :PREFIX] *= 0.15
    return rows


def rolled(count: int, seed: int) -> NDArray[np.float32]:
    """Nested rows [count, DIM], every number PREFIX places farther on."""
    return np.roll(nested(count, DIM, seed=seed), PREFIX, axis=1)


SOURCES: dict[str, Source] = {"late": late, "rolled": rolled}


def measured(source: Source, percent: int, rows: int, questions: int) -> Iterator[str]:
    """One line for each kind of question."""
    count = rows * percent // (100 - percent)
    new = source(count, 7)
    near = new[np.random.default_rng(3).integers(0, count, questions)] + np.float32(0.3) * source(
        questions, 11
    )
    old = nested(rows, DIM)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        filled(Path(folder) / "s.mrl", [old], prefix=PREFIX) as store,
    ):
        store.upsert([f"new-{i}" for i in range(count)], new)
        store.optimize()
        for kind, asked in (
            ("near new rows", near),
            ("like new rows", source(questions, 8)),
            ("like old rows", nested(questions, DIM, seed=9)),
        ):
            yield f"{kind}: {recall(store, asked)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="old rows")
    parser.add_argument("--questions", type=int, default=1_000)
    options = parser.parse_args()
    for name, source in SOURCES.items():
        for percent in SHARES:
            print(f"{percent}% new rows, {name}", flush=True)
            for line in measured(source, percent, options.rows, options.questions):
                print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
