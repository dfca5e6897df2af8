"""Build the same graph with mrlstore and hnswlib; compare build time and recall of two-stage search.

    python benchmarks/builders.py [ROWS]        (needs hnswlib)

Recall@10 is measured against the exact cosine on the stored float16 rows; hnswlib searches float32 prefixes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.search import group_search
from mrlstore.search.queries import prepare
from tests.nested import blocks
from tests.one_query import search_graph

PREFIX, M, EF_CONSTRUCTION, THREADS = 768, 16, 200, 2
EFFORTS = ((24, 24), (32, 32), (48, 48), (64, 48), (96, 64))  # ef, shortlist


def ours(rows: NDArray[np.float16]) -> tuple[Any, Any]:
    options = {"prefix_dim": PREFIX, "m": M, "ef_construction": EF_CONSTRUCTION, "threads": THREADS}
    return build_index(rows, np.array([0, len(rows)]), **options)


def theirs(prefixes: NDArray[np.float32]) -> Any:
    index = hnswlib.Index("ip", PREFIX)
    index.init_index(len(prefixes), M=M, ef_construction=EF_CONSTRUCTION)
    index.set_num_threads(THREADS)
    index.add_items(prefixes)
    return index


def timed(name: str, build: Any, argument: Any) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    built = build(argument)
    print(
        f"{name:10} {time.perf_counter() - wall:6.1f} s wall {time.process_time() - cpu:6.1f} s cpu",
        flush=True,
    )
    return built


def main() -> None:
    rows = np.concatenate(list(blocks(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, 3072))).astype(
        np.float16
    )
    queries = next(blocks(300, 3072, seed=2))
    prefixes = rows[:, :PREFIX].astype(np.float32)
    prefixes /= np.linalg.norm(prefixes, axis=1, keepdims=True)
    group_search.warm()
    ours(rows[:2_500])  # compiles the kernels of the build, untimed
    for _ in range(2):
        arrays, info = timed("mrlstore", ours, rows)
        index = timed("hnswlib", theirs, prefixes)
    whole = rows.astype(np.float32)
    inverse = (1 / np.linalg.norm(whole, axis=1)).astype(np.float32)
    mine = Group(rows, inverse, np.arange(len(rows)), open_index(arrays, info, 0, 0, len(rows)))
    truth = [set(np.argsort(-(whole @ query * inverse))[:10].tolist()) for query in queries]
    for ef, shortlist in EFFORTS:
        found = [search_graph(mine, prepare(query, PREFIX), 10, ef, shortlist) for query in queries]
        index.set_ef(max(ef, shortlist))
        listed, _ = index.knn_query(queries[:, :PREFIX], k=shortlist)
        scores = np.einsum("qsd,qd->qs", rows[listed].astype(np.float32), queries) * inverse[listed]
        best = np.take_along_axis(listed, np.argsort(-scores, axis=1)[:, :10], axis=1)
        recalls = [
            np.mean([len(set(answer) & true) / 10 for answer, true in zip(answers, truth, strict=True)])
            for answers in ([one.rows.tolist() for one in found], best.tolist())
        ]
        visited = np.mean([one.visited for one in found])
        print(
            f"ef {ef:3} shortlist {shortlist:3}: mrlstore {recalls[0]:.4f} ({visited:.0f} codes),"
            f" hnswlib {recalls[1]:.4f}"
        )


if __name__ == "__main__":
    main()
