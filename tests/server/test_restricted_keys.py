"""A key that is limited to an index or a namespace reaches nothing else, by whichever API and detour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_keys import add_key

CHROMA = "/api/v2/tenants/default_tenant/databases/default_database/collections"
POINTS = "/qdrant/collections/secret/points"
VECTOR = [1.0, 2.0, 3.0, 4.0]
COSINE = {"hnsw": {"space": "cosine"}}
_ACTION = "/qdrant/collections/aliases"


class Keys(NamedTuple):
    admin: str
    one_index: str  # an admin's of the index "mine"
    one_namespace: str  # a writer's of its namespace "a"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Keys, str]]:
    """A server with two indexes of three namespaces, an alias and a collection; and that one's UUID."""
    folder = tmp_path_factory.mktemp("restricted")
    file: Path = folder / "keys.json"
    admin, _ = add_key(file, "admin")
    one_index, _ = add_key(file, "admin", indexes=["mine"])
    one_namespace, _ = add_key(file, "write", indexes=["mine"], namespaces=["a"])
    config = ServerConfig(folder / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        may = {"api-key": admin}
        for name in ("mine", "secret"):
            assert client.post("/v1/indexes", json={"name": name, "dim": 4}, headers=may).status_code < 300
            for space in ("", "a", "b"):
                row = {"ids": ["x"], "vectors": [VECTOR], "namespace": space}
                row["metadatas"] = [{"s": f"hidden {name} {space}"}]
                assert client.post(f"/v1/indexes/{name}/upsert", json=row, headers=may).status_code == 200
        made = client.post(CHROMA, json={"name": "other", "configuration": COSINE}, headers=may).json()
        alias = {"create_alias": {"collection_name": "secret", "alias_name": "door"}}
        assert client.post(_ACTION, json={"actions": [alias]}, headers=may).status_code == 200
        yield client, Keys(admin, one_index, one_namespace), made["id"]


def alias(kind: str, **names: str) -> dict[str, Any]:
    return {"actions": [{kind: names}]}


OF_ANOTHER_INDEX: list[tuple[str, str, Any]] = [
    ("POST", "/i/secret/query", {"topK": 1, "vector": VECTOR}),
    ("POST", "/i/secret/query", {"topK": 1, "id": "x"}),
    ("GET", "/i/secret/vectors/fetch?ids=x", None),
    ("GET", "/i/%73ecret/vectors/list", None),
    ("POST", "/i/secret/describe_index_stats", {}),
    ("GET", "/i/secret/namespaces/a", None),
    ("GET", "/indexes/secret", None),
    ("PATCH", "/indexes/secret", {"deletion_protection": "disabled"}),
    ("DELETE", "/indexes/secret", None),
    ("POST", "/v1/indexes/secret/query", {"vector": VECTOR}),
    ("POST", "/v1/indexes/secret/get", {"ids": ["x"]}),
    ("POST", "/v1/indexes/secret/backups", {}),
    ("GET", "/v1/indexes/secret/backups", None),
    ("POST", "/v1/indexes/mine/backups/x/restore", {"index": "another"}),
    ("POST", "/v1/indexes", {"name": "another", "dim": 4}),
    ("POST", f"{POINTS}/query", {"query": VECTOR}),
    ("POST", f"{POINTS}/query/batch", {"searches": [{"query": VECTOR}]}),
    ("POST", f"{POINTS}/recommend", {"positive": [1], "limit": 1}),
    ("POST", f"{POINTS}/scroll", {}),
    ("POST", "/qdrant/collections/secret/facet", {"key": "s"}),
    ("POST", "/qdrant/collections/door/points/query", {"query": VECTOR}),
    ("POST", "/qdrant/collections/door/points/scroll", {}),
    ("GET", "/qdrant/collections/door", None),
    ("POST", _ACTION, alias("create_alias", collection_name="secret", alias_name="mine-2")),
    ("POST", _ACTION, alias("rename_alias", old_alias_name="door", new_alias_name="mine-2")),
    ("POST", _ACTION, alias("delete_alias", alias_name="door")),
    (
        "POST", "/qdrant/collections/mine/points/query",
        {"query": 1, "lookup_from": {"collection": "secret"}},
    ),
    ("POST", f"{CHROMA}/UUID/get", {}),
    ("POST", f"{CHROMA}/UUID/query", {"query_embeddings": [VECTOR], "n_results": 1}),
    ("GET", f"{CHROMA}/UUID/count", None),
    ("GET", f"{CHROMA}/other", None),
    ("DELETE", f"{CHROMA}/other", None),
    ("GET", "/metrics", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), OF_ANOTHER_INDEX)
def test_another_index_is_not_reached(
    keys: tuple[TestClient, Keys, str], method: str, path: str, body: Any
) -> None:
    client, held, uuid = keys
    for key in (held.one_index, held.one_namespace):
        answer = client.request(method, path.replace("UUID", uuid), json=body, headers={"api-key": key})
        assert answer.status_code in (400, 403, 404), answer.text
        assert "hidden" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/i/mine/query", {"topK": 5, "vector": VECTOR}),
        ("POST", "/i/mine/query", {"topK": 5, "vector": VECTOR, "namespace": "__default__"}),
        ("POST", "/i/mine/query", {"topK": 5, "id": "x", "namespace": "b"}),
        ("POST", "/i/mine/records/namespaces/b/search", {"query": {"top_k": 1, "id": "x"}}),
        ("DELETE", "/i/mine/namespaces/b", None),
        ("GET", "/i/mine/namespaces/b", None),
        ("POST", "/v1/indexes/mine/query", {"vector": VECTOR, "namespace": "b"}),
        ("POST", "/v1/indexes/mine/query", {"positive": ["x"], "namespace": "b"}),
        ("POST", "/v1/indexes/mine/query_batch", {"vectors": [VECTOR], "namespace": "b"}),
        ("POST", "/v1/indexes/mine/scan", {"namespace": None}),
        ("POST", "/v1/indexes/mine/count", {"namespace": None}),
        ("POST", "/v1/indexes/mine/sample", {"n": 5, "namespace": None}),
        ("POST", "/v1/indexes/mine/facets", {"field": "s", "namespace": None}),
        ("POST", "/v1/indexes/mine/near_duplicates", {"namespace": None}),
        ("POST", "/v1/indexes/mine/clear", {"namespace": "b"}),
        ("POST", "/v1/indexes/mine/delete", {"ids": ["x"], "namespace": "b"}),
        ("POST", "/v1/indexes/mine/stats", {}),
        ("POST", "/qdrant/collections/mine/points/scroll", {}),
        ("POST", "/qdrant/collections/mine/points/query", {"query": VECTOR}),
        ("PUT", "/qdrant/collections/mine/points", {"points": [{"id": 1, "vector": VECTOR}]}),
    ],
)
def test_another_namespace_is_not_reached(
    keys: tuple[TestClient, Keys, str], method: str, path: str, body: Any
) -> None:
    client, held, _ = keys
    answer = client.request(method, path, json=body, headers={"api-key": held.one_namespace})
    assert answer.status_code in (400, 403, 404), answer.text
    assert "hidden" not in answer.text


@pytest.mark.parametrize(
    "path", ["/indexes", "/v1/indexes", "/qdrant/collections", "/qdrant/aliases", CHROMA]
)
def test_lists_name_no_other_index(keys: tuple[TestClient, Keys, str], path: str) -> None:
    client, held, _ = keys
    answer = client.get(path, headers={"api-key": held.one_index})
    assert answer.status_code == 200
    assert not any(word in answer.text for word in ("secret", "door", "other"))


@pytest.mark.parametrize(
    "path",
    [
        "/console/../v1/indexes",
        "/console/%2e%2e/v1/indexes",
        "/console/../../../../etc/passwd",
        "//v1/indexes",
        "/V1/indexes",
        "/health/../indexes",
        "/qdrant/healthz/../collections",
        "/v1/openapi.json/../indexes",
        "/i/..%2f..%2fetc/query",
        "/indexes/mine%2f..%2fsecret",
    ],
)
def test_no_path_leads_around_the_key(keys: tuple[TestClient, Keys, str], path: str) -> None:
    client, _, _ = keys
    for method in ("GET", "POST"):
        answer = client.request(method, path)
        assert answer.status_code in (400, 401, 403, 404, 405), answer.text
        assert "mine" not in answer.text or answer.status_code == 401
