"""Recorded requests of Qdrant's and Chroma's clients with something else in one place: never a failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mrlstore.server import ServerConfig, create_app
from mrlstore.server.chroma.collection_shape import collection_id
from tests.server.recorded import recorded
from tests.server.test_fuzz import ANY_VALUE
from tests.server.test_wire import ROWS

RECORDED_ID = "3f0c8b2e-0000-4000-8000-000000000001"
QDRANT = [(each, "/qdrant") for recording in recorded("qdrant") for each in recording["requests"]]
CHROMA = [(each, "") for recording in recorded("chroma") for each in recording["requests"]]
REQUESTS = [
    (request["method"], prefix + request["target"].replace(RECORDED_ID, collection_id("papers")), body)
    for request, prefix in (*QDRANT, *CHROMA)
    if (body := request.get("body")) and request["method"] != "DELETE"
]
Place = tuple[str | int, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Where every value in a body stands."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def replaced(body: Any, place: Place, value: Any) -> Any:
    if not place:
        return value
    changed = deepcopy(body)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("fuzz")
    with TestClient(create_app(ServerConfig(folder / "stores")), base_url="http://localhost") as client:
        client.post("/indexes", json={"name": "papers", "dimension": 4})
        client.post("/i/papers/vectors/upsert", json={"vectors": ROWS})
        yield client
    assert [path.name for path in folder.iterdir()] == ["stores"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_answered_or_refused(attacked: TestClient, data: st.DataObject) -> None:
    method, target, body = data.draw(st.sampled_from(REQUESTS))
    place = data.draw(st.sampled_from(list(places(body))))
    mutated = replaced(body, place, data.draw(ANY_VALUE))
    text = json.dumps(mutated).encode("utf-8", "surrogatepass")
    answer = attacked.request(method, target, content=text)
    assert answer.status_code < 500, (method, target, text, answer.text)
