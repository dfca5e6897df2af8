"""Queries while another process writes: p50 and p99 over time, with maintenance in the background.

python -m benchmarks.beside_writer --plot beside-writer.svg      (ten minutes, 1,000 rows/s)
python -m benchmarks.beside_writer --seconds 60

A store of generated rows is searched by one process, up to 100 queries a second, at first alone, then beside
one that upserts batches of 100 rows, half of them in the place of old ones. The first query after a commit
reads the new rows: its own processor time, which other work of the machine hardly changes, is given apart.
The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import mrlstore
from tests.nested import nested

BATCH, PAUSE_S = 100, 0.01
SLICE_S = 10


class Slice(NamedTuple):
    """The latencies of some seconds, in microseconds, and how the store stood at their end."""

    second: float
    p50: float
    p99: float
    rows: int
    segments: int


class Costs(NamedTuple):
    """Processor time of queries, in microseconds."""

    first: list[float]  # after a commit of the other process
    others: list[float]


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=1_536)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--quiet", type=int, default=30, help="seconds before the writer starts")
    parser.add_argument("--rate", type=int, default=1_000, help="rows written a second")
    parser.add_argument("--plot", type=Path, help="an SVG or PNG file")
    parser.add_argument("--write-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to:
        write(options.write_to, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.mrl"
        with mrlstore.open(path, dim=options.dim, auto_maintain=False) as store:
            rows = nested(options.rows, options.dim)
            for start in range(0, options.rows, 4_096):
                block = rows[start : start + 4_096]
                store.upsert([str(start + i) for i in range(len(block))], block)
            store.optimize()
        with mrlstore.open(path, mode="r") as store:
            costs = Costs([], [])
            quiet = measure(store, options.quiet, options.dim, costs)
            command = [
                sys.executable,
                "-m",
                "benchmarks.beside_writer",
                *sys.argv[1:],
                "--write-to",
                str(path),
            ]
            with subprocess.Popen(command) as writer:
                beside = measure(store, options.seconds, options.dim, costs)
                writer.wait(60)
    for name, slices in (("alone", quiet), ("beside the writer", beside)):
        for one in slices:
            print(
                f"{name}, {one.second:.0f} s: p50 {one.p50:.0f} us, p99 {one.p99:.0f} us, "
                f"{one.rows:,} rows, {one.segments} segments"
            )
    summary(quiet, beside, costs)
    if options.plot:
        plot(options.plot, quiet, beside)


def summary(quiet: list[Slice], beside: list[Slice], costs: Costs) -> None:
    """A table of both, and what the first query after a commit takes."""
    print(
        "\n| | alone | beside the writer, median of slices | from | to | ratio |\n|---|---|---|---|---|---|"
    )
    for name in ("p50", "p99"):
        alone, busy = ([getattr(one, name) / 1e3 for one in slices] for slices in (quiet, beside))
        ratio = np.median(busy) / np.median(alone)
        print(
            f"| {name}, ms | {np.median(alone):.2f} | {np.median(busy):.2f} | {min(busy):.2f} "
            f"| {max(busy):.2f} | {ratio:.2f} |"
        )
    for what, taken in (("the first query after a commit", costs.first), ("other queries", costs.others)):
        if taken:
            median, most = np.percentile(taken, (50, 90)) / 1e3
            print(
                f"processor time of {what}: median {median:.2f} ms, 90% within {most:.2f} ms, {len(taken):,}"
            )


def measure(store: mrlstore.Store, seconds: float, dim: int, costs: Costs) -> list[Slice]:
    """Query for so long; a slice for every SLICE_S."""
    questions, slices, number = nested(500, dim, seed=9), [], 0
    generation = store.query(questions[0]).plan.generation
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        until, taken = time.perf_counter() + SLICE_S, []
        while time.perf_counter() < until:
            begun, processor = time.perf_counter(), time.thread_time()
            found = store.query(questions[number % len(questions)])
            _ = found.ids
            taken.append(time.perf_counter() - begun)
            kind = costs.others if found.plan.generation == generation else costs.first
            kind.append((time.thread_time() - processor) * 1e6)
            generation = found.plan.generation
            number += 1
            time.sleep(PAUSE_S)
        stats = store.stats()
        p50, p99 = (float(np.percentile(taken, share)) * 1e6 for share in (50, 99))
        slices.append(Slice(time.perf_counter() - started, p50, p99, store.count(), stats.segments))
    return slices


def write(path: Path, options: argparse.Namespace) -> None:
    """Upsert at the rate that was asked for."""
    rows, rng = nested(4_096, options.dim, seed=3), np.random.default_rng(0)
    with mrlstore.open(path) as store:
        started, written = time.perf_counter(), 0
        while time.perf_counter() - started < options.seconds:
            new = [f"new {written + i}" for i in range(BATCH // 2)]
            old = [str(i) for i in rng.choice(options.rows, BATCH - len(new), replace=False).tolist()]
            store.upsert([*new, *old], rows[rng.integers(0, len(rows), BATCH)])
            written += BATCH
            time.sleep(max(0.0, started + written / options.rate - time.perf_counter()))
        print(f"{written / (time.perf_counter() - started):,.0f} rows/s were written", flush=True)


def plot(path: Path, quiet: list[Slice], beside: list[Slice]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    seconds = [one.second - quiet[-1].second for one in quiet] + [one.second for one in beside]
    both = (*quiet, *beside)
    axes.plot(seconds, [one.p50 for one in both], label="p50")
    axes.plot(seconds, [one.p99 for one in both], label="p99")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="seconds since the writer began", ylabel="microseconds a query", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
