"""OpenTelemetry spans and metrics of what a store does, in programs that call `instrument()`.

`instrument` puts wrappers around the methods of `Store` and the steps of maintenance, as the instrumentors of
other libraries do. A program that never calls it runs nothing of this module, and pays nothing. Names follow
OpenTelemetry's conventions for databases. Never told are ids, vectors, filters, documents, and the messages
of errors, which may quote them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from mrlstore.api.store import Store
from mrlstore.maintenance import steps
from mrlstore.storage.snapshot import SnapshotMoved
from mrlstore.system.job import Interrupted
from mrlstore.types import BatchResult, RepairReport, Result, VerifyReport
from mrlstore.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

Attributes = dict[str, str | int | float | bool]
Tell = Callable[[Any], Attributes]  # gives the attributes of a span from what the operation returned

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"  # the first with stable conventions for databases
# The buckets that the conventions advise begin at 1 ms, and most queries of an embedded store take less.
_BUCKETS_S: Final = (1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600)
_RETURNED: Final = "db.response.returned_rows"
_GIVEN_UP: Final = (Interrupted, SnapshotMoved)  # the step is done again later, so the span is not an error


def instrument(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Make every store of this process report spans and metrics, those that are open already included.

    A span is named after the operation and the store's folder, like `query papers.mrl`; its kind is INTERNAL,
    since a store works inside its caller. The histogram `db.client.operation.duration` has the seconds of
    every operation, `db.client.response.returned_rows` how many rows came back.

    Args:
        tracer_provider: where spans go; by default the global one, also one that is set later.
        meter_provider: where metrics go; likewise.

    This is a setting of the process, not of the store on disk. Calling it again replaces the providers.

    Raises:
        ImportError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise ImportError("telemetry needs opentelemetry-api: pip install 'mrlstore[telemetry]'") from error
    uninstrument()
    tracer = trace.get_tracer("mrlstore", __version__, tracer_provider, _SCHEMA)
    meter = metrics.get_meter("mrlstore", __version__, meter_provider, _SCHEMA)
    duration = meter.create_histogram(
        "db.client.operation.duration",
        unit="s",
        description="How long operations of a store take.",
        explicit_bucket_boundaries_advisory=_BUCKETS_S,
    )
    returned = meter.create_histogram(
        "db.client.response.returned_rows",
        unit="{row}",
        description="How many rows an operation gives back.",
        explicit_bucket_boundaries_advisory=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000),
    )
    reporter = _Reporter(tracer, duration, returned)
    for name, tell in _METHODS.items():
        _replace(next(kind for kind in Store.__mro__ if name in vars(kind)), name, reporter, name, tell)
    for name, operation in _STEPS.items():
        _replace(steps, name, reporter, operation, _nothing)


def uninstrument() -> None:
    """Undo `instrument`; harmless where that was not called."""
    while _replaced:
        owner, name, original = _replaced.pop()
        setattr(owner, name, original)


def _result(answer: Result) -> Attributes:
    plan = answer.plan
    told: Attributes = {
        _RETURNED: len(answer),
        "mrlstore.generation": plan.generation,
        "mrlstore.effort": plan.effort,
        "mrlstore.visited_rows": plan.visited,
        "mrlstore.reranked_rows": plan.reranked,
    }
    if plan.matching is not None:
        told["mrlstore.matching_rows"] = plan.matching
    if plan.expected is not None:
        told["mrlstore.expected_recall"] = plan.expected.recall
    return told


def _batch(answer: BatchResult) -> Attributes:
    return {"db.operation.batch.size": len(answer), _RETURNED: sum(len(result) for result in answer)}


def _records(answer: list[Any]) -> Attributes:
    return {_RETURNED: len(answer)}


def _rows(answer: int) -> Attributes:
    return {"mrlstore.rows": answer}


def _ids(answer: list[str]) -> Attributes:
    return {"mrlstore.rows": len(answer)}


def _report(answer: VerifyReport) -> Attributes:
    return {"mrlstore.problems": len(answer.problems)}


def _repaired(answer: RepairReport) -> Attributes:
    return {**_report(answer.report), "mrlstore.lost_rows": len(answer.lost)}


def _nothing(answer: Any) -> Attributes:
    return {}


_METHODS: Final[dict[str, Tell]] = {
    "query": _result,
    "query_batch": _batch,
    "get": _records,
    "count": _rows,
    "facets": _records,
    "sample": _records,
    "upsert": _rows,
    "update": _rows,
    "delete": _rows,
    "clear": _rows,
    "add": _ids,
    "optimize": _nothing,
    "verify": _report,
    "repair": _repaired,
    "backup": _nothing,
    "export_hnswlib": _nothing,
    "calibrate": _nothing,
    "set_prefix_dim": _nothing,
    "set_graph": _nothing,
    "tier_report": _nothing,
}
_STEPS: Final = {
    "flush": "flush",
    "merge": "merge",
    "complete": "index",
}  # functions of maintenance.steps

_replaced: list[tuple[type | ModuleType, str, Any]] = []


def _replace(owner: type | ModuleType, name: str, reporter: _Reporter, operation: str, tell: Tell) -> None:
    original = vars(owner)[name]
    _replaced.append((owner, name, original))
    setattr(owner, name, reporter.around(original, operation, tell))


@dataclass(frozen=True)
class _Reporter:
    """Wraps functions whose first argument has the path of a store."""

    tracer: Tracer
    duration: Histogram
    returned: Histogram

    def around(self, function: Callable[..., Any], operation: str, tell: Tell) -> Callable[..., Any]:
        """The function, reported as this operation."""
        from opentelemetry.trace import StatusCode

        @functools.wraps(function)
        def reported(place: Any, *args: Any, **kwargs: Any) -> Any:
            name = place.path.name
            known: Attributes = {
                "db.system.name": "mrlstore",
                "db.namespace": name,
                "db.operation.name": operation,
            }
            with self.tracer.start_as_current_span(
                f"{operation} {name}", attributes=known, record_exception=False, set_status_on_exception=False
            ) as span:
                if namespace := kwargs.get("namespace"):
                    span.set_attribute("db.collection.name", str(namespace))
                started = time.perf_counter()
                try:
                    answer = function(place, *args, **kwargs)
                    told = tell(answer)
                    span.set_attributes(told)
                    if _RETURNED in told:
                        self.returned.record(int(told[_RETURNED]), known)
                    return answer
                except _GIVEN_UP:
                    raise
                except BaseException as error:
                    known["error.type"] = type(error).__name__
                    span.set_attribute("error.type", type(error).__name__)
                    span.set_status(StatusCode.ERROR)
                    raise
                finally:
                    self.duration.record(time.perf_counter() - started, known)

        return reported
