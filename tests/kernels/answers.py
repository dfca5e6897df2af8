"""Answers of all kernels to fixed questions: `python -m tests.kernels.answers FILE` writes them as .npz."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.kernels.load import kernels
from mrlstore.search.queries import prepare
from tests.nested import nested
from tests.one_query import search_exact, search_graph, search_scan

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
    some = np.random.default_rng(5).random(ROWS) < 0.3
    queries = [prepare(vector, PREFIX) for vector in nested(20, DIM, seed=2)]

    def ignore(*_: object) -> None:
        """Called before a re-rank, which is then a kernel of its own."""

    searches: dict[str, Any] = {
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
