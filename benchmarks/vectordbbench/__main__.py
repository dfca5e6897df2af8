"""Run VectorDBBench's performance case on a data set of one's own, without network.

    python -m benchmarks.vectordbbench --make 20000 --dataset build/vdbb --store build/vdbb.mrl
    python -m benchmarks.vectordbbench --dataset FOLDER --store build/vdbb.mrl --target-recall 0.95

The folder is what VectorDBBench calls a custom data set: train.parquet (id, emb), test.parquet (id, emb) and
neighbors.parquet (id, neighbors_id). `--make N` writes one of N generated nested vectors of 768 dims into it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from vectordb_bench.backend.clients import DB
from vectordb_bench.backend.data_source import DatasetSource
from vectordb_bench.backend.task_runner import CaseRunner, RunningStatus
from vectordb_bench.metric import Metric
from vectordb_bench.models import CaseConfig, CaseType, ConcurrencySearchConfig, TaskConfig, TaskStage

from benchmarks.vectordbbench.client import Mrlstore, MrlstoreCaseConfig, MrlstoreConfig
from tests.nested import nested

DIM: Final = 768
QUERIES: Final = 200
NEIGHBOURS: Final = 100


class Runner(CaseRunner):
    """VectorDBBench's runner with our client, which is not in its list of databases."""

    def init_db(self, drop_old: bool = True) -> None:
        self.db = Mrlstore(
            dim=self.ca.dataset.data.dim,
            db_config=self.config.db_config.to_dict(),
            db_case_config=self.config.db_case_config,
            drop_old=drop_old,
        )


def make(folder: Path, rows: int, dim: int = DIM) -> None:
    """Write a custom data set of generated rows, with the exact neighbours of held-out ones."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors, queries = nested(rows, dim), nested(QUERIES, dim, seed=2)
    scores = queries @ vectors.T / np.linalg.norm(vectors, axis=1)
    best = np.argsort(-scores, axis=1)[:, :NEIGHBOURS]
    pl.DataFrame({"id": np.arange(rows), "emb": vectors.tolist()}).write_parquet(folder / "train.parquet")
    numbers = np.arange(QUERIES)
    pl.DataFrame({"id": numbers, "emb": queries.tolist()}).write_parquet(folder / "test.parquet")
    answers = pl.DataFrame({"id": numbers, "neighbors_id": best.tolist()})
    answers.write_parquet(folder / "neighbors.parquet")


def measure(folder: Path, store: Path, k: int, seconds: int, search: dict[str, Any]) -> Metric:
    """Load, optimise, search one by one and at once; what VectorDBBench measured."""
    train = pl.scan_parquet(folder / "train.parquet")
    size = train.select(pl.len()).collect().item()
    dim = len(train.select("emb").head(1).collect()["emb"][0])
    custom = {
        "name": "mrlstore",
        "description": "a custom data set",
        "load_timeout": 36_000,
        "optimize_timeout": 36_000,
        "dataset_config": {
            "name": folder.name,
            "dir": str(folder.absolute()),
            "size": size,
            "dim": dim,
            "metric_type": "COSINE",
        },
    }
    concurrent = ConcurrencySearchConfig(num_concurrency=[1, 2], concurrency_duration=seconds)
    stages = [TaskStage.DROP_OLD, TaskStage.LOAD, TaskStage.SEARCH_SERIAL]
    config = TaskConfig(
        db=DB.Test,  # stands in: see Runner
        db_config=MrlstoreConfig(path=str(store)),
        db_case_config=MrlstoreCaseConfig(**search),
        case_config=CaseConfig(
            case_id=CaseType.PerformanceCustomDataset,
            custom_case=custom,
            k=k,
            concurrency_search_config=concurrent,
        ),
        stages=stages + ([TaskStage.SEARCH_CONCURRENT] if seconds else []),
        load_concurrency=1,
        insert_batch_size=5_000,
    )
    runner = Runner(
        run_id="1",
        config=config,
        ca=config.case_config.case_id.case_cls(custom),
        status=RunningStatus.PENDING,
        dataset_source=DatasetSource.S3,  # asked for nothing: the data set is a local one
    )
    return runner.run()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="the folder of the data set")
    parser.add_argument("--store", type=Path, required=True, help="where the store is made anew")
    parser.add_argument("--make", type=int, metavar="N", help="write a data set of N generated rows first")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5, help="of concurrent search; 0 for none")
    parser.add_argument("--prefix-dim", type=int)
    parser.add_argument("--target-recall", type=float)
    given = parser.parse_args()
    if given.make:
        make(given.dataset, given.make)
    search = {"prefix_dim": given.prefix_dim, "target_recall": given.target_recall}
    started = time.perf_counter()
    metric = measure(given.dataset, given.store, given.k, given.seconds, search)
    p50, p99 = metric.serial_latency_p50 * 1000, metric.serial_latency_p99 * 1000
    print(
        f"rows {metric.inserted_count:,}  load {metric.insert_duration:.1f} s  index "
        f"{metric.optimize_duration:.1f} s  recall@{given.k} {metric.recall:.4f}  p50 {p50:.2f} ms  "
        f"p99 {p99:.2f} ms"
    )
    for clients, qps in zip(metric.conc_num_list, metric.conc_qps_list, strict=True):
        print(f"{clients} clients: {qps:,.0f} queries per second")
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
