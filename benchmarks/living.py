"""What a living store costs: several segments and a tail against the same rows in one segment.

python -m benchmarks.living --rows 30000 [--set real] [--dim 3072]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.data import load
from mrlstore.maintenance import steps
from mrlstore.recall import calibrate
from mrlstore.system.job import UNWATCHED
from tests.nested import nested

K, QUERIES, ROUNDS = 10, 200, 15
TAIL: Final = 2_000
EVEN: Final = (1, 1, 1, 1)
TIERED: Final = (16, 4, 2, 1)  # as the background thread leaves segments: each larger than the one before

Vectors = NDArray[Any]


def layouts(rows: int) -> dict[str, list[int]]:
    """For each store the rows of its segments; rows that are left over stay in the tail."""
    return {
        "one segment": [rows],
        "two segments": parts(rows, (1, 1)),
        "four segments": parts(rows, EVEN),
        "four of falling size": parts(rows, TIERED),
        "four and a tail": parts(rows - TAIL, EVEN),
        "four of falling size and a tail": parts(rows - TAIL, TIERED),
        "one and a tail": [rows - TAIL],
    }


def parts(rows: int, shares: Sequence[int]) -> list[int]:
    """So many rows divided in these proportions."""
    bounds = np.linspace(0, rows, sum(shares) + 1).astype(int)[np.cumsum((0, *shares))]
    return np.diff(bounds).tolist()


def build(path: Path, vectors: Vectors, sizes: Sequence[int]) -> None:
    """Store rows in segments of these sizes, the others in the tail, indexed and calibrated."""
    ids, start = [str(i) for i in range(len(vectors))], 0
    metadata = [{"number": i, "part": i % 7} for i in range(len(vectors))]
    with mrlstore.open(path, dim=vectors.shape[1], auto_maintain=False) as store:
        session = store._session
        for size in (*sizes, len(vectors) - sum(sizes)):
            for at in range(start, start + size, 1_000):
                some = slice(at, min(at + 1_000, start + size))
                store.upsert(ids[some], vectors[some].astype(np.float32), metadata[some])
            start += size
            if start <= sum(sizes):
                steps.flush(session)
        steps.complete_all(session, UNWATCHED)
        calibrate.refresh(session, UNWATCHED, always=True)


def recall(store: mrlstore.Store, queries: Vectors, truth: list[list[str]]) -> float:
    found = [store.query(query, K, include=()).ids for query in queries]
    return float(np.mean([len({*ids} & {*best}) / K for ids, best in zip(found, truth, strict=True)]))


def work(store: mrlstore.Store, queries: Vectors) -> str:
    plans = [store.query(query, K, include=()).plan for query in queries]
    codes, rows = (np.mean([getattr(plan, name) for plan in plans]) for name in ("visited", "reranked"))
    return f"{codes:.0f} codes, {rows:.1f} rows"


def compare(stores: dict[str, mrlstore.Store], queries: Vectors) -> Iterator[str]:
    """Time of a query in each store, as a multiple of the first one's: the mean of each query's best.

    The stores take turns, ROUNDS times, so that a change of machine load affects all alike.
    """
    plain = next(iter(stores.values()))
    truth = [plain.query(query, K, exact=True, include=()).ids for query in queries]
    includes: dict[str, Any] = {"ids only": {"include": ()}, "metadata": {}}
    best = np.full((len(includes), len(stores), len(queries)), np.inf)
    for number, arguments in enumerate(includes.values()):
        for _ in range(ROUNDS):
            for place, store in enumerate(stores.values()):
                for i, query in enumerate(queries):
                    started = time.perf_counter()
                    store.query(query, K, **arguments).ids  # noqa: B018
                    taken = time.perf_counter() - started
                    best[number, place, i] = min(best[number, place, i], taken)
    times = best.mean(axis=2) * 1e6
    ratios = times / times[:, :1]
    for place, (name, store) in enumerate(stores.items()):
        told = ", ".join(
            f"{what} {times[i, place]:.0f} us, {ratios[i, place]:.2f} times"
            for i, what in enumerate(includes)
        )
        found = recall(store, queries, truth)
        yield f"{name}: {told}, recall {found:.4f}; {work(store, queries)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=3_072, help="of generated rows")
    parser.add_argument("--set", choices=("real", "hard"), help="rows and queries of benchmarks/data.py")
    parser.add_argument("--folder", type=Path, help="where stores are kept for the next run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.set is None:
            vectors = nested(options.rows, options.dim)
            queries = nested(QUERIES, options.dim, seed=2)
        else:
            data = load(options.set, options.rows, folder)
            vectors, queries = data.rows, data.queries[:QUERIES].astype(np.float32)
        stores = {}
        for name, sizes in layouts(options.rows).items():
            path = folder / f"{options.set}-{options.dim}-{name.replace(' ', '-')}-{options.rows}.mrl"
            if not path.exists():
                build(path, vectors, sizes)
            stores[name] = mrlstore.open(path, mode="r")
            stores[name].warm()
        try:
            for line in compare(stores, queries):
                print(line, flush=True)
        finally:
            for store in stores.values():
                store.close()


if __name__ == "__main__":
    main()
