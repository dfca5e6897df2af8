"""Recall, codes visited and rows scored by target recall, on queries that calibration has not seen.

python -m benchmarks.targets ROWS.npy --held-out 400
python -m benchmarks.targets generated --rows 100000 --dim 3072
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.recall import calibrate
from tests.nested import blocks, nested

TARGETS = (None, 0.90, 0.95, 0.99, 0.999)
GENERATED = ("generated", "hard", "gaussian", "late")


def data(options: argparse.Namespace) -> tuple[Iterable[NDArray[np.float32]], NDArray[np.float32]]:
    """(blocks of rows, queries)."""
    if options.source in ("generated", "hard"):
        hard = options.source == "hard"
        return blocks(options.rows, options.dim, hard=hard), nested(
            options.held_out, options.dim, seed=99, hard=hard
        )
    if options.source in GENERATED:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((options.rows + options.held_out, options.dim), dtype=np.float32)
        if options.source == "late":  # most of the information lies behind the prefix
            rows[:, : options.prefix or options.dim // 4] *= 0.15
    else:
        rows = np.load(options.source).astype(np.float32)
        np.random.default_rng(0).shuffle(rows)
    return [rows[options.held_out :]], rows[: options.held_out]


def built(store: mrlstore.Store, source: Iterable[NDArray[np.float32]]) -> Iterator[str]:
    """Fill and index the store; give a line with the time of `optimize` and of its calibration."""
    count = 0
    for block in source:
        store.upsert([str(count + i) for i in range(len(block))], block)
        count += len(block)
    spent: list[float] = []
    refresh = calibrate.refresh

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        learned = refresh(*arguments)
        spent.append(time.perf_counter() - start)
        return learned

    calibrate.refresh = timed
    start = time.perf_counter()
    store.optimize()
    total = time.perf_counter() - start
    calibrate.refresh = refresh
    yield f"{count} rows; optimize {total:.1f} s, calibration {sum(spent) / total:.0%} of it"


def measured(store: mrlstore.Store, queries: NDArray[np.float32], k: int) -> Iterator[str]:
    """Give one line for each target recall."""
    exact = [set(result.ids) for result in store.query_batch(queries, k, exact=True, include=())]
    for target in TARGETS:
        found = [store.query(query, k, target_recall=target, include=()) for query in queries]
        recall = np.mean(
            [len(best & set(one.ids)) / len(best) for one, best in zip(found, exact, strict=True)]
        )
        plans = [one.plan for one in found]
        visited, reranked = (
            np.mean([getattr(plan, name) for plan in plans]) for name in ("visited", "reranked")
        )
        expected, way = plans[0].expected, plans[0].segments[0].path
        told = f", expected {expected.recall:.4f}" if expected is not None else ""
        yield (
            f"target {target or 'default'}: recall {recall:.4f}{told}, {way}, codes {visited:,.0f}, "
            f"full rows {reranked:,.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", help=f"a .npy file [n, dim], or one of {', '.join(GENERATED)}")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument("--prefix", type=int, help="indexed dimensions; by default 768")
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("-k", type=int, default=10)
    options = parser.parse_args()
    rows, queries = data(options)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "targets.mrl"
        with mrlstore.open(
            path, dim=queries.shape[1], prefix_dim=options.prefix, auto_maintain=False
        ) as store:
            for line in built(store, rows):
                print(line, flush=True)
            for line in measured(store, queries, options.k):
                print(line, flush=True)


if __name__ == "__main__":
    main()
