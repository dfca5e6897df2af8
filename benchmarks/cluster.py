"""What a cluster costs beside one store: writes by batch size, with a log and without; queries; restarts.

The home is a folder on the same disk: on object storage each write takes the time of a put longer.

python -m benchmarks.cluster --rows 20000 --dim 768
python -m benchmarks.cluster --ray    # queries of shards that Ray runs, with mrlstore[ray]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore import cluster
from tests.nested import nested

BATCHES = (1, 10, 100, 1_000)
SHARDS = (1, 2, 4, 8)
WRITERS = 8
CALLS = 40  # of each writer


def writes(path: Path, dim: int) -> None:
    """Rows a second and milliseconds of one call, by rows of a call."""
    print(f"\n{'rows a call':>12} {'one store':>22} {'1 shard':>22} {'4 shards':>22}   rows/s, ms p50")
    cluster.create(path / "one-shard", dim=dim)
    cluster.create(path / "four", dim=dim, shards=4)
    with (
        mrlstore.open(path / "plain.mrl", dim=dim, auto_maintain=False) as plain,
        cluster.connect(path / "one-shard", folder=path / "copies", auto_maintain=False) as one,
        cluster.connect(path / "four", folder=path / "copies", auto_maintain=False) as four,
    ):
        for size in BATCHES:
            cells = []
            vectors = nested(size, dim)
            for store in (plain, one, four):
                some: Any = store
                taken = []
                for number in range(max(5, min(60, 3_000 // size))):
                    ids = [f"{size}-{number}-{row}" for row in range(size)]
                    start = time.perf_counter()
                    some.upsert(ids, vectors)
                    taken.append(time.perf_counter() - start)
                cells.append(
                    f"{size / statistics.mean(taken):>12,.0f} {1e3 * statistics.median(taken):>9.2f}"
                )
            print(f"{size:>12} " + " ".join(cells))


def grouped(path: Path, dim: int) -> None:
    """Rows a second of several threads that write one row at a time."""
    print(f"\n{WRITERS} threads, one row a call, 1 shard:")
    cluster.create(path / "grouped", dim=dim)
    for group_ms in (0.0, 2.0, 10.0):
        with cluster.connect(
            path / "grouped", folder=path / "copies", group_ms=group_ms, auto_maintain=False
        ) as store:
            vectors = nested(WRITERS, dim)
            before = store.stats().shards[0].place

            def work(
                number: int, store: Any = store, vectors: Any = vectors, group_ms: float = group_ms
            ) -> None:
                for turn in range(CALLS):
                    store.upsert([f"{group_ms}-{number}-{turn}"], vectors[number : number + 1])

            threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rows, taken = WRITERS * CALLS, time.perf_counter() - start
            objects = store.stats().shards[0].place - before
            print(
                f"  group_ms={group_ms:<5g} {rows / taken:>8,.0f} rows/s, {rows / objects:.1f} rows an object"
            )


def reads(path: Path, rows: int, dim: int) -> None:
    """Queries and restarts of one store and of clusters of the same rows."""
    vectors, questions = nested(rows, dim), nested(300, dim, seed=9)
    ids = [f"r{number}" for number in range(rows)]
    print(
        f"\n{rows:,} rows of {dim} dims: ms p50 / p99 of a query, and of 64 at once a query; exact; restart"
    )
    with mrlstore.open(path / "read.mrl", dim=dim, auto_maintain=False) as store:
        store.upsert(ids, vectors)
        store.optimize()
        print(f"{'one store':>12} {_figures(store, questions)}")
    for shards in SHARDS:
        home, name = path / f"home-{shards}", f"{shards} shard" + "s" * (shards > 1)
        cluster.create(home, dim=dim, shards=shards)
        with cluster.connect(home, folder=path / "copies", auto_maintain=False) as many:
            many.upsert(ids, vectors)
            many.optimize()
            many.snapshot()
            line = _figures(many, questions)
        start = time.perf_counter()
        with cluster.connect(home, mode="r", auto_maintain=False) as many:
            assert many.count() == rows
            print(f"{name:>12} {line}  {time.perf_counter() - start:6.2f} s on an empty disk")


def by_ray(path: Path, rows: int, dim: int) -> None:
    """Queries of clusters that Ray runs on this machine, by shards and hosts."""
    import ray

    vectors, questions = nested(rows, dim), nested(300, dim, seed=9)
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print(f"\n{rows:,} rows of {dim} dims, by Ray: ms p50 / p99 of a query, and of 64 at once a query; exact")
    for shards, hosts in ((1, 1), (2, 2), (4, 1), (4, 2), (4, 3), (8, 3)):
        home = path / f"ray-{shards}-{hosts}"
        cluster.create(home, dim=dim, shards=shards)
        with cluster.connect(home, engine="ray", folder=path / "nodes", hosts=hosts, copies=1) as many:
            many.upsert([f"r{number}" for number in range(rows)], vectors)
            many.optimize()
            print(f"{shards:>4} shards, {hosts} hosts {_figures(many, questions)}")
        cluster.stop_hosts(home)
    ray.shutdown()


def _figures(store: Any, questions: Any) -> str:
    usual = _times(lambda question: store.query(question, include=()), questions)
    exact = _times(lambda question: store.query(question, include=(), exact=True), questions[:40])
    start = time.perf_counter()
    for at in range(0, len(questions) - 63, 64):
        len(store.query_batch(questions[at : at + 64], include=()).ids)
    batch = (time.perf_counter() - start) / (len(questions) // 64 * 64)
    return (
        f"{np.percentile(usual, 50):7.3f} / {np.percentile(usual, 99):7.3f}  {1e3 * batch:7.3f}  "
        f"{np.percentile(exact, 50):7.2f}"
    )


def _times(ask: Callable[[Any], Any], questions: Any) -> list[float]:
    for question in questions[:50]:
        ask(question)
    taken = []
    for question in questions:
        start = time.perf_counter()
        ask(question)
        taken.append(1e3 * (time.perf_counter() - start))
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if given.ray:
            by_ray(Path(folder), given.rows, given.dim)
            return
        writes(Path(folder), given.dim)
        grouped(Path(folder), given.dim)
        reads(Path(folder), given.rows, given.dim)


if __name__ == "__main__":
    main()
