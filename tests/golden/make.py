"""Make the golden store of this format version: `python -m tests.golden.make`.

Run it once for each new format, keep the old ones: every later version must read them, and answer exactly
so. The store is kept as a tar file, because a checkout must not change a byte of it.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore.catalogue.schema import FORMAT_VERSION

FOLDER = Path(__file__).parent
DIM, PREFIX, ROWS = 8, 4, 2050


def vectors(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [n, DIM] from whole numbers: the same on every machine and for every numpy."""
    numbers = (np.arange(n * DIM, dtype=np.uint64) + np.uint64(seed * 1_000_003)) * np.uint64(2654435761)
    spread = ((numbers >> np.uint64(16)) % np.uint64(2001)).astype(np.float32) - 1000.5
    return spread.reshape(n, DIM) / (1 + np.arange(DIM, dtype=np.float32))


def fill(store: Any) -> None:
    """Graph, columns, flat rows, removals, tail, namespaces, documents, rows without vectors."""
    names = [f"r{i}" for i in range(ROWS)]
    store.upsert(names, vectors(ROWS, 1), [{"n": i, "c": "abc"[i % 3], "l": [i % 5]} for i in range(ROWS)])
    store.upsert(["t1", "t2"], vectors(2, 2), [{"t": True}, None], ["text", None], namespace="tenant ☃")
    store.optimize()
    store.delete([f"r{i}" for i in range(0, 100, 3)])
    store.update(["r1", "r2"], [{"c": None, "new": {"deep": 1.5}}, {"n": -1}])
    store.upsert(
        ["late", "bare"], [vectors(1, 3)[0], None], [{"n": 7}, {"n": 8}], ["document\nof two lines", ""]
    )


def answers(store: Any) -> dict[str, Any]:
    """What must come out, as JSON keeps it."""
    asked = vectors(3, 9)
    return {
        "rows": store.count(namespace=None),
        "namespaces": store.namespaces(),
        "exact": [[[hit.id, float(hit.score)] for hit in store.query(q, k=12, exact=True)] for q in asked],
        "filtered": store.query(asked[0], k=9, where={"c": "b", "n": {"$lt": 900}}, exact=True).ids,
        "tenant": store.query(asked[1], namespace="tenant ☃").ids,
        "records": [
            [record.id, record.metadata, record.document]
            for record in store.get(["r1", "r2", "r3", "late", "bare"])
        ],
        "count": store.count({"l": 2, "c": {"$ne": "a"}}),
    }


def make() -> None:
    """Write the tar file and the answers beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "golden.mrl"
        with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
            fill(store)
            expected = answers(store)
        with tarfile.open(FOLDER / f"v{FORMAT_VERSION}.tar.xz", "w:xz") as tar:
            tar.add(path, "golden.mrl")
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (FOLDER / f"v{FORMAT_VERSION}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
