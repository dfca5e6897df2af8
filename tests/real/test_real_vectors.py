"""Real embeddings (text-embedding-3-large), where a folder of them is at hand: MRLSTORE_REAL_DATA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests.oracle import cosines
from tests.shared import Shared

FOLDER = Path(os.environ.get("MRLSTORE_REAL_DATA", "no folder of real embeddings"))
FILE = FOLDER / "te3large_3072.npy"
HELD_OUT = 500

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason="real embeddings are absent: set MRLSTORE_REAL_DATA to their folder"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Any:
    """(store, rows float32 [n, 3072] as stored, queries float32 [500, 3072]): default settings, optimized."""
    data = np.load(FILE, allow_pickle=False).astype(np.float32)
    queries, rows = data[:HELD_OUT], data[HELD_OUT:]

    def build(path: Path) -> None:
        with mrlstore.open(path, auto_maintain=False) as store:
            for low in range(0, len(rows), 1000):
                part = rows[low : low + 1000]
                store.upsert([str(low + i) for i in range(len(part))], part)
            store.optimize()

    path = shared.store("real.mrl", tmp_path_factory.mktemp("real") / "real.mrl", build)
    with mrlstore.open(path, auto_maintain=False) as store:
        wide = rows.astype(np.float64)
        stored = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
        yield store, stored, queries


def true_scores(stored: Any, queries: Any, dim: int | None = None) -> Any:
    """float64 [q, n]: cosines by numpy."""
    wide = stored.astype(np.float64)[:, :dim]
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    asked = queries.astype(np.float64)[:, :dim]
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return asked @ wide.T


def recall_at_10(found: list[list[str]], truth: Any) -> float:
    """The share of the true best ten that was found; rows that tie with the tenth count."""
    shares = []
    for ids, row in zip(found, truth, strict=True):
        edge = np.sort(row)[-10] - 1e-6
        shares.append(sum(row[int(name)] >= edge for name in ids) / 10)
    return float(np.mean(shares))


def test_two_stages_with_defaults_find_99_of_100(real: Any) -> None:
    store, stored, queries = real
    found = store.query_batch(queries, k=10)
    assert {part.path for result in found for part in result.plan.segments if part.rows >= 2000} == {"walk"}
    visited = np.mean([result.plan.visited for result in found])
    assert visited < len(stored), "a walk that scores every row is a scan"
    share = recall_at_10(found.ids, true_scores(stored, queries))
    assert share >= 0.99, share


def test_exact_is_numpys_order(real: Any) -> None:
    store, stored, queries = real
    truth = true_scores(stored, queries)
    for result, row in zip(store.query_batch(queries, k=10, exact=True), truth, strict=True):
        best = np.sort(row)[::-1][:10]
        assert np.allclose(result.scores, best, atol=2e-6)
        assert np.allclose([row[int(name)] for name in result.ids], best, atol=2e-6)


@pytest.mark.parametrize("dim", [768, 1536])
def test_tiers_are_numpy_on_renormalised_prefixes(real: Any, dim: int) -> None:
    store, stored, queries = real
    truth = true_scores(stored, queries, dim)
    for result, row in zip(store.query_batch(queries, k=10, dim=dim), truth, strict=True):
        best = np.sort(row)[::-1][:10]
        assert np.allclose(result.scores, best, atol=5e-6)
        assert np.allclose([row[int(name)] for name in result.ids], best, atol=5e-6)


def test_the_prefix_alone_is_worse_than_two_stages(real: Any) -> None:
    """The second stage earns its keep: without it the same rows are missed that the re-rank brings back."""
    store, stored, queries = real
    truth = true_scores(stored, queries)
    prefix_only = recall_at_10(store.query_batch(queries, k=10, dim=768).ids, truth)
    two_stages = recall_at_10(store.query_batch(queries, k=10).ids, truth)
    assert prefix_only < 0.95 < two_stages


def test_a_stored_row_finds_itself(real: Any) -> None:
    store, stored, _ = real
    for i in range(0, len(stored), 97):
        best = store.query(stored[i].astype(np.float32), k=1)[0]
        assert best.score == pytest.approx(1.0, abs=1e-6)
        assert best.id == str(i) or cosines(stored[int(best.id)], stored[i : i + 1])[0] > 1 - 1e-6
