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
from mrlstore import group as searched
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
    """The whole query, ids and all, less the kernel calls in it."""
    snapshot = store._core.snapshots.latest()
    part = snapshot.segments[0].segment
    span = part.span("")
    assert span is not None
    group, effort = span.group, snapshot.calibration.effort(K, None)
    kernels, work = searched._kernels(), searched._reserve(group, effort.ef, effort.shortlist)
    unit, out = np.empty((1, queries.shape[1]), np.float32), searched._Out(1, K)

    def in_kernels(query: NDArray[np.float32]) -> None:
        unit[0] = query
        kernels.normalise(unit[0], snapshot.prefix_dim)
        kernels.search_walk(
            group.table, unit, work.table, 0, effort.ef, effort.shortlist, K, effort.margin,
            out.rows, out.scores, out.counts,
        )  # fmt: skip

    whole = best_us(lambda query: store.query(query, K, include=()).ids, queries)
    kernel = best_us(in_kernels, queries)
    yield f"query {whole:.1f} us, its kernels {kernel:.1f} us, Python {whole - kernel:.1f} us"


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
