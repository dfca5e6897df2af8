"""A client by the calls of Pinecone's SDK; benchmarks.server_peers runs it where that package is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pinecone import Pinecone

from benchmarks.client_loop import K, Vector, metadatas, run


class PineconeClient:
    """`pinecone.Index` on one index."""

    def __init__(self, options: argparse.Namespace) -> None:
        url = f"http://127.0.0.1:{options.port}"
        client: Any = Pinecone(api_key="any", host=url)
        self._rows = client.Index(host=f"{url}/i/papers")

    def query(self, vector: Vector) -> list[str]:
        found = self._rows.query(vector=vector, top_k=K, include_metadata=True)
        return [match.id for match in found.matches]

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        rows = zip(ids, vectors, metadatas(len(ids)), strict=True)
        self._rows.upsert(vectors=[{"id": id, "values": values, "metadata": one} for id, values, one in rows])


if __name__ == "__main__":
    run(PineconeClient)
