"""Stores that several tests of this folder read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mrlstore
from tests.nested import nested
from tests.scale import figure
from tests.shared import Shared

DIM, PREFIX = 256, 64
ROWS = figure(100_000, 4_000)
HELD = figure(500, 150)


@dataclass(frozen=True)
class Indexed:
    """A store that was indexed and so calibrated itself, its rows, and queries that it has never seen."""

    store: Any
    rows: NDArray[np.float32]
    queries: NDArray[np.float32]


def fill(path: Path, rows: NDArray[np.float32], prefix_dim: int, **options: Any) -> Any:
    """A store of these rows, indexed, with ids by row number."""
    store = mrlstore.open(path, dim=rows.shape[1], prefix_dim=prefix_dim, auto_maintain=False)
    ids = [str(i) for i in range(len(rows))]
    for start in range(0, len(rows), 20_000):
        chosen = slice(start, start + 20_000)
        store.upsert(ids[chosen], rows[chosen], [{"n": i % 100} for i in range(len(rows))][chosen], **options)
    store.optimize()
    return store


def filled_once(
    shared: Shared, name: str, target: Path, rows: NDArray[np.float32], prefix_dim: int
) -> mrlstore.Store:
    """The same store, filled once for a test run."""
    shared.store(name, target, lambda path: fill(path, rows, prefix_dim).close())
    return mrlstore.open(target, auto_maintain=False)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[Indexed]:
    """Nested vectors, indexed."""
    vectors = nested(ROWS + HELD, DIM)
    rows, queries = vectors[HELD:], vectors[:HELD]
    target = tmp_path_factory.mktemp("generated") / "store.mrl"
    with filled_once(shared, "tiers.mrl", target, rows, PREFIX) as store:
        yield Indexed(store, rows, queries)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[Indexed]:
    """text-embedding-3-large, where the folder of real data is known; 400 rows held out."""
    folder = os.environ.get("MRLSTORE_REAL_DATA")
    if not folder or not (Path(folder) / "te3large_3072.npy").exists():
        pytest.skip("MRLSTORE_REAL_DATA names no folder with te3large_3072.npy")
    vectors = np.load(Path(folder) / "te3large_3072.npy").astype(np.float32)
    target = tmp_path_factory.mktemp("real") / "store.mrl"
    with filled_once(shared, "tiers of real rows.mrl", target, vectors[400:], 768) as store:
        yield Indexed(store, vectors[400:], vectors[:400])


def recall(results: list[Any], exact: list[Any]) -> float:
    """Mean share of the exact answers' ids that were found."""
    return float(
        np.mean([len({*a.ids} & {*b.ids}) / max(len(b), 1) for a, b in zip(results, exact, strict=True)])
    )
