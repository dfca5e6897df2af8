"""A client by pymilvus' own calls; benchmarks.server_peers runs it where pymilvus is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pymilvus import DataType, MilvusClient

from benchmarks.client_loop import K, Vector, metadatas, run


class MilvusRows:
    """`MilvusClient` on one collection, with an HNSW graph of Milvus' defaults."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._client: Any = MilvusClient(f"http://127.0.0.1:{options.port}")
        if not self._client.has_collection("papers"):
            schema = self._client.create_schema()
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=100)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=options.dim)
            schema.add_field("year", DataType.INT64)
            index = self._client.prepare_index_params()
            index.add_index("vector", index_type="HNSW", metric_type="COSINE", params={"M": 30})
            self._client.create_collection("papers", schema=schema, index_params=index)
        self._client.load_collection("papers")

    def query(self, vector: Vector) -> list[str]:
        found = self._client.search("papers", [vector], limit=K, output_fields=["year"])
        return [hit["id"] for hit in found[0]]

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        rows = zip(ids, vectors, metadatas(len(ids)), strict=True)
        self._client.upsert("papers", [{"id": id, "vector": values, **one} for id, values, one in rows])


if __name__ == "__main__":
    run(MilvusRows)
