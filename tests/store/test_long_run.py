"""What only shows over time: churn, and handles that are opened and closed a thousand times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from tests.children import Child, Pipe, children
from tests.oracle import Oracle, nested_vectors, recall
from tests.scale import figure

DIM, PREFIX = 32, 16


def _fresh(path: Path, rows: Any) -> Any:
    store = mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False)
    store.upsert([f"r{i}" for i in range(len(rows))], rows)
    store.optimize()
    return store


def test_churn_costs_neither_recall_nor_disk(tmp_path: Path) -> None:
    """Half of the rows replaced five times: as good, and nearly as small, as a store built anew."""
    n = figure(50_000, 2_400)
    rows, rng = nested_vectors(n, DIM), np.random.default_rng(4)
    old = _fresh(tmp_path / "old.mrl", rows)
    for turn in range(5):
        chosen = rng.choice(n, n // 2, replace=False)
        rows[chosen] = nested_vectors(n // 2, DIM, seed=50 + turn)
        for part in np.array_split(chosen, 4):
            old.upsert([f"r{i}" for i in part], rows[part])
        old.optimize()
    new = _fresh(tmp_path / "new.mrl", rows)
    truth = Oracle()
    truth.upsert([f"r{i}" for i in range(n)], rows)
    asked = nested_vectors(figure(500, 100), DIM, seed=99)
    expected = [truth.scores(query) for query in asked]
    shares = [
        float(np.mean([recall(store.query(q), e, 10) for q, e in zip(asked, expected, strict=True)]))
        for store in (old, new)
    ]
    sizes = [sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file()) for store in (old, new)]
    for store in (old, new):
        assert store.verify().ok
        assert store.stats().dead_rows <= 0.1 * n
        store.close()
    assert shares[0] >= shares[1] - 0.005, shares
    assert sizes[0] <= 1.2 * sizes[1] + 65_536, sizes


def _open_and_close(pipe: Pipe, path: str, times: int) -> None:
    """Tell descriptors and maps after a warm-up, and after many rounds more."""
    query = nested_vectors(1, DIM, seed=3)[0]

    def rounds(count: int) -> tuple[int, int]:
        for number in range(count):
            with mrlstore.open(
                path, mode="a" if number % 2 == 0 else "r", auto_maintain=number % 4 == 0
            ) as store:
                assert len(store.query(query, k=5)) == 5
                assert len(store.query(query, k=5, where={"n": {"$gt": 3}})) == 5
                next(iter(store.scan()))
                if number % 10 == 0:
                    store.upsert(["x"], [query], [{"n": number}])
        return len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().splitlines())

    pipe.send((rounds(20), rounds(times)))


def test_opening_and_closing_leaks_nothing(path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        return  # only Linux tells
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
        store.upsert(
            [f"r{i}" for i in range(2100)], nested_vectors(2100, DIM), [{"n": i} for i in range(2100)]
        )
        store.optimize()
    child = Child(_open_and_close, str(path), figure(1000, 100))
    with children(child):
        before, after = child.receive(1200)
        child.finish()
    assert after[0] <= before[0], f"descriptors: {before[0]} before, {after[0]} after"
    assert after[1] <= before[1] + 10, f"maps: {before[1]} before, {after[1]} after"


def _keep_writing(pipe: Pipe, path: str, times: int) -> None:
    """One handle that writes, optimizes and queries: old parts and snapshots must be let go."""
    counts = []
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        for number in range(times):
            store.upsert([f"r{i}" for i in range(300)], nested_vectors(300, 8, seed=number))
            store.query(np.ones(8))
            store.optimize()
            counts.append(
                (len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().splitlines()))
            )
    pipe.send((counts[5], counts[-1]))


def test_a_handle_that_writes_and_merges_for_long_lets_old_parts_go(path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        return
    child = Child(_keep_writing, str(path), figure(300, 25))
    with children(child):
        before, after = child.receive(1200)
        child.finish()
    assert after[0] <= before[0] + 2, (before, after)
    assert after[1] <= before[1] + 40, (before, after)
    assert len(os.listdir(path / "parts")) <= 6
