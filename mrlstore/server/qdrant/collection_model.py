"""A collection as requests create it and as answers describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mrlstore.server.bodies import shown
from mrlstore.server.indexes import IndexFacts, Metric, ServedIndex
from mrlstore.server.qdrant.vector_layout import DETAILS, METRICS
from mrlstore.server.refusals import invalid
from mrlstore.types import LIMITS

_DISTANCES: Final = {metric: name for name, metric in METRICS.items()}
_TUNING: Final = ("hnsw_config", "quantization_config", "on_disk", "datatype")  # described again, and unused
_REFUSED: Final = ("init_from", "sharding_method")
_NAMES: Final = 8


@dataclass(frozen=True)
class WantedCollection:
    """What a request to create a collection says."""

    dim: int
    prefix_dim: int | None  # the length of the longest named part
    facts: IndexFacts


def wanted_collection(body: dict[str, Any]) -> WantedCollection:
    """The collection that a request describes; HttpRefusal (400) for what is not offered."""
    for name in _REFUSED:
        if body.get(name) is not None:
            raise invalid(f"{name} is not offered here")
    if body.get("sparse_vectors"):
        raise invalid("sparse_vectors: sparse vectors are not offered here")
    given = body.get("vectors")
    if not isinstance(given, dict) or not given:
        raise invalid(f"vectors: expected size and distance of one vector, got {shown(given)}")
    if "size" in given:
        spec = _spec(given, "vectors")
        return _wanted(spec["size"], None, METRICS[spec["distance"]], spec)
    if len(given) > _NAMES:
        raise invalid(f"vectors: {len(given)} vectors; at most {_NAMES} are offered here")
    specs = {name: _spec(each, f"vectors.{name:.60}") for name, each in given.items()}
    metrics = {METRICS[spec["distance"]] for spec in specs.values()}
    sizes = sorted(spec["size"] for spec in specs.values())
    if len(specs) > 1 and (metrics != {"cosine"} or len(set(sizes)) < len(sizes)):
        raise invalid(
            "vectors: several vectors are offered here as leading parts of the longest one, by Cosine and "
            "each of another size; other vectors go into collections of their own"
        )
    return _wanted(sizes[-1], sizes[-2] if len(sizes) > 1 else None, metrics.pop(), specs)


def _wanted(dim: int, prefix_dim: int | None, metric: Metric, vectors: dict[str, Any]) -> WantedCollection:
    facts = IndexFacts(metric, details={DETAILS: {"vectors": vectors, "payload_indexes": {}}})
    return WantedCollection(dim, prefix_dim, facts)


def _spec(given: object, place: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise invalid(f"{place}: expected an object with size and distance, got {shown(given)}")
    if given.get("multivector_config") is not None:
        raise invalid(f"{place}: several vectors for one point are not offered here")
    size, distance = given.get("size"), given.get("distance")
    if type(size) is not int or not LIMITS.min_dim <= size <= LIMITS.max_dim:
        raise invalid(
            f"{place}.size: expected {LIMITS.min_dim} to {LIMITS.max_dim:,} here, got {shown(size)}"
        )
    if not isinstance(distance, str) or distance not in METRICS:
        raise invalid(f"{place}.distance: expected one of {', '.join(METRICS)} here, got {shown(distance)}")
    kept = {name: given[name] for name in _TUNING if given.get(name) is not None}
    return {"size": size, "distance": distance, **kept}


def collection_info(index: ServedIndex) -> dict[str, Any]:
    """The description of a collection, with the fields that the clients need."""
    stats, settings, facts = index.store.stats(), index.store.settings, index.facts
    known = facts.details.get(DETAILS, {})
    vectors = known.get("vectors")
    if vectors is None:
        size = index.store.dim
        vectors = {} if size is None else {"size": size, "distance": _DISTANCES[facts.metric]}
    schema = {
        field: {"data_type": kind, "points": stats.rows}
        for field, kind in known.get("payload_indexes", {}).items()
    }
    params = {
        "vectors": vectors,
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    }
    hnsw = {
        "m": settings.m,
        "ef_construct": settings.ef_construction,
        "full_scan_threshold": 10_000,
        "max_indexing_threads": 0,
        "on_disk": True,
    }
    optimizer = {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1_000,
        "default_segment_number": 0,
        "flush_interval_sec": 5,
    }
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": stats.indexed_rows,
        "points_count": index.store.count(),
        "segments_count": stats.segments,
        "config": {
            "params": params,
            "hnsw_config": hnsw,
            "optimizer_config": optimizer,
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": None,
        },
        "payload_schema": schema,
    }
