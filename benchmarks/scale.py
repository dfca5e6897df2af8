"""How query time grows with the number of rows: the same queries to several stores in turn, with recall.

python benchmarks/footprint.py --rows 100000 --store SMALL.mrl
python benchmarks/footprint.py --rows 1000000 --store LARGE.mrl
python -m benchmarks.scale SMALL.mrl LARGE.mrl

The stores hold generated rows; queries are generated in the same way from another seed.
Memory is warm. The time given is the median over the queries of each one's median of all rounds.
The last store is compared with the first.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrlstore
from tests.nested import nested

K, ROUNDS = 10, 7


def times_us(stores: list[mrlstore.Store], queries: NDArray[np.float32]) -> list[float]:
    """The median time of a query for ids and scores in each store, asked in turn, in microseconds."""
    taken = np.empty((ROUNDS, len(stores), len(queries)))
    for rounds in taken:
        for times, store in zip(rounds, stores, strict=True):
            for i, query in enumerate(queries):
                start = time.perf_counter()
                store.query(query, K, include=())
                times[i] = time.perf_counter() - start
    return [float(one) * 1e6 for one in np.median(np.median(taken[1:], axis=0), axis=1)]


def recall(store: mrlstore.Store, queries: NDArray[np.float32]) -> float:
    """The mean share of the exact top K that is found."""
    best = store.query_batch(queries, K, include=(), exact=True).ids
    found = store.query_batch(queries, K, include=()).ids
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(best, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+", help="from small to large")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    with ExitStack() as stack:
        stores = [stack.enter_context(mrlstore.open(path, mode="r")) for path in options.stores]
        queries = nested(options.queries, stores[0].dim or 0, seed=2)
        for store in stores:
            store.warm()
        times = times_us(stores, queries)
        for store, taken in zip(stores, times, strict=True):
            plans = [store.query(query, K, include=()).plan for query in queries]
            visited, reranked = (
                float(np.mean([getattr(plan, name) for plan in plans])) for name in ("visited", "reranked")
            )
            code_bytes = plans[0].segments[0].code_bytes
            print(
                f"{store.count():,} rows: {taken:.0f} us, recall {recall(store, queries):.4f}; "
                f"{visited:,.0f} codes of {code_bytes} bytes, {reranked:.0f} rows scored",
                flush=True,
            )
        print(f"p50: {times[-1] / times[0]:.2f} times")


if __name__ == "__main__":
    main()
