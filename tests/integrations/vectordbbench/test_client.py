"""VectorDBBench's own runner on a custom local data set, with our client."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("LOG_LEVEL", "WARNING")  # before it is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that it imports
    pytest.importorskip("vectordb_bench", reason="needs the environment of make test-integrations")
    from vectordb_bench.backend.clients.api import MetricType
    from vectordb_bench.backend.filter import IntFilter, LabelFilter, non_filter

    from benchmarks.vectordbbench.__main__ import make, measure
    from benchmarks.vectordbbench.client import Mrlstore, MrlstoreCaseConfig, MrlstoreConfig
from tests.integrations.pages import run_page
from tests.nested import nested

pytestmark = pytest.mark.filterwarnings("ignore")


def test_its_performance_case(tmp_path: Path) -> None:
    make(tmp_path / "data", 3_000, 64)
    metric = measure(tmp_path / "data", tmp_path / "bench.mrl", 10, 1, {"target_recall": 0.95})
    assert metric.inserted_count == 3_000
    assert metric.recall > 0.9
    assert metric.serial_latency_p99 > 0 and metric.load_duration > 0
    assert metric.conc_num_list == [1, 2] and min(metric.conc_qps_list) > 0


def test_filters_and_metrics(path: Path) -> None:
    rows = nested(100, 16)
    config = MrlstoreConfig(path=str(path)).to_dict()
    client = Mrlstore(16, config, MrlstoreCaseConfig(metric_type=MetricType.COSINE), drop_old=True)
    with client.init():
        labels = ["label_5p" if n < 5 else "label_95p" for n in range(100)]
        given: Any = rows.tolist()
        assert client.insert_embeddings(given, list(range(100)), labels) == (100, None)
        client.optimize()
        assert client.search_embedding(given[7], 1) == [7]
        client.prepare_filter(IntFilter(int_value=90, filter_rate=0.9))
        assert min(client.search_embedding(given[7], 100)) == 90
        client.prepare_filter(LabelFilter(label_percentage=0.05))
        assert sorted(client.search_embedding(given[7], 100)) == list(range(5))
        client.prepare_filter(non_filter)
        assert len(client.search_embedding(given[7], 100)) == 100
        count, error = client.insert_embeddings([[0.0] * 16], [100])
        assert count == 0 and "zero vector" in str(error)
    with pytest.raises(ValueError, match="cosine"):
        Mrlstore(16, config, MrlstoreCaseConfig(metric_type=MetricType.L2))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("benchmarks", tmp_path, monkeypatch)
