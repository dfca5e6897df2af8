"""Query time in one of many namespaces, compared with a store that has only that namespace.

python -m benchmarks.namespaces --namespaces 1000 --rows 1000 --dim 512
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrlstore
from tests.nested import nested

ASKED, ROUNDS = 50, 9


def fill(path: Path, dim: int, names: list[str], rows: NDArray[np.float32]) -> mrlstore.Store:
    """The same rows in each namespace, indexed."""
    store = mrlstore.open(path, dim=dim, auto_maintain=False)
    ids = [str(i) for i in range(len(rows))]
    for name in names:
        store.upsert(ids, rows, namespace=name)
    store.optimize()
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--namespaces", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=1_000, help="of each namespace")
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    rows, queries = nested(options.rows, options.dim), nested(ASKED, options.dim, seed=2)
    names = [f"tenant-{n:05d}" for n in range(options.namespaces)]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        stores = {
            "alone": fill(Path(folder) / "alone.mrl", options.dim, names[:1], rows),
            "one of many": fill(Path(folder) / "many.mrl", options.dim, names, rows),
        }
        middle = {"alone": names[0], "one of many": names[len(names) // 2]}
        times = {name: np.full((ROUNDS, ASKED), np.inf) for name in stores}
        for turn in range(ROUNDS):
            for name, store in stores.items():
                for i, query in enumerate(queries):
                    start = time.perf_counter()
                    store.query(query, namespace=middle[name], include=())
                    times[name][turn, i] = time.perf_counter() - start
        best = {name: float(np.median(taken.min(axis=0))) * 1e6 for name, taken in times.items()}
        for name, store in stores.items():
            print(f"{name}: p50 {best[name]:.1f} us, {store.count(namespace=None):,} rows")
            store.close()
        print(f"{best['one of many'] / best['alone']:.2f} times")


if __name__ == "__main__":
    main()
