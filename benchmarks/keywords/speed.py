"""Measure how fast keywords are asked for and written: `python -m benchmarks.keywords.speed --rows 100000`.

The documents are words drawn from the standard library's docstrings, so that they are as common as there.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.cli.demo.corpus import standard_library
from tests.oracle import nested_vectors

DIM = 768
BATCH = 100
REPEATS = 15
WORDS = (
    "iterparse",
    "unix",
    "returns",
    "the",
    "how to parse a date",
    "sort a list of the numbers by key",
    "pars*",
)


def documents(count: int) -> list[str]:
    """Texts of 20 to 140 words."""
    words = [word for each in standard_library() for word in re.findall(r"\w+", each.text)]
    rng = random.Random(0)
    return [" ".join(rng.choices(words, k=rng.randint(20, 140))) for _ in range(count)]


def median_ms(call: Callable[[], object]) -> float:
    """The median of some calls after one that is not timed."""
    call()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def write(folder: Path, name: str, vectors: NDArray[np.float32], texts: list[str] | None) -> float:
    """Durable rows in a second, in batches of 100, of 4,000 rows."""
    with mrlstore.open(folder / name, auto_maintain=False) as store:
        started = time.perf_counter()
        for at in range(0, 4000, BATCH):
            part = slice(at, at + BATCH)
            names = [f"r{at + n}" for n in range(BATCH)]
            store.upsert(names, vectors[part], documents=None if texts is None else texts[part])
        return 4000 / (time.perf_counter() - started)


def main() -> None:
    """Print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    texts, vectors = documents(rows), nested_vectors(rows, 128)
    written = np.random.default_rng(0).standard_normal((4000, DIM), dtype=np.float32)
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place)
        rates = {True: [], False: []}  # type: dict[bool, list[float]]
        for turn in range(5):
            for has in (False, True):
                rates[has].append(write(folder, f"w{turn}{has}.mrl", written, texts if has else None))
        print("| written in batches of 100 | durable rows/s |\n|---|---|")
        for has, name in ((False, "without documents"), (True, "with documents")):
            print(f"| {name} | {statistics.median(rates[has]):,.0f} |")
        with mrlstore.open(folder / "s.mrl", auto_maintain=False) as store:
            fill(store, vectors, texts)
            ask(store, vectors)


def fill(store: mrlstore.Store, vectors: NDArray[np.float32], texts: list[str]) -> None:
    """All rows in four writes; then optimize() and verify()."""
    rows = len(texts)
    for at in range(0, rows, rows // 4):
        part = range(at, min(at + rows // 4, rows))
        metadatas = [{"n": n, "hundredth": n % 100 == 0} for n in part]
        store.upsert(
            [f"r{n}" for n in part], vectors[part.start : part.stop], metadatas, texts[part.start : part.stop]
        )
    store.optimize()
    started = time.perf_counter()
    report = store.verify()
    print(f"\nverify() {'ok' if report.ok else 'NOT ok'} in {time.perf_counter() - started:.1f} s")


def ask(store: mrlstore.Store, vectors: NDArray[np.float32]) -> None:
    """Time every question alone, filtered and beside a vector."""
    print(
        "\n| keywords | left out | p50 ms | 1 row in 100 by a filter | with a vector |\n|---|---|---|---|---|"
    )
    few = {"hundredth": True}
    for words in WORDS:
        plan = store.query(keywords=words).plan.keywords
        assert plan is not None
        alone = median_ms(lambda words=words: store.query(keywords=words))
        filtered = median_ms(lambda words=words: store.query(keywords=words, where=few))
        both = median_ms(lambda words=words: store.query(vectors[7], keywords=words))
        print(f"| {words} | {' '.join(plan.ignored)} | {alone:.1f} | {filtered:.1f} | {both:.1f} |")
    print(f"\nthe vector alone: {median_ms(lambda: store.query(vectors[7])):.1f} ms")


if __name__ == "__main__":
    main()
