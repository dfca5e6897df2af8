"""An index as the control plane describes it: one shape that every version of the clients reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, get_args

from mrlstore.server.bodies import shown
from mrlstore.server.indexes import IndexFacts, Metric
from mrlstore.server.refusals import invalid
from mrlstore.server.text_models import LOCAL_DIM, Kind, dim_of_new
from mrlstore.types import LIMITS

_CLOUDS: Final = ("aws", "gcp", "azure")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,43}[a-z0-9])?")
_DETAILS: Final = "pinecone"
_TAGS: Final = 20


@dataclass(frozen=True)
class WantedIndex:
    """What a request to create an index says."""

    name: str
    dim: int | None  # None: a local model decides
    facts: IndexFacts


def wanted_index(body: dict[str, Any]) -> WantedIndex:
    """The index that `create_index` of any version describes; HttpRefusal (400) for what is not offered."""
    vector_type, dim, metric = body.get("vector_type"), body.get("dimension"), body.get("metric")
    cloud, region = _place(body)
    if (schema := body.get("schema")) is not None:
        vector_type, dim, metric = _dense_field(schema)
    if vector_type not in (None, "dense"):
        raise invalid(f"vector_type: {shown(vector_type)} is not offered here; only dense vectors are")
    if type(dim) is not int or not LIMITS.min_dim <= dim <= LIMITS.max_dim:
        raise invalid(f"dimension: expected {LIMITS.min_dim} to {LIMITS.max_dim:,}, got {shown(dim)}")
    facts = IndexFacts(
        checked_metric(metric),
        protection(body),
        tags({}, body.get("tags")),
        {_DETAILS: {"cloud": cloud, "region": region}},
    )
    return WantedIndex(checked_name(body.get("name")), dim, facts)


def wanted_index_for_model(body: dict[str, Any], kind: Kind) -> WantedIndex:
    """The index that `create_index_for_model` describes; `kind` is what embeds its texts here.

    The model that is named is described again and not used.
    """
    embed = body.get("embed")
    if not isinstance(embed, dict):
        raise invalid(f"embed: expected an object, got {shown(embed)}")
    model, field_map, dim = embed.get("model"), embed.get("field_map"), embed.get("dimension")
    if not isinstance(model, str) or not model or len(model) > 200:
        raise invalid(f"embed.model: expected the name of a model, got {shown(model)}")
    field = field_map.get("text") if isinstance(field_map, dict) and list(field_map) == ["text"] else None
    if not isinstance(field, str) or not field or field in ("id", "_id"):
        raise invalid(f'embed.field_map: expected {{"text": FIELD}}, got {shown(field_map)}')
    if dim is not None and type(dim) is not int:
        raise invalid(f"embed.dimension: expected a number, got {shown(dim)}")
    cloud, region = _place({"spec": {"serverless": body}} if "cloud" in body else {})
    details: dict[str, Any] = {"cloud": cloud, "region": region, "embedder": kind}
    details["embed"] = {"model": model, "field_map": {"text": field}}
    metric = checked_metric(embed.get("metric"))
    facts = IndexFacts(metric, protection(body), tags({}, body.get("tags")), {_DETAILS: details})
    return WantedIndex(checked_name(body.get("name")), dim_of_new(kind, dim), facts)


def checked_name(name: object) -> str:
    """A name as the service allows it for new indexes."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid(f"name: expected 1 to 45 lower-case letters, digits and dashes, got {shown(name)}")
    return name


def checked_metric(metric: object) -> Metric:
    """The metric; cosine where none is named."""
    for known in get_args(Metric):
        if metric == known:
            return known  # type: ignore[no-any-return]
    if metric is None:
        return "cosine"
    raise invalid(f"metric: expected one of {', '.join(get_args(Metric))}, got {shown(metric)}")


def protection(body: dict[str, Any], default: bool = False) -> bool:
    """`deletion_protection` of a request."""
    given = body.get("deletion_protection")
    if given is None:
        return default
    if given not in ("enabled", "disabled"):
        raise invalid(f"deletion_protection: expected enabled or disabled, got {shown(given)}")
    return bool(given == "enabled")


def tags(known: dict[str, str], given: object) -> dict[str, str]:
    """Tags after a request: those that are given replace those of the same name, "" removes one."""
    if given is None:
        return known
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise invalid(f"tags: expected an object of strings, got {shown(given)}")
    merged = {name: value for name, value in {**known, **given}.items() if value}
    if len(merged) > _TAGS or any(len(name) > 80 or len(value) > 120 for name, value in merged.items()):
        raise invalid(f"tags: at most {_TAGS}, names of up to 80 characters, values of up to 120")
    return merged


def index_model(name: str, dim: int | None, facts: IndexFacts, host: str) -> dict[str, Any]:
    """The description of an index; `host` is the URL of its data plane, with its scheme."""
    details = facts.details.get(_DETAILS, {})
    if dim is None and details.get("embedder") == "local":
        dim = LOCAL_DIM  # until a model has been fitted: older clients cannot read an index without one
    place = {"cloud": details.get("cloud", "aws"), "region": details.get("region", "us-east-1")}
    capacity = {"mode": "OnDemand", "status": {"state": "Ready"}}
    model = {
        "name": name,
        "dimension": dim,
        "metric": facts.metric,
        "vector_type": "dense",
        "host": host,
        "deletion_protection": "enabled" if facts.protected else "disabled",
        "tags": facts.tags,
        "status": {"ready": True, "state": "Ready"},
        "spec": {"serverless": {**place, "read_capacity": capacity}},
        "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": dim, "metric": facts.metric}}},
        "deployment": {"deployment_type": "managed", "environment": "local", **place},
        "read_capacity": capacity,
    }
    if (embed := details.get("embed")) is not None:
        model["embed"] = {**embed, "metric": facts.metric, "dimension": dim, "vector_type": "dense"}
    return model


def _place(body: dict[str, Any]) -> tuple[str, str]:
    """Cloud and region, which are kept and mean nothing here; those of a pod have other names."""
    spec, deployment = body.get("spec"), body.get("deployment")
    if spec is not None and not isinstance(spec, dict):
        raise invalid(f"spec: expected an object, got {shown(spec)}")
    chosen: object = deployment or (spec or {}).get("serverless") or {}
    if not isinstance(chosen, dict):
        raise invalid(f"spec: expected an object, got {shown(chosen)}")
    cloud, region = chosen.get("cloud", "aws"), chosen.get("region", "us-east-1")
    if cloud not in _CLOUDS:
        raise invalid(f"cloud: expected one of {', '.join(_CLOUDS)}, got {shown(cloud)}")
    if not isinstance(region, str) or not region or len(region) > 100:
        raise invalid(f"region: expected a name, got {shown(region)}")
    return cloud, region


def _dense_field(schema: object) -> tuple[object, object, object]:
    """Type, dimension and metric of the one field of vectors, `_values`, in the API of 2026-07."""
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, dict) or list(fields) != ["_values"] or not isinstance(fields["_values"], dict):
        raise invalid("schema: only one field of dense vectors, named _values, is offered here")
    field = fields["_values"]
    if field.get("type") != "dense_vector":
        raise invalid(
            f"schema: the type {shown(field.get('type'))} is not offered here; only dense_vector is"
        )
    return "dense", field.get("dimension"), field.get("metric")
