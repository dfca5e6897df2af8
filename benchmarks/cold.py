"""Queries whose vectors are not in memory: with read-ahead of rows, and with one page fault after another.

python -m benchmarks.cold STORE.mrl

The store is one of generated rows, as benchmarks/footprint.py leaves it. Before each measurement the
vectors are dropped from the page cache (posix_fadvise), in a process that has not mapped them; then every
query is asked once. Both are measured with the usual re-rank, which may end before the end of the shortlist,
and with a re-rank of the whole shortlist.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import mrlstore
from mrlstore.planning import access_path
from mrlstore.storage.page_cache import ReadAhead
from tests.nested import nested

QUERIES, SHORTLIST, ROUNDS = 300, 100, 3
LISTS = ("ends early", "whole shortlist")
WAYS = ("read-ahead", "page faults")


def ask(path: Path, scored: str, way: str) -> float:
    """The median time of a query, in milliseconds."""
    drop(path)
    if scored == "whole shortlist":
        access_path.STOP_MARGIN = 0.0  # type: ignore[misc]
    if way == "page faults":
        ReadAhead.learn = lambda *_: None  # type: ignore[assignment,method-assign]
        ReadAhead.request = _request_nothing  # type: ignore[assignment,method-assign]
    with mrlstore.open(path, mode="r") as store:
        queries = nested(QUERIES, store.dim or 0, seed=2)
        times = []
        for query in queries:
            start = time.perf_counter()
            store.query(query, include=(), ef=SHORTLIST, shortlist=SHORTLIST)
            times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def _request_nothing(read_ahead: ReadAhead, *_: object) -> None:
    read_ahead.needed = False


def drop(path: Path) -> None:
    """Drop the vectors from the page cache."""
    for vectors in path.glob("parts/*/vectors.npy"):
        with vectors.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is not None:
        print(ask(options.store, *options.ask))
        return
    cases = list(itertools.product(LISTS, WAYS))
    times: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case in cases:
            command = [sys.executable, "-m", "benchmarks.cold", str(options.store), "--ask", *case]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            times[case].append(float(done.stdout))
    for scored in LISTS:
        ahead, faults = (float(np.median(times[scored, way])) for way in WAYS)
        print(
            f"{scored}: read-ahead {ahead:.2f} ms, by page faults {faults:.2f} ms, {faults / ahead:.1f} times"
        )


if __name__ == "__main__":
    main()
