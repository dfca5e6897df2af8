"""What a server counts, for Prometheus. With several worker processes each answers for all of them.

The processes share the figures through files in the folder that PROMETHEUS_MULTIPROC_DIR names, which has to
be set before prometheus_client is imported; `workers` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from mrlstore.errors import MrlStoreError
from mrlstore.server.cluster_metrics import ClusterGauges
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexRoot, ServedIndex
from mrlstore.server.refusals import HttpRefusal
from mrlstore.server.served_cluster import cluster_of

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_BUCKETS_S: Final = (5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
_STAGE_BUCKETS_S: Final = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 10)

_REGISTRY: Final = CollectorRegistry()
_REQUESTS: Final = Counter(
    "mrlstore_requests", "Requests that were answered.", ("api", "operation", "status"), registry=_REGISTRY
)
_SECONDS: Final = Histogram(
    "mrlstore_request_seconds",
    "How long requests took, from their headers to the end of the answer.",
    ("api", "operation"),
    buckets=_BUCKETS_S,
    registry=_REGISTRY,
)
_STAGES: Final = Histogram(
    "mrlstore_stage_seconds",
    "How long the stages of requests took: the body to be received, the store's work with its JSON.",
    ("operation", "stage"),
    buckets=_STAGE_BUCKETS_S,
    registry=_REGISTRY,
)
_BYTES: Final = Counter("mrlstore_bytes", "Bytes of bodies.", ("direction",), registry=_REGISTRY)


_IN: Final = _BYTES.labels("in")
_OUT: Final = _BYTES.labels("out")


# `labels` takes some 4 us; there are few combinations, all of this program's own words
_requests_of: Final = lru_cache(2_000)(_REQUESTS.labels)
_seconds_of: Final = lru_cache(2_000)(_SECONDS.labels)
_stage_of: Final = lru_cache(2_000)(_STAGES.labels)


def count(call: HttpCall) -> None:
    """Count an answered request."""
    api, operation = call.api or "none", call.operation or "none"
    _requests_of(api, operation, call.status).inc()
    _seconds_of(api, operation).observe(call.seconds)
    for stage, seconds in call.stages:
        _stage_of(operation, stage).observe(seconds)
    _IN.inc(call.bytes_in)
    _OUT.inc(call.bytes_out)


def text(root: IndexRoot) -> bytes:
    """Everything in Prometheus' text format: what was counted, and the state of each store now."""
    registry = _REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        collect: Any = MultiProcessCollector  # prometheus_client has no type hint for it
        collect(registry)
    stores = CollectorRegistry()
    stores.register(_Stores(root))
    return bytes(generate_latest(registry)) + bytes(generate_latest(stores))


class _Stores:
    """The state of each store as gauges."""

    def __init__(self, root: IndexRoot) -> None:
        self._root = root

    def collect(self) -> Iterator[GaugeMetricFamily]:
        names = (
            ("rows", "Rows."),
            ("dead_rows", "Replaced or deleted rows that segments still hold."),
            ("tail_rows", "Rows that are not in a segment yet."),
            ("segments", "Segments."),
            ("damaged_parts", "Parts that are damaged: above 0, run verify and repair."),
            ("bytes_on_disk", "Bytes on disk."),
            ("generation", "The generation, which rises by one with each commit."),
        )
        gauges = {
            name: GaugeMetricFamily(f"mrlstore_{name}", help, labels=("index",)) for name, help in names
        }
        recall = GaugeMetricFamily(
            "mrlstore_audited_recall",
            "Recall of live queries by this process's audit.",
            labels=("index", "k"),
        )
        clusters = ClusterGauges()
        for index in self._root.names():
            with suppress(HttpRefusal, MrlStoreError, OSError):  # deleted meanwhile, or damaged: no figures
                stats = self._root.run(index, lambda served: served.store.stats())
                for name, gauge in gauges.items():
                    gauge.add_metric((index,), getattr(stats, name))
                for audit in stats.audit:
                    if audit.recall is not None:
                        recall.add_metric((index, str(audit.k)), audit.recall)
                self._root.run(index, lambda served: _add_cluster(clusters, served))
        yield from (*gauges.values(), recall, *clusters.families())


def _add_cluster(clusters: ClusterGauges, index: ServedIndex) -> None:
    served = cluster_of(index.store)
    if served is not None:
        clusters.add(index.name, served.sharded)
