"""A client that is a socket: bodies are made before they are sent, and answers hardly read.

benchmarks.server_peers runs it: `--api pinecone` speaks Pinecone's API, `--api chroma` that of Chroma.
"""

from __future__ import annotations

import argparse
import json
import socket
import urllib.request
from collections.abc import Sequence
from typing import Any

from benchmarks.client_loop import BATCH, K, Vector, metadatas, run

CHROMA = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class BareClient:
    """A connection that stays open. Numbers become text once for each vector."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._port, self._digits = options.port, options.digits
        self._connection = socket.create_connection(("127.0.0.1", options.port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._texts: dict[int, str] = {}

    def post(self, path: str, body: str) -> bytes:
        """The body of the answer, whose status has to be 200 or 201."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
        self._connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return read_answer(self._connection)

    def text(self, vector: Vector) -> str:
        """A vector in JSON. The caller keeps its vectors, so that one is known by its address."""
        known = self._texts.get(id(vector))
        if known is None:
            digits = self._digits
            numbers = vector if digits is None else [round(x, digits) for x in vector]
            known = self._texts[id(vector)] = json.dumps(numbers, separators=(",", ":"))
        return known


class BarePinecone(BareClient):
    """Queries and upserts by Pinecone's API."""

    def query(self, vector: Vector) -> list[str]:
        body = f'{{"topK":{K},"vector":{self.text(vector)},"includeMetadata":true}}'
        return [match["id"] for match in json.loads(self.post("/i/papers/query", body))["matches"]]

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        rows = ",".join(
            f'{{"id":"{id}","values":{self.text(vector)},"metadata":{json.dumps(one)}}}'
            for id, vector, one in zip(ids, vectors, metadatas(len(ids)), strict=True)
        )
        self.post("/i/papers/vectors/upsert", f'{{"vectors":[{rows}]}}')


class BareChroma(BareClient):
    """Queries and upserts by Chroma's API."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        with urllib.request.urlopen(f"http://127.0.0.1:{options.port}{CHROMA}/papers", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        self._path = f"{CHROMA}/{found['id']}"

    def query(self, vector: Vector) -> list[str]:
        include = '["metadatas","distances"]'
        body = f'{{"query_embeddings":[{self.text(vector)}],"n_results":{K},"include":{include}}}'
        found: list[str] = json.loads(self.post(f"{self._path}/query", body))["ids"][0]
        return found

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        numbers = ",".join(self.text(vector) for vector in vectors)
        rest = f'"ids":{json.dumps(ids)},"metadatas":{json.dumps(metadatas(BATCH))}'
        self.post(f"{self._path}/upsert", f'{{{rest},"embeddings":[{numbers}]}}')


def read_answer(connection: socket.socket) -> bytes:
    """The body of one answer with a Content-Length; raises where its status is not 200 or 201."""
    data = connection.recv(65_536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
        raise RuntimeError(data[:500].decode())
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return body


def _make(options: argparse.Namespace) -> BareClient:
    return {"pinecone": BarePinecone, "chroma": BareChroma}[options.api](options)


if __name__ == "__main__":
    run(_make)
