"""The client class that VectorDBBench drives: a store in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType, VectorDB
from vectordb_bench.backend.filter import Filter, FilterOp

import mrlstore


class MrlstoreConfig(DBConfig):
    """Where the store is."""

    path: str

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path}


class MrlstoreCaseConfig(BaseModel, DBCaseConfig):
    """How it is built and searched; what is None stays as mrlstore has it."""

    metric_type: MetricType | None = None
    prefix_dim: int | None = None
    m: int = 16
    ef_construction: int = 200
    target_recall: float | None = None
    ef: int | None = None
    shortlist: int | None = None

    def index_param(self) -> dict[str, Any]:
        return {"prefix_dim": self.prefix_dim, "m": self.m, "ef_construction": self.ef_construction}

    def search_param(self) -> dict[str, Any]:
        named = {"target_recall": self.target_recall, "ef": self.ef, "shortlist": self.shortlist}
        return {name: value for name, value in named.items() if value is not None}


class Mrlstore(VectorDB):
    """Each process opens the store for itself; threads share it."""

    name = "mrlstore"
    supported_filter_types = [FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual]

    def __init__(
        self,
        dim: int,
        db_config: dict[str, Any],
        db_case_config: MrlstoreCaseConfig,
        collection_name: str = "",
        drop_old: bool = False,
        **_: Any,
    ) -> None:
        if db_case_config.metric_type not in (None, MetricType.COSINE):
            raise ValueError(f"the metric is cosine, not {db_case_config.metric_type}")
        self.path, self.case = db_config["path"], db_case_config
        self.store: mrlstore.Store | None = None
        self.where: dict[str, Any] | None = None
        if drop_old:
            shutil.rmtree(self.path, ignore_errors=True)
        mrlstore.open(self.path, dim=dim, **self.case.index_param(), auto_maintain=False).close()

    @contextmanager
    def init(self) -> Iterator[None]:
        self.store = mrlstore.open(self.path, auto_maintain=False)
        try:
            yield
        finally:
            self.store.close()
            self.store = None

    def prepare_filter(self, filters: Filter) -> None:
        if filters.type == FilterOp.NumGE:
            self.where = {"id": {"$gte": filters.int_value}}
        elif filters.type == FilterOp.StrEqual:
            self.where = {"label": filters.label_value}
        else:
            self.where = None

    def insert_embeddings(
        self,
        embeddings: list[list[float]],
        metadata: list[int],
        labels_data: list[str] | None = None,
        **_: Any,
    ) -> tuple[int, Exception | None]:
        assert self.store is not None
        labels: list[Any] = labels_data or [None] * len(metadata)
        rows = [
            {"id": number} | ({} if label is None else {"label": label})
            for number, label in zip(metadata, labels, strict=True)
        ]
        try:
            vectors = np.asarray(embeddings, np.float32)
            return self.store.upsert([str(number) for number in metadata], vectors, rows), None
        except mrlstore.MrlStoreError as error:
            return 0, error

    def optimize(self, data_size: int | None = None) -> None:
        assert self.store is not None
        self.store.optimize()

    def search_embedding(self, query: list[float], k: int = 100, **_: Any) -> list[int]:
        assert self.store is not None
        found = self.store.query(query, k, where=self.where, include=(), **self.case.search_param())
        return [int(id) for id in found.ids]
