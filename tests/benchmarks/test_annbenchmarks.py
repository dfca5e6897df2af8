"""benchmarks/annbenchmarks in a tree like that of ann-benchmarks, driven as its runner does."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nested import nested

HERE = Path(__file__).parents[2] / "benchmarks" / "annbenchmarks"
BASE = '''
class BaseANN:
    """What ann-benchmarks documents: what each algorithm may override, and what it has otherwise."""

    def done(self): ...
    def get_memory_usage(self): return None
    def fit(self, X): ...
    def query(self, q, n): return []
    def batch_query(self, X, n): self.res = [self.query(q, n) for q in X]
    def get_batch_results(self): return self.res
    def get_additional(self): return {}
    def __str__(self): return self.name
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported as its runner does from the place that config.yml names."""
    algorithms = tmp_path / "ann_benchmarks" / "algorithms"
    shutil.copytree(HERE, algorithms / "mrlstore", ignore=shutil.ignore_patterns("__pycache__"))
    (algorithms / "base").mkdir()
    (algorithms / "base" / "module.py").write_text(BASE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("ann_benchmarks.algorithms.mrlstore.module")
    for name in [name for name in sys.modules if name.partition(".")[0] == "ann_benchmarks"]:
        del sys.modules[name]


def test_it_runs_as_the_runner_runs_it(module: Any) -> None:
    rows, queries = nested(3_000, 64), nested(30, 64, seed=2)
    scores = queries @ rows.T / np.linalg.norm(rows, axis=1)
    truth = np.argsort(-scores, axis=1)[:, :10]
    algorithm = module.Mrlstore("angular", {"m": 16, "ef_construction": 100, "prefix_dim": 32})
    algorithm.fit(rows)
    work = []
    for effort in (0.8, 0.99, {"exact": True}):
        algorithm.set_query_arguments(effort)
        found = [algorithm.query(query, 10) for query in queries]
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth.tolist(), strict=True)])
        assert recall >= (0.999 if isinstance(effort, dict) else effort - 0.1)
        work.append(algorithm.get_additional()["dist_comps"])
        algorithm.batch_query(queries, 10)
        assert algorithm.get_batch_results() == found
        assert str(effort) in str(algorithm)
    assert 0 < work[0] <= work[1], "more recall takes more work"
    algorithm.done()
    assert not Path(algorithm.folder.name).exists()


def test_the_configuration_names_what_is_there(module: Any) -> None:
    text = (HERE / "config.yml").read_text(encoding="utf-8")
    assert "constructor: Mrlstore\n" in text and "module: ann_benchmarks.algorithms.mrlstore\n" in text
    with pytest.raises(ValueError, match="angular"):
        module.Mrlstore("euclidean", {})
