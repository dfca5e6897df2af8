"""What a copy in object storage costs: bytes for changed rows, seconds of a restore, lag, writes with a log.

python -m benchmarks.shipping changes --rows 1000000
python -m benchmarks.shipping restore --rows 100000 --dim 3072
python -m benchmarks.shipping lag --rate 1000 --seconds 60
python -m benchmarks.shipping writes --dim 768

Object storage is a folder on the same disk, or --url and --option as of `mrlstore ship`. The stores have one
segment without a graph, but for --graph: a graph is a part like others.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore.shipping import restore
from tests.nested import BLOCK, blocks

DOCUMENT_BYTES, CHANGED = 1_024, 1_000
WORDS = [f"word{i:05}" for i in range(50_000)]


def documents(rng: np.random.Generator, count: int) -> list[str]:
    """Texts of about 1 KB, of words whose frequencies fall as those of a language do."""
    ranks = np.minimum(rng.zipf(1.2, (count, DOCUMENT_BYTES // 10)) - 1, len(WORDS) - 1)
    return [" ".join(WORDS[rank] for rank in row) for row in ranks]


def fill(store: mrlstore.Store, rows: int, dim: int, *, texts: bool) -> None:
    """Rows r0, r1, ... with metadata and vectors, and documents of 1 KB."""
    rng = np.random.default_rng(5)
    for number, block in enumerate(blocks(rows, dim)):
        numbers = range(number * BLOCK, number * BLOCK + len(block))
        store.upsert(
            [f"r{i}" for i in numbers],
            block,
            [{"year": 1950 + i % 75, "kind": "abc"[i % 3]} for i in numbers],
            documents(rng, len(block)) if texts else None,
        )


def changes(arguments: argparse.Namespace, folder: Path) -> None:
    """Bytes sent by one snapshot after 1,000 rows have changed, in four ways."""
    rng = np.random.default_rng(7)
    with mrlstore.open(folder / "s.mrl", dim=arguments.dim, auto_maintain=False) as store:
        fill(store, arguments.rows, arguments.dim, texts=True)
        store.optimize() if arguments.graph else None
        figures = store.stats()
        print(f"{figures.rows:,} rows, {figures.bytes_on_disk / 1e6:,.0f} MB", flush=True)
        with store.ship(url_of(arguments, folder), every_s=86_400, options=options_of(arguments)) as shipping:
            started, sent = time.perf_counter(), 0

            def report(what: str) -> None:
                nonlocal started, sent
                total = shipping.now().bytes_sent
                seconds = time.perf_counter() - started
                print(f"{what:45} {(total - sent) / 1e6:10,.1f} MB {seconds:8.1f} s", flush=True)
                sent = total

            def chosen() -> list[str]:
                nonlocal started
                names = [f"r{i}" for i in rng.choice(arguments.rows, CHANGED, replace=False)]
                started = time.perf_counter()
                return names

            report("the first snapshot")
            store.update(chosen()[:1], [{"year": 1}])
            report("one row with new metadata")
            store.update(chosen(), [{"year": 2000}] * CHANGED)
            report("1,000 random rows with new metadata")
            vectors = np.concatenate(list(blocks(CHANGED, arguments.dim, seed=2)))
            store.upsert(chosen(), vectors, None, documents(rng, CHANGED))
            report("1,000 random rows replaced, documents too")
            chosen()
            store.upsert([f"n{i}" for i in range(CHANGED)], vectors, None, documents(rng, CHANGED))
            report("1,000 new rows")


def restored(arguments: argparse.Namespace, folder: Path) -> None:
    """Seconds of shipping and of restoring a store whole."""
    url, options = url_of(arguments, folder), options_of(arguments)
    with mrlstore.open(folder / "s.mrl", dim=arguments.dim, auto_maintain=False) as store:
        fill(store, arguments.rows, arguments.dim, texts=False)
        store.optimize() if arguments.graph else None
        started = time.perf_counter()
        with store.ship(url, every_s=86_400, options=options) as shipping:
            size = shipping.now().bytes_sent
        print(f"shipped {size / 1e6:,.0f} MB in {time.perf_counter() - started:.1f} s", flush=True)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        restore(url, folder / "restored.mrl", options=options)
        seconds.append(time.perf_counter() - started)
        with mrlstore.open(folder / "restored.mrl", mode="r") as again:
            assert again.count() == arguments.rows
        shutil.rmtree(folder / "restored.mrl")
    print(f"restored in {min(seconds):.1f} to {max(seconds):.1f} s, synced and checked", flush=True)


def lag(arguments: argparse.Namespace, folder: Path) -> None:
    """How far the copy is behind while rows are written at a rate."""
    batch, behind, stop = 100, list[float](), threading.Event()
    with mrlstore.open(folder / "s.mrl", dim=arguments.dim) as store:
        vectors = np.concatenate(list(blocks(10_000, arguments.dim)))
        store.upsert([f"r{i}" for i in range(len(vectors))], vectors)
        url, options = url_of(arguments, folder), options_of(arguments)
        with store.ship(url, every_s=arguments.every, options=options) as shipping:
            shipping.now()
            before = shipping.figures()
            sampler = threading.Thread(target=lambda: behind.extend(_sampled(store, stop)))
            sampler.start()
            started = time.perf_counter()
            for number in range(arguments.seconds * arguments.rate // batch):
                names = [f"w{number * batch + i}" for i in range(batch)]
                at = number * batch % (len(vectors) - batch)
                store.upsert(names, vectors[at : at + batch])
                time.sleep(max(0.0, started + (number + 1) * batch / arguments.rate - time.perf_counter()))
            took_s = time.perf_counter() - started
            stop.set()
            sampler.join()
            after = shipping.now()
    rate = arguments.seconds * arguments.rate / took_s
    p50, p99 = statistics.median(behind), sorted(behind)[int(0.99 * len(behind))]
    sent = (after.bytes_sent - before.bytes_sent) / 1e6
    print(
        f"{rate:,.0f} rows/s of {arguments.dim} dims for {took_s:.0f} s, a snapshot at most every "
        f"{arguments.every:g} s: behind by {p50:.1f} s (median), {p99:.1f} s (p99), {max(behind):.1f} s "
        f"(most); {after.snapshots - before.snapshots} snapshots, {sent:,.0f} MB sent"
    )


def _sampled(store: mrlstore.Store, stop: threading.Event) -> Iterator[float]:
    while not stop.wait(0.1):
        yield store.stats().shipping[0].behind_s


def writes(arguments: argparse.Namespace, folder: Path) -> None:
    """Calls of `upsert` with and without a log, in turns: medians of both clocks."""
    rng = np.random.default_rng(1)
    plain = mrlstore.open(folder / "plain.mrl", dim=arguments.dim, auto_maintain=False)
    logged = mrlstore.open(
        folder / "logged.mrl",
        dim=arguments.dim,
        durability="shared",
        ship_to=url_of(arguments, folder),
        options=options_of(arguments),
        auto_maintain=False,
    )
    with plain, logged:
        for rows, calls in ((1, 60), (100, 20), (1_000, 6)):
            taken: dict[str, list[tuple[float, float]]] = {"disk": [], "disk and log": []}
            for call in range(calls):
                vectors = rng.normal(size=(rows, arguments.dim)).astype(np.float32)
                ids = [f"{rows}-{call}-{row}" for row in range(rows)]
                for name, store in zip(taken, (plain, logged), strict=True):
                    wall, used = time.perf_counter(), time.process_time()
                    store.upsert(ids, vectors)
                    taken[name].append((time.perf_counter() - wall, time.process_time() - used))
            for name, found in taken.items():
                wall, used = (1_000 * statistics.median(column) for column in zip(*found, strict=True))
                print(f"{rows:,} rows, {name}: {wall:.2f} ms, of a processor {used:.2f} ms")


def url_of(arguments: argparse.Namespace, folder: Path) -> str:
    return str(arguments.url or folder / "home")


def options_of(arguments: argparse.Namespace) -> dict[str, Any] | None:
    pairs = dict(option.split("=", 1) for option in arguments.option)
    if "endpoint" in pairs:
        return {**pairs, "client_options": {"allow_http": True}}
    return pairs or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["changes", "restore", "lag", "writes"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--graph", action="store_true", help="optimize before")
    parser.add_argument("--url")
    parser.add_argument("--option", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = {"changes": changes, "restore": restored, "lag": lag, "writes": writes}[arguments.what]
        run(arguments, Path(folder))


if __name__ == "__main__":
    main()
