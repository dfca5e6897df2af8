"""Run the peers, each in a process of its own, on the same data, and write a table and a plot.

python -m benchmarks.compare --sets real,hard --rows 100000 --work build/bench --docs docs
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.peers import EFFORTS, PEERS
from benchmarks.compare.report import write
from benchmarks.data import Set, load

ENOUGH = 0.9995  # recall at which no more effort is tried
ROUNDS = 3


def measure(peer: str, data: Set, folder: Path) -> dict[str, Any]:
    """Build, then for each effort: recall@10, and each query's best time of ROUNDS, one at a time."""
    import psutil

    me = psutil.Process()
    np.asarray(data.rows).view(np.uint8).reshape(-1)[::4096].sum()  # in the page cache, mapped
    before = me.memory_info().rss
    began, cpu = time.perf_counter(), time.process_time()
    at = PEERS[peer](data.rows, folder)
    built, cpu = time.perf_counter() - began, time.process_time() - cpu
    points = []
    for effort in EFFORTS:
        answer = at(effort)
        found = [list(answer(query)) for query in data.queries]
        recall = float(
            np.mean([len(set(f) & set(t.tolist())) / len(t) for f, t in zip(found, data.truth, strict=True)])
        )
        times = np.full(len(data.queries), np.inf)
        for _ in range(ROUNDS):
            for i, query in enumerate(data.queries):
                start = time.perf_counter()
                answer(query)
                times[i] = min(times[i], time.perf_counter() - start)
        p50, p99 = (float(np.percentile(times, p)) * 1e6 for p in (50, 99))
        points.append(
            {"effort": effort, "recall": recall, "us": float(times.mean()) * 1e6, "p50": p50, "p99": p99}
        )
        print(f"{peer:28} {effort!s:12} {recall:.4f} {points[-1]['us']:8.1f} us", file=sys.stderr, flush=True)
        if recall >= ENOUGH or points[-1]["us"] > 20_000:
            break
    rss = me.memory_info().rss - before
    return {
        "peer": peer,
        "set": data.name,
        "build_s": built,
        "build_cpu_s": cpu,
        "rss": rss,
        "points": points,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default="real,hard")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sets, peers = options.sets.split(","), options.peers.split(",")
    if options.one:
        data = load(sets[0], options.rows, options.work)
        print(json.dumps(measure(peers[0], data, options.work)))
        return
    results = options.work / f"results-{options.rows}.jsonl"
    for name in sets:
        load(name, options.rows, options.work)
        for peer in peers:
            command = [sys.executable, "-m", "benchmarks.compare", "--one", "--sets", name, "--peers", peer]
            command += ["--rows", str(options.rows), "--work", str(options.work)]
            environment = {**os.environ, "OMP_NUM_THREADS": "2"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
            if done.returncode == 0:
                with results.open("a") as file:
                    file.write(done.stdout.strip().splitlines()[-1] + "\n")
    write(results, options.docs, options.rows)


if __name__ == "__main__":
    main()
