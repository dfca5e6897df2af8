"""Spans and durations of requests, read back with the exporters of OpenTelemetry's own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mrlstore import telemetry
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.http_spans import HttpSpans

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")

from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

from tests.test_telemetry import Seen  # noqa: E402

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UPSERT = {"vectors": [{"id": "s3cret", "values": [1, 2, 3, 4]}]}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    found, instrument = Seen(), telemetry.instrument
    monkeypatch.setattr(telemetry, "instrument", lambda: instrument(found.tracers, found.meters))
    monkeypatch.setattr(
        "mrlstore.server.application.HttpSpans", lambda: HttpSpans(found.tracers, found.meters)
    )
    yield found
    telemetry.uninstrument()


def test_a_request_is_a_span_above_those_of_its_store(seen: Seen, tmp_path: Path) -> None:
    app = create_app(ServerConfig(tmp_path / "stores", telemetry=True))
    with TestClient(app, base_url="http://localhost", headers={"traceparent": PARENT}) as client:
        client.post("/indexes", json={"name": "papers", "dimension": 4})
        client.post("/i/papers/vectors/upsert", json=UPSERT)
        for top_k in (1, 200):  # on the event loop, and in a thread
            client.post("/i/papers/query", json={"topK": top_k, "vector": [1, 2, 3, 4]})
        client.post("/i/papers/query", json={"topK": 0})
        client.get("/indexes/absent?s3cret=1")
    *found, refused = seen.spans("POST query")
    for span in found:
        assert span.kind is SpanKind.SERVER and span.parent is not None
        assert f"{span.parent.span_id:x}" in PARENT and f"{span.context.trace_id:x}" in PARENT
        told = dict(span.attributes or {})
        assert (told["mrlstore.api"], told["http.response.status_code"]) == ("pinecone", 200)
    below = {span.parent.span_id for span in seen.spans("query papers.mrl") if span.parent is not None}
    assert below == {span.context.span_id for span in found}
    assert (refused.attributes or {})["http.response.status_code"] == 400
    assert refused.status.status_code is StatusCode.UNSET
    (absent,) = seen.spans("GET describe_index")
    assert "s3cret" not in absent.to_json() + seen.spans("POST upsert")[0].to_json()
    (point,) = seen.points("http.server.request.duration", **{"mrlstore.operation": "upsert"})
    assert point.count == 1


def test_a_failure_of_the_server_is_an_error(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(
        create_app(ServerConfig(tmp_path / "stores", telemetry=True)), base_url="http://localhost"
    ) as client:
        monkeypatch.setattr("mrlstore.server.metrics.text", lambda root: 1 / 0)
        assert client.get("/metrics").status_code == 500
    (span,) = seen.spans("GET metrics")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "500"
