"""What calls cost beside a plain query: pages, groups, diversity, examples, namespaces, facets, scans.

python -m benchmarks.calls --rows 20000 --dim 256
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.shares import best_us
from tests.nested import nested

SPACES = 10  # namespaces with a hundredth of the rows each
GROUPS = 1_000  # values of the field `doc`; of the field `skewed` nine rows of ten have one value


def build(path: Path, rows: int, dim: int) -> None:
    """An indexed store; `topic` has few values, `doc` many, and `skewed` mostly one."""
    rng = np.random.default_rng(3)
    metadata = [
        {"topic": int(i % 7), "doc": int(doc), "skewed": int(doc) if i % 10 == 0 else 0, "n": i}
        for i, doc in enumerate(rng.integers(0, GROUPS, rows))
    ]
    with mrlstore.open(path, dim=dim, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(rows)], nested(rows, dim), metadata)
        for space in range(SPACES):
            some = nested(rows // 100, dim, seed=100 + space)
            store.upsert([f"r{i}" for i in range(len(some))], some, namespace=f"space {space}")
        store.optimize()


def calls(store: mrlstore.Store) -> dict[str, Callable[[NDArray[np.float32]], Any]]:
    """Each call as a function of a query vector; all queries are for the best 10, with metadata."""
    spaces = [f"space {space}" for space in range(SPACES)]
    return {
        "query": lambda query: store.query(query),
        "query, k=40": lambda query: store.query(query, k=40),
        "offset=10": lambda query: store.query(query, offset=10),
        "group_by, 1,000 even groups": lambda query: store.query(query, group_by="doc"),
        "group_by, group_size=3": lambda query: store.query(query, group_by="doc", group_size=3),
        "group_by, one group has 9 of 10 rows": lambda query: store.query(query, group_by="skewed"),
        "diversity=0.5": lambda query: store.query(query, diversity=0.5),
        "positive: two ids": lambda query: store.query(positive=["r1", "r2"]),
        "namespace=None: 11 namespaces": lambda query: store.query(query, namespace=None),
        "namespace: 10 small ones": lambda query: store.query(query, namespace=spaces),
        "get(where=, limit=10)": lambda query: store.get(where={"topic": 3}, limit=10),
        "facets, 7 values": lambda query: store.facets("topic"),
        "facets, 1,000 values": lambda query: store.facets("doc", where={"topic": 3}),
        "sample(10)": lambda query: store.sample(10),
        "scan(order_by=, limit=10)": lambda query: list(store.scan(order_by="n", limit=10)),
        "scan(limit=10)": lambda query: list(store.scan(limit=10)),
    }


def measured(store: mrlstore.Store, queries: NDArray[np.float32]) -> Iterator[str]:
    """A line for each call: the mean of the best times of each query, and its ratio to a plain query."""
    functions = calls(store)
    for function in functions.values():
        function(queries[0])
    times = best_us(list(functions.values()), queries)
    for name, taken in zip(functions, times, strict=True):
        yield f"{name:40} {taken:10.1f} us {taken / times[0]:8.2f} times"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "calls.mrl"
        build(path, options.rows, options.dim)
        with mrlstore.open(path, mode="r") as store:
            store.warm()
            for line in measured(store, nested(options.queries, options.dim, seed=2)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
