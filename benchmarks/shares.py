"""Where the time of a query goes: kernels and Python, one thread and two, with filters and without.

python -m benchmarks.shares --rows 100000
python -m benchmarks.shares --store STORE.mrl --queries QUERIES.npy
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.loaded import kernels as loaded
from tests.nested import blocks, nested

K, ROUNDS = 10, 5
SHARES = (50, 10, 1, 0.1)  # per cent of the rows


def best_us(answer: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32]) -> float:
    """Mean over the queries of each one's best time, in microseconds."""
    best = np.full(len(queries), np.inf)
    for _ in range(ROUNDS):
        for i, query in enumerate(queries):
            start = time.perf_counter()
            answer(query)
            best[i] = min(best[i], time.perf_counter() - start)
    return float(best.mean()) * 1e6


def python_share(store: mrlstore.Store, queries: NDArray[np.float32]) -> Iterator[str]:
    """The whole query, ids and all, and what of it is spent inside of kernels."""
    kernels, inside = loaded(), [0.0]

    def timed(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            found = kernel(*arguments)
            inside[0] += time.perf_counter() - start
            return found

        return run

    names = ("search_walk", "search_scan", "normalise")
    real = {name: getattr(kernels, name) for name in names}
    best = np.full((2, len(queries)), np.inf)
    try:
        for name in names:
            setattr(kernels, name, timed(real[name]))
        for _ in range(ROUNDS):
            for i, query in enumerate(queries):
                inside[0], start = 0.0, time.perf_counter()
                store.query(query, K, include=()).ids  # noqa: B018
                whole = time.perf_counter() - start
                best[:, i] = np.minimum(best[:, i], (inside[0], whole - inside[0]))
    finally:
        for name in names:
            setattr(kernels, name, real[name])
    kernel, python = best.mean(axis=1) * 1e6
    yield f"of a query: kernels {kernel:.1f} us, Python {python:.1f} us"


def batches(path: Path, queries: NDArray[np.float32]) -> Iterator[str]:
    """query_batch on one thread and on two, in turn."""
    many = np.tile(queries, (4, 1))
    with (
        mrlstore.open(path, mode="r", threads=1) as one,
        mrlstore.open(path, mode="r", threads=2) as two,
    ):
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for threads, store in ((1, one), (2, two)):
                start = time.perf_counter()
                store.query_batch(many, K, include=())
                times[threads].append(time.perf_counter() - start)
    a, b = (len(many) / float(np.median(times[threads])) for threads in (1, 2))
    yield f"query_batch: {a:,.0f} queries/s on one thread, {b:,.0f} on two: {b / a:.2f} times"


def filters(store: mrlstore.Store, queries: NDArray[np.float32]) -> Iterator[str]:
    """Time and recall under filters that let a share of the rows pass, beside no filter."""
    free = best_us(lambda query: store.query(query, K, include=()), queries)
    yield f"no filter: {free:.1f} us, recall {recall(store, queries, None):.4f}"
    for share in SHARES:
        for name in ("random", "topic"):
            where = {name: {"$lt": share * 10}}
            taken = best_us(
                lambda query, where=where: store.query(query, K, where=where, include=()), queries
            )
            found = recall(store, queries, where)
            yield f"{share} % pass ({name}): {taken:.1f} us, {taken / free:.2f} times, recall {found:.4f}"


def recall(store: mrlstore.Store, queries: NDArray[np.float32], where: Any) -> float:
    shares = []
    for query in queries:
        best = set(store.query(query, K, where=where, exact=True, include=()).ids)
        found = set(store.query(query, K, where=where, include=()).ids)
        shares.append(len(best & found) / max(len(best), 1))
    return float(np.mean(shares))


def build(path: Path, rows: int, dim: int) -> None:
    """Generated rows; `random` and `topic` are thousandths: by chance, and by nearness to one direction."""
    rng, done = np.random.default_rng(3), 0
    towards = nested(1, dim, seed=99)[0]
    sample = nested(min(rows, 5_000), dim) @ towards
    with mrlstore.open(path, dim=dim, auto_maintain=False) as store:
        for block in blocks(rows, dim):
            topic = 1_000 * (1 - np.searchsorted(np.sort(sample), block @ towards) / len(sample))
            metadata = [
                {"random": int(a), "topic": float(b)}
                for a, b in zip(rng.integers(0, 1_000, len(block)), topic, strict=True)
            ]
            store.upsert([str(done + i) for i in range(len(block))], block, metadata)
            done += len(block)
        store.optimize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument(
        "--store", type=Path, help="an indexed store, instead of a generated one; no filters then"
    )
    parser.add_argument("--queries", type=Path, help="its queries, .npy [n, dim]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = options.store or Path(folder) / "shares.mrl"
        if options.store is None:
            build(path, options.rows, options.dim)
        given = options.queries is not None
        queries = np.load(options.queries).astype(np.float32) if given else nested(200, options.dim, seed=2)
        with mrlstore.open(path, mode="r") as store:
            store.warm()
            print(*python_share(store, queries), sep="\n", flush=True)
            print(*batches(path, queries), sep="\n", flush=True)
            if options.store is None:
                for line in filters(store, queries):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
