"""What a merge costs that inserts into the largest segment's graph, and the recall that many of them leave.

python -m benchmarks.merges
python -m benchmarks.merges --rows 100000 --dim 1536

A store of `rows` generated rows gets an eighth more, and a twentieth of the old ones is removed. `optimize()`
is timed, then the same rows are stored and indexed anew. Twenty merges in a row, each with an eighth of the
rows new and as many removed, are then compared with a store that is built anew of what they left: recall@10
of 1,000 questions at three efforts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.data import nested

MERGES = 20
EFFORTS = ((48, 48), (96, 60), (200, 60))  # ef and shortlist
Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--dim", type=int, default=1_536)
    parser.add_argument("--prefix", type=int, default=768)
    options = parser.parse_args()
    n, more = options.rows, options.rows // 8
    with tempfile.TemporaryDirectory() as folder:
        rows = nested(n + more, options.dim)
        with opened(Path(folder) / "one.mrl", options) as store:
            add(store, rows[:n], 0)
            print(f"{n:,} rows of {options.dim} dims indexed: {optimized(store):.1f} s")
            add(store, rows[n:], n)
            store.delete([str(i) for i in range(0, n, 20)])
            print(f"merged with {more:,} new rows, {n // 20:,} removed: {optimized(store):.1f} s")
        with opened(Path(folder) / "two.mrl", options) as store:
            add(store, np.delete(rows, slice(0, n, 20), axis=0), 0)
            print(f"the same rows indexed anew: {optimized(store):.1f} s")
        after_many_merges(Path(folder), options)


def after_many_merges(folder: Path, options: argparse.Namespace) -> None:
    """Compare the recall of twenty merges with that of a graph of the same rows that is built anew."""
    rng, part = np.random.default_rng(0), options.rows // 8
    rows = nested(options.rows + MERGES * part, options.dim)
    questions = nested(1_000, options.dim, seed=9)
    with opened(folder / "merged.mrl", options) as store, opened(folder / "anew.mrl", options) as anew:
        add(store, rows[: options.rows], 0)
        store.optimize()
        live = np.arange(options.rows)
        for merge in range(MERGES):
            first = options.rows + merge * part
            gone = rng.choice(live, part, replace=False)
            store.delete([str(i) for i in gone.tolist()])
            add(store, rows[first : first + part], first)
            store.optimize()
            live = np.concatenate([np.setdiff1d(live, gone), np.arange(first, first + part)])
        assert store.stats().segments == 1
        add(anew, rows[live], 0)
        anew.optimize()
        for ef, shortlist in EFFORTS:
            merged, fresh = (recall(one, questions, ef, shortlist) for one in (store, anew))
            print(f"after {MERGES} merges, ef {ef}: recall@10 {merged:.4f}, built anew {fresh:.4f}")


def opened(path: Path, options: argparse.Namespace) -> mrlstore.Store:
    return mrlstore.open(path, dim=options.dim, prefix_dim=options.prefix, auto_maintain=False)


def add(store: mrlstore.Store, rows: Floats, first: int) -> None:
    for start in range(0, len(rows), 4_096):
        block = rows[start : start + 4_096]
        store.upsert([str(first + start + i) for i in range(len(block))], block)


def optimized(store: mrlstore.Store) -> float:
    """Seconds that optimize() takes."""
    started = time.perf_counter()
    store.optimize()
    return time.perf_counter() - started


def recall(store: mrlstore.Store, questions: Floats, ef: int, shortlist: int) -> float:
    found = 0
    for question in questions:
        best = {*store.query(question, include=(), exact=True).ids}
        found += len(best & {*store.query(question, ef=ef, shortlist=shortlist, include=()).ids})
    return found / (10 * len(questions))


if __name__ == "__main__":
    main()
