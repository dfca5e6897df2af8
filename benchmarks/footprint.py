"""Load, close, reopen: durable rows per second, time until the first answer, memory per row.

    python benchmarks/footprint.py --rows 100000 [--store /tmp/footprint.mrl]

Each step runs in a process of its own, so that the reopening process starts with nothing in memory but the
page cache. "Own work" is the time from `mrlstore.open` to the first answer without the start of numba (its
import and the loading of kernels), which is reported separately.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.nested import blocks

DIM = 3072


def load(path: Path, rows: int, documented: bool) -> dict[str, float]:
    """Upsert generated rows in batches of 1,000 with metadata (and documents), optimize, close."""
    import mrlstore

    shutil.rmtree(path, ignore_errors=True)
    writing, done = 0.0, 0
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        for block in blocks(rows, DIM):
            for start in range(0, len(block), 1000):
                batch = block[start : start + 1000]
                numbers = range(done, done + len(batch))
                ids = [f"row-{n:07d}" for n in numbers]
                metadatas = [{"n": n, "group": n % 10, "name": f"item {n}"} for n in numbers]
                documents = (
                    [f"This is the document of row number {n}." for n in numbers] if documented else None
                )
                started = time.perf_counter()
                store.upsert(ids, batch, metadatas, documents)
                writing += time.perf_counter() - started
                done += len(batch)
        started = time.perf_counter()
        store.optimize()
        optimizing = time.perf_counter() - started
        size = store.stats().bytes_on_disk
    return {"rows_per_s": done / writing, "optimize_s": optimizing, "bytes_per_row": size / done}


def reopen(path: Path, rows: int, documented: bool) -> dict[str, float]:
    """Open, answer once, then 1,000 times; time and memory."""
    import mrlstore

    queries = next(blocks(1000, DIM, seed=2))
    before = memory(path)
    started = time.perf_counter()
    _start_kernels()
    numba_s = time.perf_counter() - started
    with_kernels = memory(path)
    started = time.perf_counter()
    store = mrlstore.open(path, mode="r")
    store.query(queries[0], k=10)
    first_s = time.perf_counter() - started
    latencies = []
    for query in queries:
        started = time.perf_counter()
        store.query(query, k=10, include=())
        latencies.append(time.perf_counter() - started)
    after = memory(path)
    return {
        "numba_start_ms": numba_s * 1e3,
        "own_work_until_first_answer_ms": first_s * 1e3,
        "p50_us": float(np.median(latencies)) * 1e6,
        "p99_us": float(np.quantile(latencies, 0.99)) * 1e6,
        "anonymous_of_interpreter_and_kernels_mib": with_kernels["anonymous"] / 2**20,
        "anonymous_mib": after["anonymous"] / 2**20,
        "resident_index_mib": after["index"] / 2**20,
        "bytes_per_row": (after["anonymous"] - before["anonymous"] + after["index"]) / rows,
        "bytes_per_row_beyond_the_kernels": (after["anonymous"] - with_kernels["anonymous"] + after["index"])
        / rows,
    }


def _start_kernels() -> None:
    from mrlstore.kernels import load

    load.warm()


def memory(path: Path) -> dict[str, int]:
    """Anonymous bytes of this process, and resident bytes of maps of files with codes and graphs."""
    totals = {"anonymous": 0, "index": 0}
    kept = ("codes.npy", "neighbours.npy", "entr", "unprefixed", "rotation")
    name = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = words[5] if len(words) > 5 else ""
        elif words[0] == "Anonymous:":
            totals["anonymous"] += int(words[1]) * 1024
        elif words[0] == "Rss:" and str(path) in name and Path(name).name.startswith(kept):
            totals["index"] += int(words[1]) * 1024
    return totals


def main() -> None:
    """Run both steps and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--store", type=Path, default=Path("/tmp/footprint.mrl"))
    parser.add_argument(
        "--documents", action="store_true", help="rows have documents, which are indexed by words"
    )
    parser.add_argument("--step", choices=("load", "reopen"), help="one step alone, as JSON")
    args = parser.parse_args()
    if args.step is not None:
        print(json.dumps({"load": load, "reopen": reopen}[args.step](args.store, args.rows, args.documents)))
        return
    for step in ("load", "reopen"):
        command = [
            sys.executable,
            __file__,
            "--rows",
            str(args.rows),
            "--store",
            str(args.store),
            "--step",
            step,
            *(["--documents"] if args.documents else []),
        ]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, value in figures.items():
            print(f"{name:45} {value:12,.1f}")


if __name__ == "__main__":
    main()
