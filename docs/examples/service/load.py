"""Load on the service of app.py, from several client processes: requests a second, median, p99, errors.

    python load.py http://127.0.0.1:8000 --dim 3072 --clients 4 --seconds 20 --workers 4 --write

Each client keeps one connection to each of the service's workers, and asks them in turn.
With --write one more process replaces a set of 20 rows again and again, each time stamped with a new version.
Every client then also asks for that set, and checks what it gets: the whole set, all of one version, and none
older than the last that had been acknowledged before the question was asked.
"""

import argparse
import base64
import itertools
import json
import multiprocessing
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

SET = 20  # rows that are replaced together


@dataclass
class Seen:
    """What one client has seen."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    workers: set[int] = field(default_factory=set)


def text(vector: np.ndarray) -> str:
    """A vector as float32 in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def connect(url: str, workers: int, stack: ExitStack) -> list[httpx.Client]:
    """A client for each worker: the kernel chooses who gets a connection, so make them until all have one."""
    found: dict[int, httpx.Client] = {}
    for _ in range(1000):
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        if found.setdefault(client.get("/health").json()["worker"], client) is not client:
            client.close()
        if len(found) == workers:
            return list(found.values())
    raise RuntimeError(f"{len(found)} workers took 1000 connections, not {workers}")


def put_set(client: httpx.Client, dim: int, version: int) -> None:
    vectors = np.random.default_rng(version).standard_normal((SET, dim))
    rows = [
        {"id": f"set-{n}", "vector": text(vector), "metadata": {"set": "one", "version": version}}
        for n, vector in enumerate(vectors)
    ]
    client.put("/rows", json={"rows": rows}).raise_for_status()


def write(url: str, dim: int, until: float, acknowledged: Any, told: Any) -> None:
    """Replace the set until the time is over."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.time() < until:
            version = acknowledged.value + 1
            put_set(client, dim, version)
            acknowledged.value = version
    told.put(version)


def ask(client: httpx.Client, vector: np.ndarray, seen: Seen, where: Any = None, k: int = 10) -> list[Any]:
    started = time.perf_counter()
    answer = client.post("/search", json={"vector": text(vector), "k": k, "where": where})
    seen.seconds.append(time.perf_counter() - started)
    answer.raise_for_status()
    hits: list[Any] = answer.json()["hits"]
    return hits


def check_set(client: httpx.Client, vector: np.ndarray, seen: Seen, acknowledged: Any) -> None:
    least = acknowledged.value
    hits = ask(client, vector, seen, where={"set": "one"}, k=SET)
    versions = {hit["metadata"]["version"] for hit in hits}
    if len(hits) != SET or len(versions) != 1 or min(versions) < least:
        seen.errors.append(f"{len(hits)} rows of versions {versions}, at least {least} was acknowledged")


def read(number: int, url: str, dim: int, workers: int, until: float, acknowledged: Any, told: Any) -> None:
    """Ask one worker after the other until the time is over."""
    seen, rng = Seen(), np.random.default_rng(1000 + number)
    with ExitStack() as stack:
        for client in itertools.cycle(connect(url, workers, stack)):
            if time.time() >= until:
                break
            vector = rng.standard_normal(dim)
            try:
                hits = ask(client, vector, seen)
                scores = [hit["score"] for hit in hits]
                if len(hits) != 10 or scores != sorted(scores, reverse=True):
                    seen.errors.append(f"{len(hits)} hits with scores {scores}")
                if acknowledged.value:
                    check_set(client, vector, seen, acknowledged)
                if len(seen.seconds) % 20 < 4:
                    seen.workers.add(client.get("/health").json()["worker"])
            except (httpx.HTTPError, KeyError, ValueError) as error:
                seen.errors.append(repr(error))
    told.put(seen)


def run(
    url: str, dim: int, clients: int, seconds: float, workers: int = 1, writing: bool = False
) -> dict[str, Any]:
    """Put on the load, and sum up what the clients saw."""
    context = multiprocessing.get_context("spawn")
    acknowledged, told, versions = context.Value("q", 0), context.Queue(), context.Queue()
    if writing:
        with httpx.Client(base_url=url, timeout=60) as client:
            put_set(client, dim, 1)
        acknowledged.value = 1
    until = time.time() + seconds + 1  # a second for the processes to start
    readers = [
        context.Process(target=read, args=(number, url, dim, workers, until, acknowledged, told))
        for number in range(clients)
    ]
    writers = (
        [context.Process(target=write, args=(url, dim, until, acknowledged, versions))] if writing else []
    )
    started = time.time()
    for process in readers + writers:
        process.start()
    seen = [told.get(timeout=seconds + 120) for _ in readers]
    written = sum(versions.get(timeout=60) for _ in writers)
    elapsed = time.time() - started
    for process in readers + writers:
        process.join()
    took = np.sort(np.concatenate([one.seconds for one in seen]))
    return {
        "requests": len(took),
        "requests_per_s": round(len(took) / elapsed, 1),
        "median_ms": round(float(np.quantile(took, 0.5)) * 1000, 2),
        "p99_ms": round(float(np.quantile(took, 0.99)) * 1000, 2),
        "versions_written": written,
        "workers_seen": len(set().union(*(one.workers for one in seen))),
        "errors": [error for one in seen for error in one.errors][:20],  # the first of them
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    told = run(given.url, given.dim, given.clients, given.seconds, given.workers, given.write)
    print(json.dumps(told, indent=1))
