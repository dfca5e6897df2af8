"""Any JSON in any field and any path: refused or answered, and never a failure of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mrlstore.server import ServerConfig, create_app

STRANGE = ["..", "/", "__default__", "a\0b", "\ud800", "ns1", "a", "é", "*"]
ANY_TEXT = st.text(max_size=8) | st.sampled_from(STRANGE)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
VECTOR = st.lists(st.floats(-10, 10), min_size=4, max_size=4)
CONDITION = st.dictionaries(st.sampled_from(["$gt", "$in", "$ne", "$x"]), ANY_VALUE)
FILTER = st.fixed_dictionaries({"year": CONDITION})
ROW = st.fixed_dictionaries(
    {}, optional={"id": ANY_TEXT, "values": VECTOR | ANY_VALUE, "metadata": ANY_VALUE}
)
NAMES = [
    "name",
    "dimension",
    "metric",
    "spec",
    "schema",
    "deployment",
    "tags",
    "embed",
    "vectors",
    "namespace",
]
NAMES += ["topK", "vector", "id", "filter", "ids", "limit", "deleteAll", "setMetadata", "values", "dryRun"]
NAMES += ["includeValues", "includeMetadata", "paginationToken", "sparseVector", "query", "uri"]
LIKELY = {
    "vectors": st.lists(ROW, max_size=3),
    "vector": VECTOR,
    "filter": FILTER,
    "topK": st.integers(-1, 20000),
}
BODY = st.fixed_dictionaries({}, optional={name: LIKELY.get(name, ANY_VALUE) | ANY_VALUE for name in NAMES})
POSTS = [
    "/indexes",
    "/indexes/create-for-model",
    "/i/papers/query",
    "/i/papers/vectors/upsert",
    "/i/papers/vectors/update",
    "/i/papers/vectors/delete",
    "/i/papers/vectors/fetch_by_metadata",
    "/i/papers/describe_index_stats",
    "/i/papers/namespaces",
    "/i/papers/bulk/imports",
    "/i/papers/records/namespaces/ns1/search",
    "/i/papers/records/namespaces/ns1/upsert",
]
GETS = [
    "/indexes/{}",
    "/i/{}/describe_index_stats",
    "/i/papers/namespaces/{}",
    "/i/papers/namespaces?paginationToken={}",
    "/i/papers/vectors/fetch?ids={}",
    "/i/papers/vectors/list?prefix={}",
    "/i/papers/vectors/list?limit={}",
    "/i/papers/vectors/list?paginationToken={}",
    "/i/papers/vectors/list?namespace={}",
    "/i/papers/bulk/imports/{}",
    "/{}",
]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("fuzz")
    with TestClient(create_app(ServerConfig(folder / "stores")), base_url="http://localhost") as client:
        client.post("/indexes", json={"name": "papers", "dimension": 4})
        yield client
    assert [path.name for path in folder.iterdir()] == ["stores"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.sampled_from(POSTS), body=BODY | ANY_VALUE)
def test_any_body_is_answered_or_refused(attacked: TestClient, path: str, body: Any) -> None:
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    answer = attacked.post(path, content=text)
    assert answer.status_code < 500, (path, text, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.sampled_from(GETS), text=ANY_TEXT, method=st.sampled_from(["GET", "DELETE", "PATCH"]))
def test_any_path_is_answered_or_refused(attacked: TestClient, path: str, text: str, method: str) -> None:
    if path == "/indexes/{}" and text == "papers":
        return
    target = path.format(quote(text.encode("utf-8", "surrogatepass"), safe=""))
    answer = attacked.request(method, target)
    assert answer.status_code < 500, (method, target, answer.text)
