"""Data sets of the benchmarks: generated nested vectors, and mixtures of real ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.nested import blocks, nested

DIM, QUERIES, K = 3072, 500, 10
BLOCK = 10_000


@dataclass(frozen=True)
class Set:
    """Rows float16 [n, DIM], mapped; queries float32 [QUERIES, DIM]; truth int64 [QUERIES, K]."""

    name: str
    rows: NDArray[np.float16]
    queries: NDArray[np.float32]
    truth: NDArray[np.int64]


def load(name: str, n: int, folder: Path) -> Set:
    """The set `real`, `nested` or `hard` with n rows; made at the first call and kept in the folder."""
    stem = folder / f"{name}-{n}"
    if not stem.with_suffix(".truth.npy").exists():
        _make(name, n, stem)
    parts = {
        "rows": np.load(stem.with_suffix(".rows.npy"), mmap_mode="r"),
        "queries": np.load(stem.with_suffix(".queries.npy")),
        "truth": np.load(stem.with_suffix(".truth.npy")),
    }
    return Set(name, **parts)


def _make(name: str, n: int, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    rows = np.lib.format.open_memmap(stem.with_suffix(".rows.npy"), "w+", np.float16, (n, DIM))
    if name == "real":
        queries, source = real(n)
    else:
        queries = nested(QUERIES, DIM, seed=2, hard=name == "hard")
        source = blocks(n, DIM, hard=name == "hard")
    start = 0
    for block in source:
        rows[start : start + len(block)] = block
        start += len(block)
    rows.flush()
    np.save(stem.with_suffix(".queries.npy"), queries)
    np.save(stem.with_suffix(".truth.npy"), truth(rows, queries))


def truth(rows: NDArray[np.float16], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The exact top K by cosine, int64 [queries, K]."""
    best = np.full((len(queries), K), -np.inf, np.float32)
    found = np.zeros((len(queries), K), np.int64)
    for start in range(0, len(rows), BLOCK):
        wide = rows[start : start + BLOCK].astype(np.float32)
        scores = (wide @ queries.T / np.linalg.norm(wide, axis=1, keepdims=True)).T
        numbers = np.broadcast_to(np.arange(start, start + len(wide)), scores.shape)
        scores, numbers = np.concatenate([best, scores], 1), np.concatenate([found, numbers], 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        best, found = np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)
    return found


def real(n: int, queries: int = QUERIES) -> tuple[NDArray[np.float32], Iterator[NDArray[np.float32]]]:
    """Held-out real rows as queries, and blocks of n rows mixed from real ones and their neighbours."""
    folder = os.environ.get("MRLSTORE_REAL_DATA")
    if not folder:
        raise SystemExit("MRLSTORE_REAL_DATA is not set: the set `real` needs real embeddings")
    rows = np.load(Path(folder) / "te3large_3072.npy").astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    held_out, base = rows[:queries], rows[queries:]
    similar = base @ base.T
    np.fill_diagonal(similar, -1)
    near = np.argpartition(-similar, 12, axis=1)[:, :12]

    def source() -> Iterator[NDArray[np.float32]]:
        rng = np.random.default_rng(5)
        for start in range(0, n, BLOCK):
            count = min(BLOCK, n - start)
            own = rng.integers(0, len(base), count)
            share = rng.dirichlet(np.full(4, 0.6), count).astype(np.float32)
            others = near[own[:, None], rng.integers(0, 12, (count, 3))]
            mixed = share[:, :1] * base[own]
            for column in range(3):
                mixed += share[:, column + 1 : column + 2] * base[others[:, column]]
            a, b = rng.integers(0, len(base), (2, count))
            mixed += (0.25 * rng.random((count, 1)) + 0.1).astype(np.float32) * (base[a] - base[b])
            yield mixed / np.linalg.norm(mixed, axis=1, keepdims=True)

    return held_out, source()
