"""A collection as requests create it and as answers describe it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from mrlstore.server.bodies import dump, shown
from mrlstore.server.indexes import IndexFacts, Metric
from mrlstore.server.refusals import invalid

DETAILS: Final = "chroma"  # where the facts of an index keep what its creation said
TENANT: Final = "default_tenant"
DATABASE: Final = "default_database"
METRICS: Final[dict[str, Metric]] = {"cosine": "cosine", "l2": "euclidean", "ip": "dotproduct"}
_SPACES: Final = {metric: space for space, metric in METRICS.items()}
_LEGACY_SPACE: Final = "hnsw:space"  # in the metadata, where older code names it
_DETAILS_BYTES: Final = 64 * 1024
_HNSW: Final = {
    "ef_construction": 100,
    "ef_search": 100,
    "max_neighbors": 16,
    "resize_factor": 1.2,
    "sync_threshold": 1_000,
}

Json = dict[str, Any]


def collection_id(name: str) -> str:
    """The UUID of a collection, which follows from its name."""
    return str(uuid5(NAMESPACE_URL, f"mrlstore:{name}"))


def wanted_collection(body: Json) -> IndexFacts:
    """What a request to create a collection says; HttpRefusal (400) for what is not offered."""
    if body.get("schema") is not None:
        raise invalid("schema: not offered here; give a configuration")
    metadata, configuration = _metadata(body.get("metadata")), _configuration(body.get("configuration"))
    chosen = configuration.get("hnsw") or configuration.get("spann") or {}
    space = chosen.get("space") or (metadata or {}).get(_LEGACY_SPACE) or "l2"
    if not isinstance(space, str) or space not in METRICS:
        raise invalid(f"space: expected one of {', '.join(METRICS)}, got {shown(space)}")
    known = {"metadata": metadata, "configuration": configuration}
    return IndexFacts(METRICS[space], details={DETAILS: _checked(known)})


def changed_collection(facts: IndexFacts, body: Json) -> IndexFacts:
    """The facts of a collection after a request to modify it."""
    known = dict(facts.details.get(DETAILS, {}))
    if body.get("new_metadata") is not None:
        known["metadata"] = _metadata(body["new_metadata"])
    if body.get("new_configuration") is not None:
        before, after = known.get("configuration", {}), _configuration(body["new_configuration"])
        hnsw = {**(before.get("hnsw") or {}), **(after.get("hnsw") or after.get("spann") or {})}
        if hnsw.get("space") not in (None, _SPACES[facts.metric]):
            raise invalid("new_configuration: the space of a collection never changes")
        known["configuration"] = {**before, **{k: v for k, v in after.items() if v is not None}, "hnsw": hnsw}
    return replace(facts, details={**facts.details, DETAILS: _checked(known)})


def described(name: str, dim: int | None, facts: IndexFacts) -> Json:
    """A collection as answers have it."""
    known = facts.details.get(DETAILS, {})
    configuration = known.get("configuration", {})
    given = configuration.get("hnsw") or {}
    return {
        "id": collection_id(name),
        "name": name,
        "metadata": known.get("metadata"),
        "dimension": dim,
        "tenant": TENANT,
        "database": DATABASE,
        "version": 0,
        "log_position": 0,
        "configuration_json": {
            "hnsw": {**_HNSW, **given, "space": _SPACES[facts.metric]},
            "spann": None,
            "embedding_function": configuration.get("embedding_function"),
        },
        "schema": None,
    }


def _metadata(given: object) -> Json | None:
    if given is not None and not isinstance(given, dict):
        raise invalid(f"metadata: expected an object, got {shown(given)}")
    return given


def _configuration(given: object) -> Json:
    """The parts of a configuration that are objects."""
    if given is None:
        return {}
    parts = given if isinstance(given, dict) else {"configuration": given}
    wrong = next(
        (name for name, each in parts.items() if each is not None and not isinstance(each, dict)), None
    )
    if wrong is not None:
        raise invalid(f"configuration.{wrong:.60}: expected an object, got {shown(parts[wrong])}")
    return {name: each for name, each in parts.items() if each is not None}


def _checked(known: Json) -> Json:
    if len(dump(known)) > _DETAILS_BYTES:
        raise invalid(f"metadata and configuration: at most {_DETAILS_BYTES:,} bytes")
    return known
