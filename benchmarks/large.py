"""What growth costs: stores of 100,000 and 1,000,000 rows, and of the most that the disk takes.

nohup make bench-large &                                      (for hours; continues where it was stopped)
python -m benchmarks.large --sizes 20000,100000 --part 20000 --work build/large-small

Generated rows of 3,072 dims are made part by part, so that never more than one part is in memory. Each part
is one call of upsert, whose vectors go into a base part of the store; its index is built beside them, and
nothing is merged, so that a vector is written once. The exact answers to the questions are found while the
rows pass by. Every step that is done stands in a file of the work folder, which a later run goes on from.

A store is measured in a process of its own: first with its vectors dropped from the page cache, each question
asked once, then warm. `most` is as many rows as leave a third of the disk free.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.cold import drop
from benchmarks.footprint import memory
from mrlstore.kernels.load import warm
from mrlstore.maintenance import steps
from mrlstore.recall import calibrate
from mrlstore.system.job import UNWATCHED
from tests.nested import blocks, nested

K: Final = 10
QUESTIONS: Final = 200
ROUNDS: Final = 5
FIRST_SEED: Final = 1_000  # of the rows of the first part
# Bytes on the disk for each byte of float16 numbers: 1.08 at 3,072 dims, and the log of the catalogue.
DISK_SHARE: Final = 1.125
FAR: Final = 10_000_000  # rows, for which the table says what to expect

Floats = NDArray[np.float32]


class Best(NamedTuple):
    """The best rows of some questions so far."""

    rows: NDArray[np.int64]  # [questions, K]
    scores: Floats  # [questions, K]


class Work:
    """The folder of one size: the store, the steps that are done, and the exact answers."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder / str(rows), rows
        self.store, self._steps = self.folder / "s.mrl", self.folder / "steps.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)

    def steps(self, kind: str) -> list[dict[str, Any]]:
        """What was noted of steps of one kind."""
        lines = self._steps.read_text().splitlines() if self._steps.exists() else []
        return [one for one in map(json.loads, lines) if one["step"] == kind]

    def note(self, kind: str, **figures: float) -> None:
        """Keep what a step took."""
        with self._steps.open("a") as file:
            file.write(json.dumps({"step": kind, **figures}) + "\n")
        told = ", ".join(f"{name} {figure:,.2f}" for name, figure in figures.items())
        print(f"{self.rows:,} rows, {kind}: {told}", flush=True)

    def best(self, number: int) -> Path:
        """Where the best rows of the parts up to this one are kept."""
        return self.folder / f"best-{number}.npz"


def load(work: Work, dim: int, part_rows: int) -> None:
    """Store the parts that are not there yet, index each, and keep the exact answers."""
    questions = nested(QUESTIONS, dim, seed=2)
    with mrlstore.open(work.store, dim=dim, auto_maintain=False) as store:
        for number, first in enumerate(range(0, work.rows, part_rows)):
            count = min(part_rows, work.rows - first)
            if store.count() < first + count:
                rows = np.empty((count, dim), np.float16)
                done = 0
                for block in blocks(count, dim, seed=FIRST_SEED + number):
                    rows[done : done + len(block)] = block
                    done += len(block)
                save_best(work, number, nearest(questions, rows, first))
                started = time.perf_counter()
                store.upsert([f"{first + i}" for i in range(count)], rows)
                work.note("load", part=number, rows=count, seconds=time.perf_counter() - started)
                del rows
            started, processor = time.perf_counter(), time.process_time()
            steps.flush(store._session)  # a part of fewer than 4,096 rows went into the tail
            steps.complete_all(store._session, UNWATCHED)
            if len(work.steps("index")) <= number:
                seconds, processor_s = time.perf_counter() - started, time.process_time() - processor
                work.note("index", part=number, rows=count, seconds=seconds, processor_seconds=processor_s)
        if not work.steps("calibrate"):
            started = time.perf_counter()
            calibrate.refresh(store._session, UNWATCHED, always=True)
            work.note("calibrate", seconds=time.perf_counter() - started)


def nearest(questions: Floats, rows: NDArray[np.float16], first: int) -> Best:
    """The best K of some rows for each question; their numbers begin with `first`."""
    found = Best(np.empty((len(questions), 0), np.int64), np.empty((len(questions), 0), np.float32))
    for start in range(0, len(rows), 10_000):
        block = rows[start : start + 10_000].astype(np.float32)
        scores = questions @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
        numbers = np.broadcast_to(first + start + np.arange(len(block)), scores.shape)
        found = best_of(found, Best(numbers, scores))
    return found


def best_of(a: Best, b: Best) -> Best:
    """The best K of both."""
    rows, scores = np.concatenate([a.rows, b.rows], axis=1), np.concatenate([a.scores, b.scores], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return Best(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def save_best(work: Work, number: int, found: Best) -> None:
    """Keep the best rows of all parts up to this one."""
    if number:
        with np.load(work.best(number - 1)) as before:
            found = best_of(Best(before["rows"], before["scores"]), found)
    np.savez(work.best(number), rows=found.rows, scores=found.scores)


def measure(work: Work, dim: int, part_rows: int) -> dict[str, float]:
    """Open the store and ask, cold and warm; for a process of its own."""
    questions = nested(QUESTIONS, dim, seed=2)
    drop(work.store)
    warm()
    before = memory(work.store)["anonymous"]
    started = time.perf_counter()
    with mrlstore.open(work.store, mode="r") as store:
        found = [store.query(questions[0], K, include=()).ids]
        open_s = time.perf_counter() - started
        cold = []
        for question in questions[1:]:
            started = time.perf_counter()
            found.append(store.query(question, K, include=()).ids)
            cold.append(time.perf_counter() - started)
        taken = np.full((ROUNDS, QUESTIONS), np.inf)
        for times in taken:
            for i, question in enumerate(questions):
                started = time.perf_counter()
                store.query(question, K, include=())
                times[i] = time.perf_counter() - started
        after, stats = memory(work.store), store.stats()
    with np.load(work.best((work.rows - 1) // part_rows)) as kept:
        truth = [{str(row) for row in rows} for rows in kept["rows"].tolist()]
    hits = sum(len(best & {*ids}) for best, ids in zip(truth, found, strict=True))
    warm_us, cold_us = np.median(taken[1:], axis=0) * 1e6, np.array(cold) * 1e6
    return {
        "segments": stats.segments,
        "open_ms": open_s * 1e3,
        "p50_us": float(np.percentile(warm_us, 50)),
        "p99_us": float(np.percentile(warm_us, 99)),
        "cold_p50_us": float(np.percentile(cold_us, 50)),
        "cold_p99_us": float(np.percentile(cold_us, 99)),
        "recall": hits / (K * len(truth)),
        "ram_bytes_a_row": (after["anonymous"] - before + after["index"]) / work.rows,
        "disk_bytes_a_row": stats.bytes_on_disk / work.rows,
    }


def most_rows(folder: Path, dim: int, part_rows: int) -> int:
    """As many rows, in whole parts, as leave a third of the disk free; the same in every later run."""
    kept = folder / "most"
    if not kept.exists():
        usage = shutil.disk_usage(folder)
        rows = max(0, usage.free - usage.total // 3) // int(2 * dim * DISK_SHARE)
        kept.write_text(str(max(1, rows // part_rows) * part_rows))
    return int(kept.read_text())


def report(works: Sequence[Work]) -> str:
    """A table of all sizes in Markdown, with the rate of growth from the smallest to the largest."""
    measured = [(work, work.steps("measure")[-1]) for work in works if work.steps("measure")]
    lines = [
        "| rows | segments | open, ms | p50, us | p99, us | cold p50, us | cold p99, us | recall@10 "
        "| RAM, bytes a row | disk, bytes a row | loaded, rows/s | indexed, rows/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for work, one in measured:
        rates = [rate(work.steps(kind)) for kind in ("load", "index")]
        lines.append(
            f"| {work.rows:,} | {one['segments']:.0f} | {one['open_ms']:.0f} | {one['p50_us']:.0f} "
            f"| {one['p99_us']:.0f} | {one['cold_p50_us']:,.0f} | {one['cold_p99_us']:,.0f} "
            f"| {one['recall']:.4f} | {one['ram_bytes_a_row']:.0f} | {one['disk_bytes_a_row']:,.0f} "
            f"| {rates[0]:,.0f} | {rates[1]:,.0f} |"
        )
    if len(measured) > 1:
        lines += ["", *growth(measured[0], measured[-1])]
    return "\n".join(lines)


def rate(noted: list[dict[str, Any]]) -> float:
    """Rows a second in all parts together."""
    return sum(one["rows"] for one in noted) / max(sum(one["seconds"] for one in noted), 1e-9)


def growth(small: tuple[Work, dict[str, Any]], large: tuple[Work, dict[str, Any]]) -> list[str]:
    """How much each figure grows with ten times the rows, and what that lets expect far beyond."""
    tens = math.log10(large[0].rows / small[0].rows)
    lines = []
    for name in ("open_ms", "p50_us", "p99_us", "cold_p50_us", "ram_bytes_a_row"):
        factor = (large[1][name] / small[1][name]) ** (1 / tens)
        expected = large[1][name] * factor ** math.log10(FAR / large[0].rows)
        lines.append(
            f"{name}: {factor:.2f} times for ten times the rows; expected at {FAR:,}: {expected:,.0f}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100000,1000000,most", help="from small to large")
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument(
        "--part", type=int, default=250_000, help="rows of a part: 3 GB of memory at 3,072 dims"
    )
    parser.add_argument("--work", type=Path, default=Path("build/large"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.measure:
        print(json.dumps(measure(Work(options.work, options.measure), options.dim, options.part)))
        return
    works = []
    for size in options.sizes.split(","):
        rows = most_rows(options.work, options.dim, options.part) if size == "most" else int(size)
        works.append(Work(options.work, rows))
        if not works[-1].steps("measure"):
            load(works[-1], options.dim, options.part)
            command = [sys.executable, "-m", "benchmarks.large", *sys.argv[1:], "--measure", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            works[-1].note("measure", **json.loads(done.stdout))
        print(report(works), flush=True)
    (options.work / "report.md").write_text(report(works) + "\n")


if __name__ == "__main__":
    main()
