"""Run the peers, each in a process of its own, on the same data, and write a table and a plot.

python -m benchmarks.compare --sets real,hard --rows 100000 --work build/bench --docs docs

The peers build one after the other. Then they take turns: every effort of each peer once, again and again, so
that a busy moment of the machine meets all of them alike.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.peers import PEERS, efforts
from benchmarks.compare.report import write
from benchmarks.data import Set, load
from mrlstore.kernels.load import warm

ROUNDS = 7


def build(peer: str, data: Set, folder: Path) -> None:
    """Build it, and tell what that took."""
    made = PEERS[peer]
    importlib.import_module(made.library)
    warm()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began, cpu = time.perf_counter(), time.process_time()
    made.build(data.rows, folder)
    told = {"build_s": time.perf_counter() - began, "build_cpu_s": time.process_time() - cpu}
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    told["disk"] = disk + (0 if made.keeps_rows else data.rows.nbytes)
    print(json.dumps(told), flush=True)


def serve(peer: str, data: Set, folder: Path) -> None:
    """Open it, ask all queries once at every effort whose number comes in; then tell all.

    A query's time is the best of all rounds.
    """
    import psutil

    me, made = psutil.Process(), PEERS[peer]
    importlib.import_module(made.library)
    warm()
    before, began = me.memory_info().rss, time.perf_counter()
    at = made.open(data.rows, folder)
    list(at(efforts(peer)[0])(data.queries[0]))
    told: dict[str, Any] = {"peer": peer, "set": data.name, "open_s": time.perf_counter() - began}
    print(json.dumps(told), flush=True)
    times, recalls = {}, {}
    for line in sys.stdin:
        number = int(line)
        answer = at(efforts(peer)[number])
        if number not in times:
            times[number], found = np.full(len(data.queries), np.inf), [list(answer(q)) for q in data.queries]
            shares = [len(set(f) & set(t.tolist())) / len(t) for f, t in zip(found, data.truth, strict=True)]
            recalls[number] = float(np.mean(shares))
        best = times[number]
        for i, query in enumerate(data.queries):
            start = time.perf_counter()
            answer(query)
            best[i] = min(best[i], time.perf_counter() - start)
        print(json.dumps([recalls[number], float(best.mean()) * 1e6]), flush=True)
    told["rss"] = me.memory_info().rss - before
    told["points"] = [
        {
            "effort": efforts(peer)[number],
            "recall": recalls[number],
            "us": float(best.mean()) * 1e6,
            "p50": float(np.percentile(best, 50)) * 1e6,
            "p99": float(np.percentile(best, 99)) * 1e6,
        }
        for number, best in sorted(times.items())
    ]
    print(json.dumps(told), flush=True)


class Running:
    """One peer in its processes: one that builds, one that answers."""

    def __init__(self, peer: str, name: str, options: argparse.Namespace) -> None:
        self.peer = peer
        self.command = [sys.executable, "-m", "benchmarks.compare", "--sets", name, "--peers", peer]
        self.command += ["--rows", str(options.rows), "--work", str(options.work)]
        self.built = self._start("build").hear()
        self.ready = self.built is not None and self._start("serve").hear() is not None

    def _start(self, part: str) -> Running:
        environment, pipe = {**os.environ, "OMP_NUM_THREADS": "2"}, subprocess.PIPE
        self.process = subprocess.Popen(
            [*self.command, "--part", part], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        return self

    def hear(self) -> Any:
        """The next line that it says; None once it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, number: int) -> None:
        """Let it ask all queries once at its effort of this number."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        recall, us = self.hear()
        print(f"{self.peer:28} {efforts(self.peer)[number]!s:12} {recall:.4f} {us:8.1f} us", file=sys.stderr)

    def end(self) -> Any:
        """What it measured."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return {**(self.built or {}), **self.hear()}


def compare(name: str, peers: list[str], options: argparse.Namespace) -> list[Any]:
    """The results of all peers on one set."""
    running = [one for one in (Running(peer, name, options) for peer in peers) if one.ready]
    for _ in range(options.rounds):
        for number in range(max(len(efforts(one.peer)) for one in running)):
            for one in running:
                if number < len(efforts(one.peer)):
                    one.ask(number)
    return [one.end() for one in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", default="real,hard")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--part", choices=("build", "serve"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sets, peers = options.sets.split(","), options.peers.split(",")
    if options.part:
        part, data = build if options.part == "build" else serve, load(sets[0], options.rows, options.work)
        part(peers[0], data, options.work / f"{sets[0]}-{options.rows}-{peers[0].split()[0].lower()}")
        return
    results = options.work / f"results-{options.rows}.jsonl"
    for name in sets:
        load(name, options.rows, options.work)
        found = compare(name, peers, options)
        with results.open("a") as file:
            file.writelines(json.dumps(result) + "\n" for result in found)
    write(results, options.docs, options.rows)


if __name__ == "__main__":
    main()
