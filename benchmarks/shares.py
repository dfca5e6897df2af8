"""Where the time of a query goes: kernels and Python, one thread and two, with filters and without.

python -m benchmarks.shares --rows 100000 [--set real]
python -m benchmarks.shares --store STORE.mrl --queries QUERIES.npy
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.data import load
from mrlstore.kernels.call import Runner
from mrlstore.kernels.load import kernels as loaded
from mrlstore.kernels.scratch import Scratch
from mrlstore.search.group_search import Walk
from mrlstore.search.queries import prepare
from mrlstore.search.workspace import empty_hits
from tests.nested import BLOCK, blocks, nested

K, ROUNDS = 10, 5
SHARES = (50, 20, 10, 5, 1, 0.1)  # per cent of the rows


def best_us(
    answers: Sequence[Callable[[NDArray[np.float32]], Any]], queries: NDArray[np.float32]
) -> list[float]:
    """For each function: the mean over the queries of the best time of each, in microseconds.

    The functions take turns, so that a change of machine load affects all alike.
    """
    best = np.full((len(answers), len(queries)), np.inf)
    for _ in range(ROUNDS):
        for way, answer in enumerate(answers):
            for i, query in enumerate(queries):
                start = time.perf_counter()
                answer(query)
                best[way, i] = min(best[way, i], time.perf_counter() - start)
    return [float(mean) * 1e6 for mean in best.mean(axis=1)]


class Timed:
    """A kernel that adds the time that it runs for to `inside`."""

    def __init__(self, kernel: Runner, inside: list[float]) -> None:
        self.kernel, self.inside = kernel, inside

    def __call__(self, *arguments: Any) -> Any:
        return self.run(lambda: self.kernel(*arguments))

    def bound(self, *arguments: Any) -> Callable[[], object]:
        run = self.kernel.bound(*arguments)
        return lambda: self.run(run)

    def run(self, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = call()
        self.inside[0] += time.perf_counter() - start
        return found


def python_share(path: Path, queries: NDArray[np.float32]) -> Iterator[str]:
    """Time of a whole query with its ids: the share inside the kernels, and the share of Python."""
    kernels, inside = loaded(), [0.0]
    names = ("search_walk", "search_scan", "normalise")
    real = {name: getattr(kernels, name) for name in names}
    best = np.full((2, len(queries)), np.inf)
    try:
        for name in names:
            setattr(kernels, name, Timed(real[name], inside))
        with mrlstore.open(path, mode="r") as store:  # its searchers take the timed kernels
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
    """query_batch on one thread and on two, in turn, and the kernel alone: cores share memory bandwidth."""
    many = np.tile(queries, (4, 1))
    with (
        mrlstore.open(path, mode="r", threads=1) as one,
        mrlstore.open(path, mode="r", threads=2) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        ways: dict[str, Callable[[], Any]] = {
            "one": lambda: one.query_batch(many, K, include=()).ids,
            "two": lambda: two.query_batch(many, K, include=()).ids,
        }
        one.query(many[0], include=())
        snapshot = one._session.snapshots.latest()
        effort, (live_group, *_) = snapshot.calibration.effort(K, None), snapshot.groups("")
        walk = Walk(
            live_group.group,
            K,
            effort.ef,
            effort.shortlist,
            beam_ratio=effort.beam_ratio,
            stop_margin=effort.stop_margin,
        )
        units = prepare(many, one.prefix_dim or 1).vectors
        runs = np.array_split(units, -(-len(units) // 64))

        def run(some: NDArray[np.float32]) -> None:
            scratch = Scratch()
            walk.reserve(scratch)
            walk.launch(some, empty_hits(len(some), K), scratch)

        ways["kernel on one"] = lambda: list(map(run, runs))
        ways["kernel on two"] = lambda: list(pool.map(run, runs))
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(3 * ROUNDS):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
    rates = {name: len(many) / float(np.median(taken)) for name, taken in times.items()}
    whole, kernel = ("one", "two"), ("kernel on one", "kernel on two")
    for what, (a, b) in (("query_batch with its ids", whole), ("kernel", kernel)):
        yield (
            f"{what}: {rates[a]:,.0f} queries/s on one thread, {rates[b]:,.0f} on two: "
            f"{rates[b] / rates[a]:.2f} times"
        )


def filters(store: mrlstore.Store, queries: NDArray[np.float32]) -> Iterator[str]:
    """Time and recall with filters that a share of the rows passes, compared with no filter."""

    def plain(query: NDArray[np.float32]) -> mrlstore.Result:
        return store.query(query, K, include=())

    yield f"no filter: recall {recall(store, queries, None):.4f}"
    for share in SHARES:
        for name in ("random", "topic"):
            where = {name: {"$lt": share * 10}}
            free, taken = best_us(
                (plain, lambda query, where=where: store.query(query, K, where=where, include=())), queries
            )
            found = recall(store, queries, where)
            way = store.query(queries[0], K, where=where, include=()).plan.segments[0].path
            yield (
                f"{share} % pass ({name}): {taken:.1f} us, no filter {free:.1f}: {taken / free:.2f} times,"
                f" recall {found:.4f}, {way}"
            )


def recall(store: mrlstore.Store, queries: NDArray[np.float32], where: Any) -> float:
    shares = []
    for query in queries:
        best = set(store.query(query, K, where=where, exact=True, include=()).ids)
        found = set(store.query(query, K, where=where, include=()).ids)
        shares.append(len(best & found) / max(len(best), 1))
    return float(np.mean(shares))


def build(path: Path, rows: Iterable[NDArray[Any]], some: NDArray[Any], towards: NDArray[np.float32]) -> None:
    """Store blocks of rows; `random` and `topic` are numbers from 0 to 1,000: by chance, and by nearness.

    `topic` ranks a row by its dot product with `towards`, among those of the sample `some`.
    """
    rng, done = np.random.default_rng(3), 0
    sample = np.sort(some.astype(np.float32) @ towards)
    with mrlstore.open(path, dim=len(towards), auto_maintain=False) as store:
        for raw in rows:
            block = raw.astype(np.float32)
            topic = 1_000 * (1 - np.searchsorted(sample, block @ towards) / len(sample))
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
        "--set", choices=("real", "hard"), help="rows and queries of benchmarks/data.py, instead of others"
    )
    parser.add_argument(
        "--store", type=Path, help="an indexed store, instead of one that is made; no filters then"
    )
    parser.add_argument("--queries", type=Path, help="its queries, .npy [n, dim]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path, rows, dim = options.store or Path(folder) / "shares.mrl", options.rows, options.dim
        if options.set is not None:
            data = load(options.set, rows, Path(folder))
            queries = data.queries[:200].astype(np.float32)
            parts = (data.rows[start : start + BLOCK] for start in range(0, rows, BLOCK))
            build(path, parts, data.rows[:: max(rows // 5_000, 1)], queries[0])
        else:
            given = options.queries is not None
            queries = np.load(options.queries).astype(np.float32) if given else nested(200, dim, seed=2)
            if options.store is None:
                build(path, blocks(rows, dim), nested(min(rows, 5_000), dim), nested(1, dim, seed=99)[0])
        with mrlstore.open(path, mode="r") as store:
            store.warm()
            print(*python_share(path, queries), sep="\n", flush=True)
            print(*batches(path, queries), sep="\n", flush=True)
            if options.store is None:
                for line in filters(store, queries):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
