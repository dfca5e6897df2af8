"""mrlstore for ann-benchmarks and VIBE: a `BaseANN`, to be copied into their trees.

The files of this folder go to `ann_benchmarks/algorithms/mrlstore/` (or `vibe/algorithms/mrlstore/`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore

from ..base.module import BaseANN


class Mrlstore(BaseANN):
    """A store in a temporary folder; `angular` is its one metric."""

    def __init__(self, metric: str, options: dict[str, Any]) -> None:
        """Take what `mrlstore.open` takes: `prefix_dim`, `m`, `ef_construction`."""
        if metric not in ("angular", "cosine"):
            raise ValueError(f"the metric is angular, not {metric}")
        self.options = options
        self.search: dict[str, Any] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.rows: list[list[str]] = []
        self.visited = self.asked = 0

    def fit(self, X: np.ndarray[Any, Any]) -> None:
        """Store the rows [n, dim] and index them; row i has the id "i"."""
        path = Path(self.folder.name) / "rows.mrl"
        self.store = mrlstore.open(path, dim=X.shape[1], auto_maintain=False, **self.options)
        for start in range(0, len(X), 10_000):
            block = X[start : start + 10_000]
            self.store.upsert([str(start + number) for number in range(len(block))], block)
        self.store.optimize()

    def set_query_arguments(self, effort: float | dict[str, Any]) -> None:
        """A number is a target recall; a dict is what `Store.query` takes."""
        self.search = dict(effort) if isinstance(effort, dict) else {"target_recall": effort}
        self.visited = self.asked = 0

    def query(self, q: np.ndarray[Any, Any], n: int) -> list[int]:
        """The numbers of the n nearest rows."""
        found = self.store.query(q, n, include=(), **self.search)
        self.visited, self.asked = self.visited + found.plan.visited, self.asked + 1
        return [int(id) for id in found.ids]

    def batch_query(self, X: np.ndarray[Any, Any], n: int) -> None:
        """All queries at once, on all cores."""
        self.rows = self.store.query_batch(X, n, include=(), **self.search).ids

    def get_batch_results(self) -> list[list[int]]:
        """The numbers of the rows that `batch_query` found."""
        return [[int(id) for id in ids] for ids in self.rows]

    def get_additional(self) -> dict[str, Any]:
        """Codes scored in a query, on average."""
        return {"dist_comps": self.visited / max(self.asked, 1)}

    def done(self) -> None:
        """Close the store and remove it."""
        self.store.close()
        self.folder.cleanup()

    def __str__(self) -> str:
        return f"mrlstore({self.options}, {self.search})"
