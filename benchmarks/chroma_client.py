"""A client by chromadb's own calls; benchmarks.server_peers runs it where chromadb is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import chromadb
import numpy as np

from benchmarks.client_loop import K, Vector, metadatas, run


class ChromaClient:
    """`chromadb.HttpClient` on one collection."""

    def __init__(self, options: argparse.Namespace) -> None:
        client = chromadb.HttpClient(host="127.0.0.1", port=options.port)
        space: Any = {"hnsw": {"space": "cosine"}}
        self._rows = client.get_or_create_collection("papers", configuration=space)

    def query(self, vector: Vector) -> list[str]:
        found = self._rows.query(query_embeddings=[vector], n_results=K, include=["metadatas", "distances"])
        return found["ids"][0]

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        self._rows.upsert(ids=ids, embeddings=list(vectors), metadatas=[*metadatas(len(ids))])


def _as_array(numbers: Vector) -> Any:
    return np.array(numbers, dtype=np.float32)


if __name__ == "__main__":
    run(ChromaClient, _as_array)
