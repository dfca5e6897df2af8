"""Spans and metrics, read back with the exporters of OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import telemetry
from mrlstore.maintenance import steps
from mrlstore.system.job import Interrupted, Job

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

from tests import inside

ROWS = np.random.default_rng(5).standard_normal((3000, 16)).astype(np.float32)


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def span(self, name: str) -> dict[str, Any]:
        (found,) = self.spans(name)
        return dict(found.attributes or {})

    def points(self, metric: str, **wanted: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        found = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for one in scope.metrics
            if one.name == metric
            for point in one.data.data_points
        ]
        return [point for point in found if wanted.items() <= dict(point.attributes or {}).items()]


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    telemetry.instrument(found.tracers, found.meters)
    yield found
    telemetry.uninstrument()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[mrlstore.Store]:
    with mrlstore.open(tmp_path / "papers.mrl", auto_maintain=False) as opened:
        yield opened


def ids(count: int) -> list[str]:
    return [f"row-{n}" for n in range(count)]


def test_a_query_is_a_span_that_tells_its_plan_and_none_of_its_content(
    seen: Seen, store: mrlstore.Store
) -> None:
    store.upsert(ids(100), ROWS[:100], [{"secret": "s3cret"}] * 100, namespace="tenant-7")
    store.query(ROWS[0], k=3, where={"secret": "s3cret"}, namespace="tenant-7")
    (span,) = seen.spans("query papers.mrl")
    assert span.kind is SpanKind.INTERNAL
    assert span.instrumentation_scope is not None and span.instrumentation_scope.name == "mrlstore"
    told = dict(span.attributes or {})
    assert told["db.system.name"] == "mrlstore"
    assert told["db.namespace"] == "papers.mrl"
    assert told["db.operation.name"] == "query"
    assert told["db.collection.name"] == "tenant-7"
    assert told["db.response.returned_rows"] == 3
    assert told["mrlstore.matching_rows"] == 100
    assert told["mrlstore.effort"] == "default"
    assert "s3cret" not in span.to_json() and "row-0" not in span.to_json()
    assert seen.span("upsert papers.mrl")["mrlstore.rows"] == 100


def test_every_operation_has_a_span(seen: Seen, store: mrlstore.Store, tmp_path: Path) -> None:
    store.upsert(ids(3000), ROWS)
    store.optimize()
    store.calibrate()
    store.set_prefix_dim(8)
    store.set_graph("mrlstore")
    store.query_batch(ROWS[:5], k=2)
    store.get(["row-1", "absent"])
    store.count()
    store.facets("n")
    store.sample(3)
    store.update(["row-1"], [{"n": 1}])
    store.delete(["row-2"])
    store.verify()
    store.repair()
    store.tier_report(count=10, sample=300)
    store.backup(tmp_path / "copy.mrl")
    with suppress(ImportError):  # where hnswlib could not be compiled
        store.export_hnswlib(tmp_path / "index.bin")
    store.clear()
    assert seen.span("query_batch papers.mrl")["db.operation.batch.size"] == 5
    assert seen.span("query_batch papers.mrl")["db.response.returned_rows"] == 10
    assert seen.span("get papers.mrl")["db.response.returned_rows"] == 1
    assert seen.span("count papers.mrl")["mrlstore.rows"] == 3000
    assert seen.span("verify papers.mrl")["mrlstore.problems"] == 0
    assert seen.span("repair papers.mrl")["mrlstore.lost_rows"] == 0
    for name in set(inside.TELEMETRY_METHODS) - {"query", "add"}:
        (point,) = seen.points("db.client.operation.duration", **{"db.operation.name": name})
        assert point.count == len(seen.spans(f"{name} papers.mrl")) == 1, name


def test_steps_of_maintenance_are_spans_below_what_called_for_them(seen: Seen, store: mrlstore.Store) -> None:
    for start in (0, 100):
        store.upsert([f"{n}" for n in range(start, start + 100)], ROWS[start : start + 100])
        store.optimize()
    (first, second) = seen.spans("optimize papers.mrl")
    (_, flushed) = seen.spans("flush papers.mrl")
    (merged,) = seen.spans("merge papers.mrl")
    for step in (flushed, merged):
        assert step.parent is not None and step.parent.span_id == second.context.span_id
    assert seen.spans("index papers.mrl")[0].parent.span_id == first.context.span_id  # type: ignore[union-attr]


def test_an_add_has_its_upserts_below_it(seen: Seen, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from mrlstore.embedders.local import LocalEmbedder

    texts = ["the tall giraffe", "the blue whale", "a tower of iron"]
    with mrlstore.open(tmp_path / "notes.mrl", embedder=LocalEmbedder.fit(texts)) as store:
        store.add(texts)
        store.query(text="tall")
    (added,), (stored,) = seen.spans("add notes.mrl"), seen.spans("upsert notes.mrl")
    assert stored.parent is not None and stored.parent.span_id == added.context.span_id
    assert seen.span("add notes.mrl")["mrlstore.rows"] == 3
    assert len(seen.spans("query notes.mrl")) == 1


def test_an_error_is_told_by_its_type_alone(seen: Seen, store: mrlstore.Store) -> None:
    store.upsert(ids(10), ROWS[:10])
    with pytest.raises(mrlstore.InvalidInput, match="nobody"):
        store.query(id="nobody")
    (span,) = seen.spans("query papers.mrl")
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "InvalidInput"
    assert "nobody" not in span.to_json()
    (point,) = seen.points("db.client.operation.duration", **{"error.type": "InvalidInput"})
    assert point.count == 1


def test_a_step_that_gives_way_is_no_error(seen: Seen, store: mrlstore.Store) -> None:
    store.upsert(ids(3000), ROWS)
    steps.flush(inside.session(store))
    (part,) = inside.session(store).snapshots.latest().segments
    with pytest.raises(Interrupted):
        steps.complete(inside.session(store), part, Job(should_stop=lambda: True))
    (span,) = seen.spans("index papers.mrl")
    assert span.status.status_code is StatusCode.UNSET


def test_the_seconds_fall_into_buckets_that_resolve_fast_queries(seen: Seen, store: mrlstore.Store) -> None:
    store.upsert(ids(10), ROWS[:10])
    for _ in range(7):
        store.query(ROWS[0], k=4)
    (point,) = seen.points("db.client.operation.duration", **{"db.operation.name": "query"})
    assert point.count == 7 and point.sum > 0
    assert point.explicit_bounds[0] == 1e-4
    assert dict(point.attributes).keys() == {"db.system.name", "db.namespace", "db.operation.name"}
    (rows,) = seen.points("db.client.response.returned_rows", **{"db.operation.name": "query"})
    assert rows.sum == 28


def test_an_awaited_query_stands_below_the_span_that_awaits_it(seen: Seen, store: mrlstore.Store) -> None:
    store.upsert(ids(10), ROWS[:10])
    tracer = seen.tracers.get_tracer("service")

    async def answer() -> None:
        with tracer.start_as_current_span("GET /search"):
            await store.aquery(ROWS[0], k=1)

    asyncio.run(answer())
    (outer,), (inner,) = seen.spans("GET /search"), seen.spans("query papers.mrl")
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id


def test_without_instrument_the_methods_are_the_plain_ones(tmp_path: Path) -> None:
    plain = {name: getattr(mrlstore.Store, name) for name in inside.TELEMETRY_METHODS}
    originals = {name: getattr(steps, name) for name in inside.TELEMETRY_STEPS}
    found = (*plain.values(), *originals.values())
    assert not any(method.__code__.co_filename == telemetry.__file__ for method in found)
    seen = Seen()
    telemetry.instrument(seen.tracers, seen.meters)
    telemetry.instrument(seen.tracers, seen.meters)  # replaces the first, and does not wrap twice
    assert all(getattr(mrlstore.Store, name).__wrapped__ is plain[name] for name in plain)
    telemetry.uninstrument()
    telemetry.uninstrument()
    assert all(getattr(mrlstore.Store, name) is plain[name] for name in plain)
    assert all(getattr(steps, name) is originals[name] for name in originals)
    with mrlstore.open(tmp_path / "papers.mrl") as store:
        store.upsert(ids(10), ROWS[:10])
    assert seen.spans("upsert papers.mrl") == []


def test_without_the_package_it_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"mrlstore\[telemetry\]"):
        telemetry.instrument()
