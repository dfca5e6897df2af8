"""Answers of all kernels to fixed questions: `python -m tests.kernels.answers FILE` writes them as .npz."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.build import build_index
from mrlstore.index.codes import coding_of
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.kernels.load import kernels
from mrlstore.kernels.scratch import Scratch
from mrlstore.search.group_search import Scan, Walk
from mrlstore.search.joint_search import joint_search
from mrlstore.search.queries import Queries, prepare
from tests.nested import nested
from tests.one_query import One, search_exact, search_graph, search_scan

ROWS, DIM, PREFIX, K = 2_500, 200, 128, 10


def answers() -> dict[str, NDArray[Any]]:
    """By name; the exact scores and their rows are "exact scores" and "exact rows"."""
    wide = nested(ROWS, DIM)
    rows = np.empty((ROWS, DIM), np.float16)
    lengths = np.linalg.norm(wide, axis=1).astype(np.float32)
    kernels().unit_halves(wide.__array_interface__["data"][0], lengths, rows.view(np.uint16))
    inverse = (1 / np.linalg.norm(rows.astype(np.float64), axis=1)).astype(np.float32)
    arrays, info = build_index(rows, np.array([0, ROWS]), prefix_dim=PREFIX, threads=1)
    group = Group(rows, inverse, np.arange(ROWS), open_index(arrays, info, 0, 0, ROWS))
    few = rows[:300]  # a second group, which is scanned
    like, starts = coding_of(arrays, PREFIX), np.array([0, len(few)])
    small, told = build_index(few, starts, prefix_dim=PREFIX, threads=1, like=like)
    second = Group(few, inverse[:300], ROWS + np.arange(300), open_index(small, told, 0, 0, len(few)))
    some = np.random.default_rng(5).random(ROWS) < 0.3
    queries = [prepare(vector, PREFIX) for vector in nested(20, DIM, seed=2)]

    def ignore(*_: object) -> None:
        """Called before a re-rank, which is then a kernel of its own."""

    def several(query: Queries, apart: Any = None) -> One:
        walk = Walk(group, K, 200, 30, beam_ratio=0.2, stop_margin=3.5)
        joint = joint_search([walk, Scan(second, K, 30, stop_margin=3.5)], K, 30)
        assert joint is not None
        hits = joint(query, Scratch(), apart)
        counts = hits.counts[0].sum(axis=0).tolist()
        return One(hits.rows[0] + 10_000 * hits.which[0], hits.scores[0], counts[2], counts[1])

    searches: dict[str, Any] = {
        "several groups": several,
        "several groups in two stages": lambda q: several(q, ignore),
        "exact": lambda q: search_exact(group, q, K),
        "exact on the prefix": lambda q: search_exact(group, q, K, None, PREFIX),
        "walk": lambda q: search_graph(group, q, K, 40, 30),
        "walk that ends early": lambda q: search_graph(group, q, K, 200, 30, beam_ratio=0.2, stop_margin=3.5),
        "filtered walk": lambda q: search_graph(group, q, K, 60, 30, some, beam_ratio=0.2, lost_ratio=9),
        "scan": lambda q: search_scan(group, q, K, 30, some),
        "scan of heads": lambda q: search_scan(group, q, K, 30, stop_margin=3.5),
        "two stages": lambda q: search_graph(group, q, K, 40, 30, before_rerank=ignore),
    }
    found: dict[str, NDArray[Any]] = {name: array for name, array in arrays.items() if array.dtype != object}
    found["halves"] = rows.view(np.uint16)
    found["units"] = np.concatenate([query.vectors for query in queries])
    for name, search in searches.items():
        given = [search(query) for query in queries]
        found[f"{name} rows"] = np.array([one.rows for one in given])
        found[f"{name} scores"] = np.array([one.scores for one in given])
        found[f"{name} counts"] = np.array([(one.visited, one.reranked) for one in given])
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **cast(Any, answers()))
