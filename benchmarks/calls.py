"""What calls cost beside a plain query: pages, groups, diversity, examples, namespaces, facets, scans.

Then what metadata and documents cost beside ids, from the arrays of a segment and from the catalogue.

python -m benchmarks.calls --rows 20000 --dim 256
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.shares import best_us
from mrlstore.types import Include
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


def build_texts(path: Path, rows: int, dim: int) -> None:
    """An indexed store with metadata of five keys, about 120 bytes, and documents of 200 to 1,000 bytes."""
    rng = np.random.default_rng(4)
    words = [f"word{i}" for i in range(500)]
    metadata = [
        {
            "title": " ".join(rng.choice(words, 6)),
            "year": int(rng.integers(1990, 2027)),
            "language": str(rng.choice(["en", "de", "fr"])),
            "rating": round(float(rng.random()), 3),
            "tags": [str(word) for word in rng.choice(words, 2)],
        }
        for _ in range(rows)
    ]
    documents = [" ".join(rng.choice(words, length)) for length in rng.integers(30, 145, rows)]
    with mrlstore.open(path, dim=dim, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(rows)], nested(rows, dim), metadata, documents)
        store.optimize()


def carried(path: Path, queries: NDArray[np.float32]) -> Iterator[str]:
    """Queries for the best 10 by what they carry: the call alone, and with that of every hit read."""
    ways: dict[str, Callable[[NDArray[np.float32]], Any]] = {}
    with mrlstore.open(path, mode="r") as arrays, mrlstore.open(path, mode="r") as catalogue:
        for store in (arrays, catalogue):
            store.warm()
        for part in catalogue._session.snapshots.latest().segments:
            object.__setattr__(part.segment, "row_texts", None)  # as a part that was written without
        ways["ids"] = lambda query: arrays.query(query, include=()).ids
        ways["ids, as hits"] = lambda query: [hit.id for hit in arrays.query(query, include=())]
        for include in (("metadata",), ("document",), ("metadata", "document")):
            for name, store in (("arrays", arrays), ("catalogue", catalogue)):
                what = f"{' and '.join(include)}, from the {name}"
                ways[what] = partial(store.query, include=include)
                ways[f"{what}, read"] = partial(read, store, include)
        for way in ways.values():
            way(queries[0])
            way(queries[0])
        times = best_us(list(ways.values()), queries)
    for name, taken in zip(ways, times, strict=True):
        yield f"{name:46} {taken:10.1f} us {taken / times[0]:8.2f} times"


def read(store: mrlstore.Store, include: tuple[Include, ...], query: NDArray[np.float32]) -> list[Any]:
    return [(hit.metadata, hit.document) for hit in store.query(query, include=include)]


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
        path = Path(folder) / "texts.mrl"
        build_texts(path, options.rows, options.dim)
        print(*carried(path, nested(options.queries, options.dim, seed=2)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
