"""The shim's signatures and results side by side with those of the real Pinecone SDK."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pinecone", reason="needs the environment of make test-integrations")

import msgspec
from pinecone import Vector as SdkVector
from pinecone.index import Index as SdkIndex
from pinecone.models.namespaces import models as sdk_namespaces
from pinecone.models.vectors import responses as sdk_responses
from pinecone.models.vectors import vector as sdk_vector

from mrlstore.integrations.pinecone import Index, Vector
from mrlstore.integrations.pinecone import responses as pinecone_responses
from mrlstore.integrations.pinecone.responses import KeyedResponse

METHODS = [name for name, _ in inspect.getmembers(Index, callable) if not name.startswith("_")]
RESULTS = [
    value
    for value in vars(pinecone_responses).values()
    if isinstance(value, type) and issubclass(value, KeyedResponse) and dataclasses.is_dataclass(value)
]
# Of the hosted service: its inference, imports from object storage, and schemas of namespaces.
HOSTED = {
    "cancel_import",
    "create_namespace",
    "describe_import",
    "documents",
    "host",
    "list_imports",
    "list_imports_paginated",
    "query_namespaces",
    "search",
    "search_records",
    "start_import",
    "upsert_records",
}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in parameters]


def theirs(ours: type) -> Any:
    for module in (sdk_vector, sdk_responses, sdk_namespaces):
        if hasattr(module, ours.__name__):
            return getattr(module, ours.__name__)
    raise AssertionError(f"the SDK has no {ours.__name__}")


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_the_sdks_arguments(name: str) -> None:
    assert shape(getattr(Index, name)) == shape(getattr(SdkIndex, name))


def test_every_method_of_the_sdk_is_there_or_named_as_hosted() -> None:
    public = {name for name in vars(SdkIndex) if not name.startswith("_")}
    assert public - HOSTED == set(METHODS)


@pytest.mark.parametrize("result", RESULTS)
def test_results_have_the_sdks_fields(result: type) -> None:
    def default(field: Any, nothing: Any) -> Any:
        if field.default_factory is not nothing:
            return field.default_factory()
        return "required" if field.default is nothing else field.default

    ours = {each.name: default(each, dataclasses.MISSING) for each in dataclasses.fields(result)}
    assert ours == {
        each.name: default(each, msgspec.NODEFAULT) for each in msgspec.structs.fields(theirs(result))
    }


@pytest.mark.parametrize("result", RESULTS)
def test_results_are_read_as_the_sdks_are(result: type) -> None:
    required: dict[str, Any] = {"id": "a", "score": 0.5, "upserted_count": 3}
    names = {each.name for each in dataclasses.fields(result)}
    if result is Vector:
        required["values"] = [1.0]  # the SDK refuses one without
    given = {name: value for name, value in required.items() if name in names}
    ours, sdk = result(**given), theirs(result)(**given)
    assert ours.to_dict() == sdk.to_dict()
    assert list(ours) == list(sdk)
    for name in names:
        assert ours[name] == sdk[name] == ours.get(name) == sdk.get(name) == getattr(ours, name)
        assert name in ours and name in sdk
    assert "other" not in ours and ours.get("other", 7) == sdk.get("other", 7) == 7
    with pytest.raises(KeyError):
        ours["other"]


def test_vectors_of_the_sdk_are_taken(path: Path) -> None:
    with Index(path) as made:
        made.upsert(vectors=[SdkVector("a", [1.0, 2.0], metadata={"n": 1})])
        stored = made.fetch(ids=["a"]).vectors["a"]
        assert (stored.id, stored.metadata) == ("a", {"n": 1})
