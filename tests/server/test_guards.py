"""What is refused before an API sees it: foreign hosts and pages, bodies, too many requests, slow work."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from mrlstore.errors import (
    CorruptStore,
    InvalidInput,
    MrlStoreError,
    StorageError,
    StorageFull,
    StoreLocked,
    StorePoisoned,
)
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_family import ApiFamily
from mrlstore.server.guards import Guard
from mrlstore.server.http_call import HttpCall
from mrlstore.server.pinecone.routes import error_body

QUERY = {"topK": 1, "vector": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:5080", "[::1]:80", "LOCALHOST:1", "vectors.example.org"]
)
def test_names_of_the_server_are_answered(tmp_path: Path, host: str) -> None:
    config = ServerConfig(tmp_path, public_url="https://vectors.example.org")
    with TestClient(create_app(config)) as client:
        assert client.get("/indexes", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "localhost:", "a b", "127.0.0.1.nip.io"]
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    for path in ("/indexes", "/health"):
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED")


def test_more_names_can_be_allowed(tmp_path: Path) -> None:
    config = ServerConfig(tmp_path, allowed_hosts="mrlstore, store.internal")
    with TestClient(create_app(config)) as client:
        assert client.get("/indexes", headers={"host": "store.internal:5080"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:81", "https://localhost.evil"]
)
def test_pages_from_elsewhere_are_refused(client: TestClient, origin: str) -> None:
    assert client.get("/indexes", headers={"origin": origin}).status_code == 403
    assert client.get("/indexes", headers={"origin": "http://localhost:5080"}).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    config = ServerConfig(tmp_path, max_body_mb=1)
    with TestClient(create_app(config), base_url="http://localhost") as client:
        answer = client.post("/indexes", content=b" " * 1_000_001)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert answer.headers["connection"] == "close"
        chunks = (b" " * 100_000 for _ in range(11))  # without a Content-Length
        assert client.post("/indexes", content=chunks).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"\xff\xfe",
        b'{"a": 1e400}',
    ],
)
def test_what_is_no_object_in_json_is_a_400(client: TestClient, body: bytes) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    for path in ("/indexes", "/i/papers/query", "/i/papers/vectors/upsert"):
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGUMENT"), answer.text


def test_metadata_may_not_nest_deeper_than_a_store_takes(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 2})
    nested: Any = 1
    for _ in range(40):
        nested = {"a": nested}
    row = {"id": "a", "values": [1, 2], "metadata": nested}
    answer = client.post("/i/papers/vectors/upsert", json={"vectors": [row]})
    assert answer.status_code == 400 and "levels" in answer.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "3 numbers, but the index has dimension 4"),
        ([1, 2, 3, "4"], "values[3]: expected a number"),
        ([1, 2, 3, None], "values[3]: expected a number, got null"),
        ([1, 2, 3, [4]], "values[3]: expected a number"),
        ([1, 2, 3, True], "true or false"),
        ([0, 0, 0, 0], "zero"),
        ([1e308, 1e308, 0, 1], "too large"),
        ([1e39, 0, 0, 1], "too large"),
        ([1e-60, 0, 0, 0], "zero"),
        ({"0": 1}, "expected a list of numbers"),
        (None, "expected a list of numbers, got null"),
    ],
)
def test_vectors_that_are_none_are_named(client: TestClient, values: Any, message: str) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    body = {"vectors": [{"id": "a", "values": [1, 2, 3, 4]}, {"id": "b", "values": values}]}
    answer = client.post("/i/papers/vectors/upsert", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"], answer.text
    assert client.post("/i/papers/describe_index_stats", json={}).json()["totalVectorCount"] == 0


def test_answers_have_a_size(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4096})
    body = {"topK": 1025, "vector": [1.0] * 4096, "includeValues": True}
    answer = client.post("/i/papers/query", json=body)
    assert answer.status_code == 400 and "at most 1,024 rows" in answer.json()["error"]["message"]
    assert client.post("/i/papers/query", json={**body, "topK": 1024}).status_code == 200


# What an application raises, and the status that a client sees.
FAILURES: list[tuple[Exception, int]] = [
    (InvalidInput("k: too many"), 400),
    (StoreLocked("busy"), 503),
    (StorePoisoned("gone"), 503),
    (StorageFull(28, "full"), 507),
    (StorageError(5, "broken"), 500),
    (CorruptStore("/secret/place/papers.mrl", "damaged"), 500),
    (MrlStoreError("else"), 500),
    (RuntimeError("/secret/place"), 500),
]


@pytest.mark.parametrize(("failure", "status"), FAILURES, ids=lambda each: type(each).__name__)
async def test_failures_have_a_status_and_tell_no_paths(
    tmp_path: Path, failure: Exception, status: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise failure

    async with calling(app, ServerConfig(tmp_path)) as client:
        answer = await client.get("/x")
    assert answer.status_code == status and "/secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_more_requests_at_a_time_than_allowed_are_told_to_wait(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await HttpCall.of(scope).answer(200, b"{}")

    async with calling(app, ServerConfig(tmp_path, max_requests=2)) as client:
        running = [asyncio.create_task(client.get("/x")) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = await client.get("/x")
        go.set()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert [(await each).status_code for each in running] == [200, 200]
        assert (await client.get("/x")).status_code == 200


async def test_more_requests_a_second_than_allowed_are_told_to_wait(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await HttpCall.of(scope).answer(200, b"{}")

    async with calling(app, ServerConfig(tmp_path, max_rate=5)) as client:
        statuses = [(await client.get("/x")).status_code for _ in range(8)]
    assert statuses[:5] == [200] * 5 and 429 in statuses


async def test_a_request_that_takes_too_long_ends(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    began = time.monotonic()
    async with calling(app, ServerConfig(tmp_path, timeout_s=1)) as client:
        answer = await client.get("/x")
    assert answer.status_code == 504 and "1 s" in answer.text
    assert time.monotonic() - began < 20


async def test_requests_are_logged_with_what_a_key_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await HttpCall.of(scope).answer(200, b"{}")

    with caplog.at_level(logging.INFO, "mrlstore.server.access"):
        async with calling(app, ServerConfig(tmp_path)) as client:
            await client.get("/a%0Ab")
    record = caplog.records[-1]
    assert "\n" not in record.getMessage()
    assert vars(record)["status"] == 200 and vars(record)["path"] == "/a\nb"


def test_metrics_count_what_was_answered(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    client.post("/i/papers/query", json=QUERY)
    client.post("/i/papers/query", json={**QUERY, "topK": 0})
    text = client.get("/metrics").text
    for line in (
        'mrlstore_requests_total{api="pinecone",operation="query",status="400"}',
        'mrlstore_request_seconds_count{api="pinecone",operation="query"}',
        'mrlstore_stage_seconds_count{operation="query",stage="work"}',
        'mrlstore_rows{index="papers"} 0.0',
    ):
        assert line in text


def test_a_config_comes_from_options_before_the_environment(tmp_path: Path) -> None:
    environ = {"MRLSTORE_ROOT": str(tmp_path), "MRLSTORE_PORT": "81", "MRLSTORE_READ_ONLY": "1"}
    config = ServerConfig.from_environment(environ, port=82)
    assert (config.root, config.port, config.read_only) == (tmp_path, 82, True)
    assert ServerConfig.from_environment(config.to_environment()) == config
    for wrong in ({}, {**environ, "MRLSTORE_PORT": "x"}, {**environ, "MRLSTORE_READ_ONLY": "maybe"}):
        with pytest.raises(InvalidInput):
            ServerConfig.from_environment(wrong)
    for options in ({"port": 0}, {"workers": 0}, {"tls_cert": tmp_path}, {"public_url": "vectors"}):
        with pytest.raises(InvalidInput):
            ServerConfig(tmp_path, **options)


class calling:  # noqa: N801
    """A client of a guard before an application of the test."""

    def __init__(self, app: Any, config: ServerConfig) -> None:
        guard = Guard(app, config, [ApiFamily("test", "", [], error_body)], frozenset())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(guard, raise_app_exceptions=False), base_url="http://localhost"
        )

    async def __aenter__(self) -> httpx.AsyncClient:
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
