"""Clusters that Ray runs beside one store with the same rows: queries, tails, bulk load, recovery of a node.

One simulated Ray cluster with three nodes of this machine, folders as their disks and as the home. Everything
is printed as tables; less than ten minutes on a quiet machine with two cores.

python -m benchmarks.cluster_ray --rows 20000 --dim 768 --lost-rows 100000
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

for name, value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_raylet_start_wait_time_s", "180"),
    ("RAY_worker_niceness", "0"),  # else its processes starve where others keep the cores busy
    ("RAY_health_check_initial_delay_ms", "1000"),
    ("RAY_health_check_period_ms", "1000"),
    ("RAY_health_check_timeout_ms", "1000"),
    ("RAY_health_check_failure_threshold", "3"),
):
    os.environ.setdefault(name, value)

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import ray  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

import mrlstore  # noqa: E402
from mrlstore import cluster  # noqa: E402
from tests.nested import nested  # noqa: E402

NODES = ("a", "b", "c")
LAYOUTS = ((1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 3), (8, 3))  # shards and nodes
WARM, ASKED, BATCH = 50, 300, 64
LONGEST_S = 300.0


class Figures(NamedTuple):
    """Of queries: ms of one at a time, processor time of one in all processes, ms of one in a batch."""

    p50: float
    p99: float
    processor: float
    batch: float

    def __str__(self) -> str:
        return f"{self.p50:8.2f} {self.p99:8.2f} {self.processor:10.2f} {self.batch:8.2f}"


def processor_s(processes: list[int]) -> float:
    """Processor seconds that this process and others have taken."""
    times = [psutil.Process(one).cpu_times() for one in (os.getpid(), *processes)]
    return sum(one.user + one.system for one in times)


def figures(store: Any, questions: NDArray[np.float32], processes: list[int]) -> Figures:
    """Ask all questions one by one, then in batches."""
    for question in questions[:WARM]:
        store.query(question, include=())
    taken, before = [], processor_s(processes)
    for question in questions:
        start = time.perf_counter()
        store.query(question, include=())
        taken.append(1e3 * (time.perf_counter() - start))
    processor = 1e3 * (processor_s(processes) - before) / len(questions)
    start, asked = time.perf_counter(), len(questions) // BATCH * BATCH
    for at in range(0, asked, BATCH):
        len(store.query_batch(questions[at : at + BATCH], include=()).ids)
    batch = 1e3 * (time.perf_counter() - start) / asked
    p50, p99 = np.percentile(taken, (50, 99))
    return Figures(float(p50), float(p99), processor, batch)


def connected(home: Path, disks: Path, hosts: int, copies: int = 1) -> cluster.ShardedStore:
    """A cluster on so many of the nodes."""
    return cluster.connect(
        home, engine="ray", folder=str(disks / "{node}"), hosts=hosts, copies=copies, num_cpus=0.1, threads=1
    )


def processes_of(home: Path) -> list[int]:
    """The processes of the hosts."""
    return [host.process for host in cluster.hosts(home).hosts]


def queries(folder: Path, rows: int, dim: int) -> None:
    """One store and all layouts."""
    vectors, questions = nested(rows, dim), nested(ASKED, dim, seed=9)
    ids = [f"r{number}" for number in range(rows)]
    print(f"\nqueries, {rows:,} rows of {dim} dims: ms p50, p99, processor ms of one, ms of one in a batch")
    with mrlstore.open(folder / "one.mrl", dim=dim, auto_maintain=False) as store:
        store.upsert(ids, vectors)
        store.optimize()
        print(f"{'one store':>20} {figures(store, questions, [])}")
    for shards, nodes in LAYOUTS:
        home = folder / f"home-{shards}-{nodes}"
        cluster.create(home, dim=dim, shards=shards)
        with connected(home, folder / "disks", nodes) as many:
            many.upsert(ids, vectors)
            many.optimize()
            name = f"{shards} shards, {nodes} nodes"
            print(f"{name:>20} {figures(many, questions, processes_of(home))}", flush=True)
        cluster.stop_hosts(home)


def tails(folder: Path, rows: int, dim: int) -> None:
    """The tail of queries while one host of two stops for 50 ms, five times a second."""
    vectors, questions = nested(rows, dim), nested(ASKED, dim, seed=9)
    print("\ntail, 2 shards, 2 nodes, one of which stops for 50 ms five times a second: ms p50, p99, longest")
    home = folder / "home-tail"
    cluster.create(home, dim=dim, shards=2)
    with connected(home, folder / "disks", 2, copies=2) as many:
        many.upsert([f"r{number}" for number in range(rows)], vectors)
        many.optimize()
        view, end = cluster.wait_until_whole(home), threading.Event()
        writer = view.writer(0)
        process = next(host.process for host in view.hosts if host.number == writer)

        def stop() -> None:
            while not end.wait(0.15):
                os.kill(process, signal.SIGSTOP)
                time.sleep(0.05)
                os.kill(process, signal.SIGCONT)

        engine: Any = many._engine
        usual = engine.delay_s
        for name, delay in (("without a second ask", lambda: LONGEST_S), ("with a second ask", usual)):
            engine.delay_s = delay
            thread = threading.Thread(target=stop)
            end.clear()
            thread.start()
            taken = []
            for question in questions:
                start = time.perf_counter()
                many.query(question, include=())
                taken.append(1e3 * (time.perf_counter() - start))
            end.set()
            thread.join()
            p50, p99 = np.percentile(taken, (50, 99))
            print(f"{name:>22} {p50:8.2f} {p99:8.2f} {max(taken):8.2f}", flush=True)
    cluster.stop_hosts(home)


def bulk(folder: Path, rows: int, dim: int) -> None:
    """Rows a second of a bulk load, into snapshots with graphs."""
    vectors = nested(rows, dim)
    table = pa.table(
        {
            "id": [f"r{number}" for number in range(rows)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
            "metadata": [json.dumps({"n": number}) for number in range(rows)],
        }
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=2_000)
    home = folder / "home-bulk"
    cluster.create(home, dim=dim, shards=4)
    with connected(home, folder / "disks", 3):
        loading = time.perf_counter()
        cluster.build(str(folder / "rows.parquet"), home, batch=2_000, num_cpus=0.5, finish=False)
        indexing = time.perf_counter()
        done = cluster.build(str(folder / "rows.parquet"), home, batch=2_000, num_cpus=0.5)
        end = time.perf_counter()
    cluster.stop_hosts(home)
    assert done.skipped == rows
    print(
        f"\nbulk load of {rows:,} rows, 4 shards, 3 nodes: {indexing - loading:.1f} s with its start, "
        f"{rows / (indexing - loading):,.0f} rows/s; again, only graphs and snapshots: {end - indexing:.1f} s"
    )


def recovery(folder: Path, nodes: Cluster, workers: dict[str, Any], rows: int, dim: int) -> None:
    """A node with all rows is lost with its disk: until queries and writes go on, and all copies are back."""
    home, disks = folder / "home-lost", folder / "disks-lost"
    cluster.create(home, dim=dim, shards=1)
    with connected(home, disks, 3, copies=2) as store:
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            store.upsert([f"r{start + number}" for number in range(count)], nested(count, dim, seed=start))
        store.optimize()
        store.snapshot()
        view = cluster.wait_until_whole(home, timeout_s=LONGEST_S)
        writer = next(host for host in view.hosts if host.number == view.writer(0))
        question = nested(1, dim, seed=9)[0]
        before = store.query(question, exact=True).ids
        lost = time.perf_counter()
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            nodes.remove_node(workers[writer.node], allow_graceful=False)
        shutil.rmtree(disks / writer.node, ignore_errors=True)
        answered = _until(lambda: store.query(question, exact=True).ids == before)
        written = _until(lambda: store.upsert(["late"], nested(1, dim)) == 1)
        gone = writer.process

        def whole() -> bool:
            now = cluster.hosts(home)
            return now.ready(0) >= 2 and all(host.process != gone or host.silent for host in now.hosts)

        again = _until(whole)
        print(
            f"\na node with {rows:,} rows lost with its disk: queries after {answered - lost:.1f} s, "
            f"writes after {written - lost:.1f} s, two copies again after {again - lost:.1f} s"
        )
    cluster.stop_hosts(home)


def _until(right: Any) -> float:
    """The moment at which it is right."""
    deadline = time.perf_counter() + LONGEST_S
    while True:
        try:
            if right():
                return time.perf_counter()
        except mrlstore.MrlStoreError:
            pass
        assert time.perf_counter() < deadline, "it does not go on"
        time.sleep(0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--lost-rows", type=int, default=100_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = {name: nodes.add_node(num_cpus=4, labels={"mrlstore-node": name}) for name in NODES}
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            queries(Path(folder), given.rows, given.dim)
            tails(Path(folder), given.rows, given.dim)
            bulk(Path(folder), given.rows, given.dim)
            recovery(Path(folder), nodes, workers, given.lost_rows, given.dim)
    finally:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            ray.shutdown()
            nodes.shutdown()


if __name__ == "__main__":
    main()
