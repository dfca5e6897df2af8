"""`HttpSpans`: OpenTelemetry spans and durations of requests, above the spans of the stores they use.

Names and attributes follow OpenTelemetry's conventions for HTTP servers. Never told are bodies, nor paths and
query strings, which hold ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mrlstore.server.http_call import HttpCall
from mrlstore.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"
_BUCKETS_S: Final = (5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)


class HttpSpans:
    """Reports each request that it is put around."""

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        """Report to these providers, by default to the global ones, also those that are set later.

        Raises:
            ImportError: opentelemetry-api is not installed.
        """
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ImportError(
                "telemetry needs opentelemetry-api: pip install 'mrlstore[telemetry]'"
            ) from error
        self._tracer = trace.get_tracer("mrlstore.server", __version__, tracer_provider, _SCHEMA)
        self._duration = metrics.get_meter(
            "mrlstore.server", __version__, meter_provider, _SCHEMA
        ).create_histogram(
            "http.server.request.duration",
            unit="s",
            description="How long requests take, from their headers to the end of the answer.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )

    @contextmanager
    def around(self, call: HttpCall) -> Iterator[None]:
        """A span while a request is answered, below the one that its header `traceparent` names.

        It is named by the method and the operation, such as `POST query`.
        """
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.headers.items()}
        known: dict[str, str | int] = {
            "http.request.method": call.method,
            "url.scheme": str(call.scope["scheme"]),
        }
        with self._tracer.start_as_current_span(
            call.method,
            extract(headers),
            SpanKind.SERVER,
            known,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                if call.operation:
                    span.update_name(f"{call.method} {call.operation}")
                known |= {"mrlstore.api": call.api, "mrlstore.operation": call.operation or "none"}
                if call.status:
                    known["http.response.status_code"] = call.status
                if call.status >= 500 or not call.status:
                    known["error.type"] = str(call.status or "no answer")
                    span.set_status(StatusCode.ERROR)
                span.set_attributes(known)
                self._duration.record(call.seconds, known)
