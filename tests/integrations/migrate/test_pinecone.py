"""A migration from Pinecone: its real SDK against a server on this machine that speaks its protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

pytest.importorskip("pinecone", reason="needs the environment of make test-integrations")

import mrlstore
from mrlstore.exchange.migrate import Choice, migrate
from mrlstore.integrations.pinecone import Index
from tests.nested import nested

pytestmark = pytest.mark.filterwarnings("ignore")  # of the SDK and what it imports

ROWS, DIM = 350, 16
VECTORS = nested(ROWS, DIM, seed=6)


class Service(BaseHTTPRequestHandler):
    """The data plane's REST interface as Pinecone documents it, on a store."""

    index: Index
    down_after: int = 10**9  # requests
    longest: int = 10**9  # characters of a URL
    seen: list[str]

    def do_GET(self) -> None:
        if len(self.path) > self.longest:
            self.seen.append("too long")
            self.send_response(414)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        address = urlsplit(self.path)
        given = parse_qs(address.query)
        namespace = given.get("namespace", [""])[0]
        if address.path == "/vectors/list":
            token = given.get("paginationToken", [None])[0]
            page = self.index.list_paginated(
                namespace=namespace, limit=int(given["limit"][0]), pagination_token=token
            )
            told: dict[str, Any] = {"vectors": [{"id": item.id} for item in page], "namespace": namespace}
            if page.pagination:
                told["pagination"] = {"next": page.pagination.next}
            self._answer(told)
        elif address.path == "/vectors/fetch":
            self._fetch(given["ids"], namespace)
        else:
            self._stats()

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path == "/query":
            found = self.index.query(
                vector=given["vector"], top_k=given["topK"], namespace=given.get("namespace", "")
            )
            matches = [{"id": match.id, "score": match.score} for match in found.matches]
            self._answer({"matches": matches, "namespace": found.namespace})
        elif self.path == "/vectors/fetch":
            self._fetch(given["ids"], given.get("namespace", ""))
        else:
            self._stats()

    def _fetch(self, ids: list[str], namespace: str) -> None:
        found = self.index.fetch(ids=ids, namespace=namespace)
        rows = {
            id: {"id": id, "values": row.values, "metadata": row.metadata or {}}
            for id, row in found.vectors.items()
        }
        self._answer({"vectors": rows, "namespace": namespace})

    def _stats(self) -> None:
        stats = self.index.describe_index_stats()
        spaces = {name: {"vectorCount": each.vector_count} for name, each in stats.namespaces.items()}
        told = {"dimension": stats.dimension, "totalVectorCount": stats.total_vector_count}
        self._answer({**told, "namespaces": spaces, "metric": "cosine", "vectorType": "dense"})

    def _answer(self, told: dict[str, Any]) -> None:
        self.seen.append(self.path)
        data = json.dumps(told).encode()
        self.send_response(200 if len(self.seen) <= self.down_after else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Service]]:
    monkeypatch.setenv("PINECONE_API_KEY", "none")
    with Index(tmp_path / "served.mrl", auto_maintain=False) as index:
        for namespace in ("", "more"):
            rows = [(f"v{n:03}", VECTORS[n], {"n": n, "text": f"text {n}"}) for n in range(ROWS)]
            index.upsert(vectors=rows, namespace=namespace)

        class Serving(Service):
            seen: list[str] = []

        Serving.index = index
        server = ThreadingHTTPServer(("127.0.0.1", 0), Serving)
        Serving.address = f"pinecone:http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Serving
        server.shutdown()
        thread.join()
        server.server_close()


def test_namespaces_come_over(service: Any, path: Path) -> None:
    done = migrate(path, service.address, choice=Choice(document="text"))
    assert done.ok and done.warnings == (), done
    assert [(each.namespace, each.rows, each.compared, each.asked) for each in done.collections] == [
        ("__default__", ROWS, 100, 20),
        ("more", ROWS, 100, 20),
    ]
    assert all(each.agreed == 1 for each in done.collections)
    with mrlstore.open(path, mode="r") as store:
        [row] = store.get(["v007"], namespace="more", include=("metadata", "document", "vector"))
        assert (row.metadata, row.document) == ({"n": 7}, "text 7")
        assert row.vector is not None
        np.testing.assert_allclose(row.vector, VECTORS[7], atol=1e-2)


def test_one_namespace_goes_on_where_the_service_failed(service: Any, path: Path) -> None:
    choice = Choice(collections=("more",))
    service.down_after = 6
    with pytest.raises(mrlstore.OriginError, match="Pinecone: "):
        migrate(path, service.address, choice=choice, batch=100)
    with mrlstore.open(path, mode="r") as store:
        assert 0 < store.count() < ROWS
    service.down_after, before = 10**9, len(service.seen)
    done = migrate(path, service.address, choice=choice, batch=100)
    assert done.ok and done.collections[0].read == ROWS
    listed = [address for address in service.seen[before:] if address.startswith("/vectors/list")]
    assert len(listed) < 4, "it did not begin anew"
    with mrlstore.open(path, mode="r") as store:
        assert store.namespaces() == {"": ROWS}


def test_long_ids_are_fetched_in_smaller_pages(service: Any, path: Path) -> None:
    ids = [f"{n:03}/" + "/" * 300 for n in range(ROWS)]  # 900 characters each in a URL
    service.index.delete(delete_all=True, namespace="more")
    service.index.upsert(vectors=list(zip(ids, VECTORS, strict=True)), namespace="more")
    service.longest = 8_000
    done = migrate(path, service.address, choice=Choice(collections=("more",)), batch=100)
    assert done.ok and done.rows == ROWS
    assert "too long" not in service.seen
    service.longest = 3_000  # shorter than other servers take
    done = migrate(path, service.address, choice=Choice(collections=("more",)), batch=100)
    assert done.ok and done.rows == ROWS
    assert "too long" in service.seen
    service.longest = 500
    with pytest.raises(mrlstore.OriginError, match="Pinecone"):
        migrate(path, service.address, choice=Choice(collections=("more",)), batch=100)


def test_without_a_key_nothing_is_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    with pytest.raises(mrlstore.InvalidInput, match="PINECONE_API_KEY"):
        migrate(path, "pinecone:papers")
