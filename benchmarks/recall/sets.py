"""Sets of rows with questions that are none of them, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.recall import near_copies
from tests.nested import nested

REAL: Final = {"te3large": "te3large_3072", "te3small": "te3small_1536", "gemini001": "gemini001_3072"}
LEADING: Final = 4  # "gaussian" and "late" index a fourth of their dims


class Set(NamedTuple):
    """Rows float32 [n, dim], questions float32 [q, dim], and the dims to index, None for the default."""

    rows: NDArray[np.float32]
    questions: NDArray[np.float32]
    prefix: int | None = None


def load(name: str, rows: int, dim: int, questions: int, split: int = 0) -> Set:
    """The set of this name, or of a file NAME.npy.

    rows, dim: of sets that are generated; real ones have their own. questions: at most so many. split: which
    rows of a real set are held out as its questions.
    """
    if name in REAL:
        folder = os.environ.get("MRLSTORE_REAL_DATA")
        if not folder:
            raise SystemExit(f"MRLSTORE_REAL_DATA is not set: the set {name} needs real embeddings")
        return _held_out(np.load(Path(folder) / f"{REAL[name]}.npy"), questions, split)
    if name in MADE:
        return MADE[name](rows, dim, questions)
    return _held_out(np.load(name), questions, split)


def _held_out(stored: NDArray[np.floating], questions: int, split: int) -> Set:
    """Random rows as questions, a third of them at the most; another third for another split."""
    order = np.random.default_rng(0).permutation(len(stored))
    count = min(questions, len(stored) // 3)
    order = np.roll(order, -split * count)
    vectors = stored[order].astype(np.float32)
    return Set(vectors[count:], vectors[:count])


def _generated(rows: int, dim: int, questions: int) -> Set:
    return Set(nested(rows, dim), nested(questions, dim, seed=99))


def _hard(rows: int, dim: int, questions: int) -> Set:
    return Set(nested(rows, dim, hard=True), nested(questions, dim, seed=99, hard=True))


def _mixed(rows: int, dim: int, questions: int) -> Set:
    """Rows mixed from real embeddings, always of 3,072 dims; questions are real ones."""
    held, source = data.real(rows, questions)
    return Set(np.concatenate(list(source)), held)


def _gaussian(rows: int, dim: int, questions: int) -> Set:
    made = np.random.default_rng(0).standard_normal((rows + questions, dim), dtype=np.float32)
    return Set(made[questions:], made[:questions], dim // LEADING)


def _late(rows: int, dim: int, questions: int) -> Set:
    """Gaussian rows most of whose information lies behind the indexed dims."""
    made = _gaussian(rows, dim, questions)
    made.rows[:, : made.prefix] *= 0.15
    made.questions[:, : made.prefix] *= 0.15
    return made


def _copies(rows: int, dim: int, questions: int) -> Set:
    """Groups of 30 near copies beside as many ordinary rows; half of the questions lie near a group."""
    groups = rows // 60
    made = near_copies.generate(groups, 30, 0.05, rows - 30 * groups, questions=questions // 2)
    return Set(made.rows, np.concatenate([made.random, made.near]), near_copies.PREFIX)


MADE: Final[dict[str, Callable[[int, int, int], Set]]] = {
    "generated": _generated,
    "hard": _hard,
    "real": _mixed,
    "gaussian": _gaussian,
    "late": _late,
    "copies": _copies,
}
NAMES: Final = (*REAL, *MADE)
