"""Recall on rows that are nearly the same: groups of copies, each a random vector plus noise.

python -m benchmarks.recall.near_copies                      (every size and noise)
python -m benchmarks.recall.near_copies --size 30 --noise 0.05 --changes

Each figure is the recall@10 of 1,000 questions with its 95% interval; a hit whose score is within 1e-6 of the
tenth best counts. "Random" questions are vectors like the ones that the groups were made from, "near" ones
are such a vector of the store with three times the noise, 0.3 at least. A topical filter passes the rows
with the least leading numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.recall.measure import filled, recall

DIM, PREFIX, QUESTIONS = 256, 64, 1_000
SIZES, NOISES = (2, 10, 30, 100, 1_000, 10_000), (0.0, 0.01, 0.05, 0.1)


class Copies(NamedTuple):
    """Rows float32 [n, DIM], and questions of both kinds, float32 [QUESTIONS, DIM]."""

    rows: NDArray[np.float32]
    random: NDArray[np.float32]
    near: NDArray[np.float32]


def generate(
    groups: int, size: int, noise: float, ordinary: int = 0, *, questions: int = QUESTIONS
) -> Copies:
    """`groups` groups of `size` near copies, and `ordinary` rows without one, in random order."""
    rng = np.random.default_rng([groups, size, round(1_000 * noise)])
    falling = (np.arange(1, DIM + 1) ** -0.6).astype(np.float32)

    def some(count: int) -> NDArray[np.float32]:
        return rng.standard_normal((count, DIM), dtype=np.float32) * falling

    places = some(groups)
    copies = np.repeat(places, size, axis=0) + np.float32(noise) * some(groups * size)
    rows = rng.permutation(np.concatenate([copies, some(ordinary)]))
    near = places[rng.integers(0, groups, questions)] + np.float32(max(3 * noise, 0.3)) * some(questions)
    return Copies(rows, some(questions), near)


def stored(path: Path, rows: NDArray[np.float32]) -> mrlstore.Store:
    """An indexed store of these rows; `n` is random, `topic` rises with the leading number, below 100."""
    numbers = np.random.default_rng(0).integers(0, 100, len(rows)).tolist()
    topics = (np.argsort(np.argsort(rows[:, 0])) * 100 // len(rows)).tolist()
    metadatas = ({"n": number, "topic": topic} for number, topic in zip(numbers, topics, strict=True))
    blocks = (rows[start : start + 20_000] for start in range(0, len(rows), 20_000))
    return filled(path, blocks, metadatas, prefix=PREFIX)


def measured(copies: Copies, *, changes: bool) -> Iterator[str]:
    """One line for each kind of question, plain, under filters, and after 30% of the rows were deleted."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        stored(Path(folder) / "s.mrl", copies.rows) as store,
    ):
        kinds = {"random": copies.random, "near": copies.near}

        def lines(name: str, where: Any = None) -> Iterator[str]:
            for kind, questions in kinds.items():
                yield f"  {name}, {kind}: {recall(store, questions, where)}"

        yield from lines("plain")
        if not changes:
            return
        for share in (50, 10, 1):
            yield from lines(f"random filter of {share}%", {"n": {"$lt": share}})
            yield from lines(f"topical filter of {share}%", {"topic": {"$lt": share}})
        gone = np.random.default_rng(1).permutation(len(copies.rows))[: len(copies.rows) * 3 // 10]
        store.delete([str(i) for i in gone])
        yield from lines("30% deleted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, nargs="*", default=SIZES)
    parser.add_argument("--noise", type=float, nargs="*", default=NOISES)
    parser.add_argument("--groups", type=int, help="by default so many that there are 6,000 rows or more")
    parser.add_argument("--ordinary", type=int, default=0, help="rows without a copy")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--changes", action="store_true", help="under filters, and after deletes too")
    options = parser.parse_args()
    for size in options.size:
        groups = options.groups or max(-(-6_000 // size), 2)
        for noise in options.noise:
            print(f"{groups} groups of {size}, noise {noise:g}, {options.ordinary} others", flush=True)
            copies = generate(groups, size, noise, options.ordinary, questions=options.questions)
            for line in measured(copies, changes=options.changes):
                print(line, flush=True)


if __name__ == "__main__":
    main()
