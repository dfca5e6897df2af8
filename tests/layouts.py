"""The same rows in every shape a store can have them: the tail, flat segments, graphs, and a mixture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from tests.oracle import Oracle, nested_vectors

DIM, PREFIX = 32, 16
LAYOUTS = ("tail", "bulk", "indexed", "mixed")
COLOURS = ("red", "green", "blue")


def metadata_of(i: int) -> dict[str, Any] | None:
    """Metadata of row i: every kind of value, keys that are missing, nulls, lists, nested dicts, dots."""
    if i % 31 == 0:
        return None
    row: dict[str, Any] = {
        "n": i,
        "colour": COLOURS[i % 3],
        "price": i / 4,
        "flag": i % 2 == 0,
        "tags": [COLOURS[i % 3], f"t{i % 5}", i % 7],
        "deep": {"a": {"b": i % 4}},
        "a.dot": i % 6,
    }
    if i % 4 == 0:
        row["maybe"] = None if i % 8 == 0 else "here"
    if i % 10 == 0:
        row["odd"] = [1, "1", True, 1.5][i // 10 % 4]
    return row


def fill(store: Any, oracle: Oracle, start: int, stop: int, *, batch: int, seed: int = 0) -> None:
    """Upsert rows start..stop in batches, into the store and the oracle; every 50th row has no vector."""
    vectors = nested_vectors(stop - start, store.stats().dim or DIM, seed=seed + start)
    for low in range(start, stop, batch):
        high = min(stop, low + batch)
        ids = [f"row-{i}" for i in range(low, high)]
        rows = [None if i % 50 == 49 else vectors[i - start] for i in range(low, high)]
        metadatas = [metadata_of(i) for i in range(low, high)]
        documents = [None if i % 3 == 0 else f"document {i} ∂" for i in range(low, high)]
        store.upsert(ids, rows, metadatas, documents)
        oracle.upsert(ids, rows, metadatas, documents)


def make_layout(layout: str, path: Path) -> tuple[Any, Oracle]:
    """A store in that layout and its oracle: 600 rows in the tail, or some thousands in segments."""
    store = mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False)
    oracle = Oracle()
    if layout == "tail":
        fill(store, oracle, 0, 600, batch=200)
    elif layout == "bulk":
        fill(store, oracle, 0, 4200, batch=4200)
    elif layout == "indexed":
        fill(store, oracle, 0, 2600, batch=1300)
        store.optimize()
    elif layout == "mixed":
        fill(store, oracle, 0, 2400, batch=800)
        store.optimize()
        fill(store, oracle, 2400, 2700, batch=100)
        fill(store, oracle, 300, 500, batch=100, seed=7)  # replaced rows: the old ones are dead in a segment
        gone = [f"row-{i}" for i in range(0, 2700, 9)]
        assert store.delete(gone) == oracle.delete(gone)
    else:
        raise AssertionError(layout)
    return store, oracle


def queries(n: int, dim: int = DIM, seed: int = 99) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [n, dim]: vectors like the rows'."""
    return nested_vectors(n, dim, seed=seed)
