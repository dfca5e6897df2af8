"""Build the same graphs by mrlstore and by hnswlib; compare build time, memory and recall at equal work.

    python -m benchmarks.builders                          (every set; needs hnswlib)
    python -m benchmarks.builders --rows 20000 real hard   (some sets)
    python -m benchmarks.builders copies                   (groups of near copies of every size and noise)

Each build runs in a process of its own: processor and wall seconds, and the most anonymous memory above that
before the build. Both graphs are walked by the same kernel over the same codes, with rising ef; the recall@10
at a number of codes scored is interpolated. It is the share of what a scan of all codes with a shortlist of
100 finds, by exact score, where equal scores (within 1e-6) count as hits. "none" is how many of the questions
miss all of it at the middle number of codes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.kernels import load
from mrlstore.search.group_search import GroupSearch, Scan, Walk, search_group
from mrlstore.search.queries import prepare
from tests.nested import nested
from tests.one_query import One, answers

BUILDERS: Final = ("mrlstore", "hnswlib")
M, EF_CONSTRUCTION, THREADS, K, SHORTLIST, TIE = 16, 200, 2, 10, 100, 1e-6
EFFORTS: Final = (12, 20, 32, 48, 80, 128, 200, 320, 512, 1_024)
CODES: Final = (500, 1_000, 2_000)
QUESTIONS: Final = 1_000
BLOCK: Final = 50  # questions of one call
SIZES, NOISES = (2, 10, 30, 100, 1_000, 10_000), (0.0, 0.01, 0.05, 0.1)
SETS: Final = ("real", "nested", "hard", "te3large", "te3small", "gaussian", "late", "copies")


class Questions(NamedTuple):
    """Some questions of one kind, float32 [q, dim]."""

    kind: str
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Rows float16 [n, dim] of unit length, and questions about them."""

    name: str
    rows: NDArray[np.float16]
    prefix_dim: int
    questions: tuple[Questions, ...]


class Cost(NamedTuple):
    """What a build took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int  # anonymous memory above that before the build


def unit(rows: NDArray[Any]) -> NDArray[np.float16]:
    wide = rows.astype(np.float32)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)


def cases(names: Sequence[str], sizes: Sequence[int], n: int, folder: Path) -> Iterator[Case]:
    for name in names:
        if name == "copies":
            yield from copies(sizes)
        elif name in ("real", "nested", "hard"):
            made = data.load(name, n, folder)
            yield Case(name, np.asarray(made.rows), 768, (Questions("held out", made.queries),))
        elif name in ("te3large", "te3small"):
            (path,) = Path(os.environ["MRLSTORE_REAL_DATA"]).glob(f"{name}_*.npy")
            whole = np.load(path).astype(np.float32)
            order = np.random.default_rng(0).permutation(len(whole))
            held, rows = whole[order[:QUESTIONS]], whole[order[QUESTIONS:]]
            yield Case(name, unit(rows), min(768, rows.shape[1]), (Questions("held out", held),))
        else:
            yield made_up(name, n)


def made_up(name: str, n: int) -> Case:
    """Gaussian vectors without any structure; or nested ones backwards, with their information late."""
    if name == "gaussian":
        vectors = np.random.default_rng(5).standard_normal((n + QUESTIONS, 128), dtype=np.float32)
    else:
        vectors = nested(n + QUESTIONS, 256)[:, ::-1]
    prefix = 128 if name == "gaussian" else 64
    held = np.ascontiguousarray(vectors[n:])
    return Case(name, unit(vectors[:n]), prefix, (Questions("held out", held),))


def copies(sizes: Sequence[int], dim: int = 256) -> Iterator[Case]:
    """Groups of near copies: random vectors plus noise, components falling as i^-0.6. No other rows."""
    falling = (np.arange(1, dim + 1) ** -0.6).astype(np.float32)
    for size, noise in itertools.product(sizes, NOISES):
        rng = np.random.default_rng([size, round(1_000 * noise)])
        count = max(6_000 // size, 2)
        places = rng.standard_normal((count, dim), dtype=np.float32) * falling
        rows = np.repeat(places, size, axis=0)
        rows += np.float32(noise) * rng.standard_normal(rows.shape, dtype=np.float32) * falling
        away = rng.standard_normal((QUESTIONS, dim), dtype=np.float32) * falling
        near = places[rng.integers(0, count, QUESTIONS)]
        near = near + np.float32(0.3) * rng.standard_normal(near.shape, dtype=np.float32) * falling
        yield Case(
            f"{count} x {size} copies, noise {noise:g}",
            unit(rng.permutation(rows)),
            64,
            (Questions("random", away), Questions("near", near)),
        )


def built(case: Case, builder: str, folder: Path) -> tuple[Group, Cost]:
    """The group with its graph, built in another process."""
    np.save(folder / "rows.npy", case.rows)
    program = [sys.executable, "-m", "benchmarks.builders", "--build", builder, str(folder)]
    done = subprocess.run(
        [*program, str(case.prefix_dim)], check=True, capture_output=True, text=True, timeout=3_600
    )
    told = json.loads(done.stdout)
    arrays = dict(np.load(folder / "index.npz", allow_pickle=False))
    index = open_index(arrays, told["info"], 0, 0, len(case.rows))
    wide = case.rows.astype(np.float32)
    inverse = (1 / np.linalg.norm(wide, axis=1)).astype(np.float32)
    return Group(case.rows, inverse, np.arange(len(case.rows)), index), Cost(*told["cost"])


def build(builder: Any, folder: Path, prefix_dim: int) -> None:
    """In the process of a build: build, and print what it cost."""
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    options: dict[str, Any] = {
        "prefix_dim": prefix_dim, "m": M, "ef_construction": EF_CONSTRUCTION, "threads": THREADS,
        "builder": builder,
    }  # fmt: skip
    build_index(rows[:2_500], np.array([0, 2_500]), **options)  # compiles or loads the kernels, untimed
    before, peak, over = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    arrays, info = build_index(rows, np.array([0, len(rows)]), **options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    over.set()
    watcher.join()
    np.savez(folder / "index.npz", **arrays)
    print(json.dumps({"info": info, "cost": [wall, cpu, peak[0]]}))


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Curve(NamedTuple):
    """What walks of rising effort scored and found."""

    codes: NDArray[np.float64]  # [efforts], mean
    recalls: NDArray[np.float64]  # [efforts], mean
    empty: NDArray[np.float64]  # [efforts], questions without a hit

    def at(self, codes: float) -> tuple[float, float]:
        """Recall, and questions without a hit, at a number of codes."""
        return float(np.interp(codes, self.codes, self.recalls)), float(
            np.interp(codes, self.codes, self.empty)
        )


def measured(group: Group, questions: Questions, prefix_dim: int) -> Curve:
    blocks = [
        prepare(questions.vectors[start : start + BLOCK], prefix_dim)
        for start in range(0, len(questions.vectors), BLOCK)
    ]

    def found(search: GroupSearch) -> list[One]:
        return [one for block in blocks for one in answers(search_group(search, block))]

    least = [one.scores[-1] - TIE for one in found(Scan(group, K, SHORTLIST))]
    points = []
    for ef in EFFORTS:
        walked = found(Walk(group, K, ef, min(ef, SHORTLIST)))
        pairs = zip(walked, least, strict=True)
        hits = np.array([np.count_nonzero(one.scores >= worst) for one, worst in pairs])
        codes = np.mean([one.visited for one in walked])
        points.append((codes, hits.mean() / K, np.count_nonzero(hits == 0)))
        if codes > max(CODES):
            break
    return Curve(*np.array(points, np.float64).T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--rows", type=int, default=20_000, help="of the sets that are made for a size")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of the groups of copies")
    parser.add_argument("--data", type=Path, default=Path("build/benchmark-data"))
    parser.add_argument("--build", nargs=3, metavar=("BUILDER", "FOLDER", "PREFIX"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build(given.build[0], Path(given.build[1]), int(given.build[2]))
        return
    load.warm()
    counts = "".join(f" {codes:,} codes |" for codes in CODES)
    print(f"| set | builder | CPU s | wall s | MB | links |{counts} none |")
    print("|---|---|---|---|---|---|" + "---|" * (len(CODES) + 1))
    for case in cases(given.sets or SETS, given.sizes, given.rows, given.data):
        for builder in BUILDERS:
            with tempfile.TemporaryDirectory() as folder:
                group, cost = built(case, builder, Path(folder))
            assert group.index is not None and group.index.neighbours is not None
            links = float((group.index.neighbours < len(case.rows)).sum(axis=1).mean())
            spent = f"{cost.cpu_s:.1f} | {cost.wall_s:.1f} | {cost.peak_bytes / 1e6:.0f} | {links:.1f}"
            for questions in case.questions:
                curve = measured(group, questions, case.prefix_dim)
                told = [curve.at(codes) for codes in CODES]
                recalls = " | ".join(f"{recall:.4f}" for recall, _ in told)
                name = f"{case.name}, {questions.kind}"
                print(f"| {name} | {builder} | {spent} | {recalls} | {told[1][1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
