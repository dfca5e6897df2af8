"""The server under load: queries a second, latencies, and processor time of the server for each query.

python -m benchmarks.server [--rows 20000] [--dim 3072] [--workers 1] [--clients 4] [--seconds 10]

A store of generated rows is served by `python -m mrlstore.server`, whose worker processes' CPU time is read
before and after. Clients are bare sockets in one other process, which send bodies that were made before and
read the answers whole. The share of the server itself is its processor time less that of the same query in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

import mrlstore
from benchmarks.bare_client import read_answer
from tests.nested import nested
from tests.server.running import RunningServer, running

K, QUESTIONS = 10, 64


@dataclass
class Load:
    """What clients saw, and what the server spent."""

    requests: int
    seconds: float
    latencies_ms: list[float]
    server_cpu_s: float

    def line(self, name: str, store_ms: float | None) -> str:
        each = self.server_cpu_s / self.requests * 1e3
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        own = "" if store_ms is None else f"{each - store_ms:8.2f}"
        return f"{name:22} {self.requests / self.seconds:8.0f} {p50:8.2f} {p99:8.2f} {each:8.2f} {own}"


def bodies(questions: NDArray[np.float32], digits: int | None) -> list[bytes]:
    """Query bodies: numbers of full precision as the SDKs send them, or with some digits."""

    def numbers(row: NDArray[np.float32]) -> list[float]:
        return [float(x) if digits is None else round(float(x), digits) for x in row]

    return [
        json.dumps(
            {"topK": K, "vector": numbers(row), "includeMetadata": True}, separators=(",", ":")
        ).encode()
        for row in questions
    ]


def requests(path: str, port: int, contents: list[bytes]) -> list[bytes]:
    """Whole HTTP requests."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in contents]


def drive(port: int, sent: list[bytes], clients: int, seconds: float) -> tuple[int, float, list[float]]:
    """Send requests over some connections for a while; gives their number, the time, the latencies in ms."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            at = number
            while (began := time.perf_counter()) < end:
                connection.sendall(sent[at % len(sent)])
                read_answer(connection)
                latencies[number].append((time.perf_counter() - began) * 1e3)
                at += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [each for some in latencies for each in some]
    return len(every), time.perf_counter() - began, every


def measured(server: RunningServer, sent: list[bytes], clients: int, seconds: float) -> Load:
    """The load that clients in another process make."""
    processes = [psutil.Process(pid) for pid in server.workers()]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(drive, (server.port, sent, clients, 1.0))
        before = sum(sum(each.cpu_times()[:2]) for each in processes)
        count, took, latencies = pool.apply(drive, (server.port, sent, clients, seconds))
        after = sum(sum(each.cpu_times()[:2]) for each in processes)
    return Load(count, took, latencies, after - before)


def in_process_ms(path: Path, questions: NDArray[np.float32]) -> float:
    """Processor time of a query with metadata in a process: the least mean of five rounds of all questions.

    Questions take turns as they do under load: one that is asked again at once finds its rows in the caches.
    """
    with mrlstore.open(path, mode="r") as store:
        means = []
        for _ in range(6):
            began = time.process_time()
            for row in questions:
                list(store.query(row, K))
            means.append((time.process_time() - began) / len(questions) * 1e3)
    return min(means[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "stores"
        questions = fill(root / "papers.mrl", given.rows, given.dim)
        store_ms = in_process_ms(root / "papers.mrl", questions)
        print(f"{given.rows:,} rows of {given.dim:,} dims; the query in a process: {store_ms:.2f} ms")
        print(f"{'':22} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms':>8} {'own ms':>8}")
        with running(root, "--workers", str(given.workers)) as server:
            kinds = {f"query, {len(made[0]) / 1e3:.0f} KB": made
                     for made in (bodies(questions, 8), bodies(questions, None))}  # fmt: skip
            for _ in range(given.rounds):
                for name, made in kinds.items():
                    sent = requests("/i/papers/query", server.port, made)
                    load = measured(server, sent, given.clients, given.seconds)
                    print(load.line(name, store_ms), flush=True)
            sent = requests("/i/papers/vectors/upsert", server.port, upserts(questions))
            load = measured(server, sent, 1, given.seconds)  # with the maintenance that writes bring
            print(load.line("upsert of 32 rows", None), flush=True)


def upserts(vectors: NDArray[np.float32]) -> list[bytes]:
    """Bodies that each write 32 rows anew."""
    rows = [
        {"id": f"new-{at}", "values": [float(x) for x in row], "metadata": {"n": at}}
        for at, row in enumerate(vectors[:32])
    ]
    return [json.dumps({"vectors": rows}).encode()]


def fill(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """Make the store; gives questions near its rows."""
    vectors = nested(rows + QUESTIONS, dim)
    with mrlstore.open(path, dim=dim) as store:
        for start in range(0, rows, 5_000):
            part = vectors[start : min(start + 5_000, rows)]
            ids = [f"row-{start + at}" for at in range(len(part))]
            store.upsert(
                ids, part, [{"year": 2000 + at % 20, "title": f"Title {at}"} for at in range(len(part))]
            )
        store.optimize()
    return vectors[rows:]


if __name__ == "__main__":
    main()
