"""Qdrant's API: what its client was recorded to send, and what `tests/hosted` does not look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import mrlstore
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_keys import add_key
from mrlstore.server.qdrant.datetimes import time_range
from mrlstore.server.qdrant.filters import filter_of
from mrlstore.server.qdrant.payloads import payload_selector, without
from mrlstore.server.refusals import HttpRefusal
from mrlstore.where import parse
from tests.server.recorded import covers, recorded

CALLS = recorded("qdrant")
UUID = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
ONE = "/qdrant/collections/papers"
COSINE = {"size": 4, "distance": "Cosine"}
NAMED = {"full": COSINE, "small": {"size": 2, "distance": "Cosine"}}
# Calls that are refused, with a word of the message.
REFUSED = {
    "create_collection_named_multi": "sparse",
    "filters_other": "text",
    "query_points_fusion": "fusion",
    "upsert_named": "no vector named",
}
READING = (
    "collection_exists",
    "construct",
    "count",
    "facet",
    "filters",
    "get",
    "list",
    "query",
    "re",
    "scroll",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose collection is filled once, for calls that only read, or are refused."""
    config = ServerConfig(tmp_path_factory.mktemp("qdrant") / "stores")
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        fill(client, COSINE)
        yield client


@pytest.mark.parametrize("recording", CALLS, ids=[each["call"] for each in CALLS])
def test_the_client_gets_what_it_needs(
    kept: TestClient, recording: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    call = recording["call"]
    reads = call.startswith(READING) and "mrl" not in call
    client: TestClient = kept if reads else request.getfixturevalue("client")
    if not reads and not call.startswith("create_collection"):
        fill(client, NAMED if "mrl" in call else COSINE)
    for sent in recording["requests"]:
        answer = send(client, sent["method"], "/qdrant" + sent["target"], sent.get("body"))
        if call in REFUSED and sent["target"] != "/":
            assert answer.status_code == 400
            assert REFUSED[call] in answer.json()["status"]["error"]
        else:
            assert answer.status_code == 200, answer.text
    if call not in REFUSED and "least" in recording:
        covers(answer.json(), recording["least"], call)


def fill(client: TestClient, vectors: Any) -> None:
    assert client.put(ONE, json={"vectors": vectors}).json()["result"] is True
    rows = [[1, 0.5, 0.2, 0.1], [0.5, 0.25, -0.1, 0.1], [0.1, 0.5, 1, 0.3], [1, 0.6, 0.2, 0.1]]
    named = "size" not in vectors
    points = [
        {
            "id": id,
            "vector": {"full": row, "small": row[:2]} if named else row,
            "payload": {"year": 2017 + n, "tag": "a", "doc": "d", "t": [1, 2][:n]},
        }
        for n, (id, row) in enumerate(zip((1, 2, UUID, 3), rows, strict=True))
    ]
    answer = client.put(f"{ONE}/points?wait=true", json={"points": points})
    assert answer.json()["result"]["status"] == "completed", answer.text


def send(client: TestClient, method: str, path: str, body: Any = None) -> Any:
    return client.request(method, path, json=body) if body is not None else client.request(method, path)


def result(client: TestClient, method: str, path: str, body: Any = None) -> Any:
    answer = send(client, method, ONE + path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def error(client: TestClient, method: str, path: str, body: Any = None, status: int = 400) -> str:
    answer = send(client, method, ONE + path, body)
    assert answer.status_code == status, answer.text
    return str(answer.json()["status"]["error"])


def ids(points: list[dict[str, Any]]) -> list[Any]:
    return [point["id"] for point in points]


def test_answers_equal_those_of_the_store(client: TestClient, config: ServerConfig) -> None:
    rng = np.random.default_rng(0)
    rows, question = rng.normal(size=(300, 32)).astype(np.float32), rng.normal(size=32).astype(np.float32)
    client.put(ONE, json={"vectors": {"size": 32, "distance": "Cosine"}})
    batch = {"ids": list(range(300)), "vectors": rows.tolist(), "payloads": [{"n": n} for n in range(300)]}
    result(client, "PUT", "/points", {"batch": batch})
    body = {"query": question.tolist(), "limit": 20, "with_payload": True}
    found = result(client, "POST", "/points/query", body)["points"]
    chosen = {"must": [{"has_id": ids(found)}], "must_not": [{"has_id": ids(found)[:3]}]}
    again = result(client, "POST", "/points/query", {**body, "filter": chosen})["points"]
    searched = result(client, "POST", "/points/search", {**body, "vector": body["query"]})
    with mrlstore.open(config.root / "papers.mrl", mode="r") as store:
        expected = store.query(question, 20)
    assert [str(id) for id in ids(found)] == expected.ids
    assert [point["payload"] for point in found] == [hit.metadata for hit in expected]
    assert [point["score"] for point in found] == expected.scores.tolist()
    assert ids(again) == ids(found)[3:] and searched == found
    np.testing.assert_allclose([point["score"] for point in again], expected.scores[3:], atol=1e-6)


def test_what_older_clients_send_is_answered_alike(client: TestClient) -> None:
    fill(client, COSINE)
    like: dict[str, Any] = {"positive": [1], "negative": [UUID]}
    asked = {"query": {"recommend": like}, "limit": 2}
    found = result(client, "POST", "/points/query", asked)["points"]
    assert result(client, "POST", "/points/recommend", {**like, "limit": 2}) == found and len(found) == 2
    searches = [{"vector": [1, 2, 3, 4], "limit": 1}] * 2
    answers = result(client, "POST", "/points/search/batch", {"searches": searches})
    assert answers == [result(client, "POST", "/points/search", searches[0])] * 2
    named = {"vector": {"name": "", "vector": [1, 2, 3, 4]}, "limit": 1}
    assert result(client, "POST", "/points/search", named) == answers[0]
    assert "strategy" in error(client, "POST", "/points/recommend", {**like, "strategy": "best_score"})


def test_a_client_is_told_its_own_version(client: TestClient) -> None:
    for agent, version in (("python-client/1.16.2 python/3.11", "1.16.2"), ("curl", "1.20.0")):
        assert client.get("/qdrant", headers={"user-agent": agent}).json()["version"] == version


def test_ids_keep_their_type_and_others_are_refused(client: TestClient) -> None:
    fill(client, COSINE)
    given = [0, 7, 2**64 - 1, UUID, UUID.replace("-", "").upper()]
    points = [{"id": id, "vector": [1, 2, 3, 4 + n]} for n, id in enumerate(given)]
    result(client, "PUT", "/points", {"points": points})
    assert ids(result(client, "POST", "/points", {"ids": given[:4]})) == given[:4]
    for wrong in (-1, 2**64, 1.5, True, None, "", "7", "doc#1", [1]):
        body = {"points": [{"id": wrong, "vector": [1, 2, 3, 4]}]}
        assert "points[0].id" in error(client, "PUT", "/points", body)
    assert result(client, "POST", "/points/count", {})["count"] == 7


def test_rows_of_other_apis_are_points_and_points_are_rows(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    vector = {"id": "doc#1", "values": [1, 2, 3, 4], "metadata": {"year": 2017}}
    client.post("/i/papers/vectors/upsert", json={"vectors": [vector]})
    assert result(client, "GET", "")["config"]["params"]["vectors"] == COSINE
    result(client, "PUT", "/points", {"points": [{"id": 5, "vector": [4, 3, 2, 1], "payload": {"a": 1}}]})
    assert ids(result(client, "POST", "/points/scroll", {})["points"]) == [5, "doc#1"]
    assert result(client, "GET", "/points/5")["payload"] == {"a": 1}
    assert "/points/6" not in error(client, "GET", "/points/6", status=404)
    fetched = client.get("/i/papers/vectors/fetch?ids=5").json()["vectors"]["5"]
    assert fetched["metadata"] == {"a": 1} and fetched["values"] == pytest.approx([4, 3, 2, 1], rel=1e-3)
    result(client, "POST", "/points/delete", {"points": ["doc#1"]})
    assert result(client, "POST", "/points/count", {})["count"] == 1
    result(client, "POST", "/points/delete", {"filter": {}})
    assert result(client, "POST", "/points/count", {})["count"] == 0


@pytest.mark.parametrize(
    ("distance", "expected", "threshold"),
    [("Dot", [2.0, 1.2], 1.5), ("Euclid", [1.0, 1.6125], 1.2)],
)
def test_dot_and_euclid_of_rows_of_length_one(
    client: TestClient, distance: str, expected: list[float], threshold: float
) -> None:
    client.put(ONE, json={"vectors": {"size": 4, "distance": distance}})
    rows = [[1, 0, 0, 0], [0.6, 0.8, 0, 0]]
    points = [{"id": n, "vector": row} for n, row in enumerate(rows)]
    result(client, "PUT", "/points", {"points": points})
    body: dict[str, Any] = {"query": [2, 0, 0, 0], "limit": 5}
    found = result(client, "POST", "/points/query", body)["points"]
    assert [point["score"] for point in found] == pytest.approx(expected, abs=1e-3)
    found = result(client, "POST", "/points/query", {**body, "score_threshold": threshold})["points"]
    assert ids(found) == [0]
    long = {"points": [{"id": 9, "vector": [2, 0, 0, 0]}]}
    assert "of length 1" in error(client, "PUT", "/points", long)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/points/query", {"query": [1, 2, 3]}, "expected dim: 4, got 3"),
        ("/points/query", {"query": {"fusion": "rrf"}}, "not offered"),
        ("/points/query", {"query": [1, 2, 3, 4], "using": "x"}, "no vector named 'x'"),
        ("/points/query", {"query": [1, 2, 3, 4], "limit": 0}, "limit"),
        ("/points/query", {"query": [1, 2, 3, 4], "limit": 9_000, "offset": 2_000}, "10,000"),
        ("/points/query", {"query": [0, 0, 0, 0]}, "zero"),
        ("/points/query", {"query": [1, 2, 3, 4], "prefetch": {"query": [3, 1], "limit": 5}}, "leading part"),
        ("/points/query", {"query": {"nearest": [[1, 2, 3, 4]]}}, "number"),
        ("/points/query/batch", {"searches": [{"query": 1, "limit": 9_999}] * 11}, "109,989 hits"),
        ("/points/scroll", {"filter": {"must": [{"key": "a", "geo_radius": {}}]}}, "geo_radius"),
        ("/points/scroll", {"filter": {"must": [{"key": "a[].b", "match": {"value": 1}}]}}, "lists"),
        ("/points/scroll", {"filter": {"should": [{"has_id": [1]}]}}, "outermost"),
        ("/points/scroll", {"filter": {"must": [{"key": "a", "values_count": {"gt": 1}}]}}, "values_count"),
        ("/points/scroll", {"filter": {"most": []}}, "'most'"),
        ("/points/scroll", {"filter": {"must": [{"key": "a", "range": {"gt": "soon"}}]}}, "not a time"),
        ("/points/delete", {}, "points or filter"),
        ("/points/payload", {"payload": {"a": 1}, "points": [1], "key": "x"}, "key"),
        ("/points/batch", {"operations": [{"drop": {}}]}, "operations[0]"),
        ("/points/vectors/delete", {"points": [1], "vector": [""]}, "one vector"),
        ("/snapshots", {}, "snapshots"),
    ],
)
def test_what_does_not_map_is_refused_with_words(
    kept: TestClient, path: str, body: dict[str, Any], words: str
) -> None:
    assert words in error(kept, "POST", path, body)
    assert result(kept, "POST", "/points/count", {})["count"] == 4


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (None, "vectors"),
        ({"size": 4, "distance": "Manhattan"}, "distance"),
        ({"size": 1, "distance": "Cosine"}, "size"),
        ({**COSINE, "multivector_config": {"comparator": "max_sim"}}, "several vectors"),
        ({"a": COSINE, "b": COSINE}, "leading parts"),
        ({"a": COSINE, "b": {"size": 2, "distance": "Dot"}}, "leading parts"),
    ],
)
def test_collections_that_are_not_offered(client: TestClient, vectors: Any, words: str) -> None:
    assert words in error(client, "PUT", "", {"vectors": vectors})
    assert client.get(f"{ONE}/exists").json()["result"] == {"exists": False}


def test_the_last_of_several_writes_that_is_wrong_changes_nothing(client: TestClient) -> None:
    fill(client, COSINE)
    good, bad = {"id": 9, "vector": [1, 2, 3, 4]}, {"id": 10, "vector": [1, 2]}
    assert "points[1].vector" in error(client, "PUT", "/points", {"points": [good, bad]})
    assert result(client, "POST", "/points/count", {})["count"] == 4


def test_keys_and_roles_hold(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = {role: add_key(file, role)[0] for role in ("read", "write", "admin")}
    other, _ = add_key(file, "admin", indexes=["notes"])
    spaced, _ = add_key(file, "admin", namespaces=["public"])
    config = ServerConfig(tmp_path / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:

        def status(key: str, method: str, path: str, body: Any = None) -> int:
            sent = client.request(method, ONE + path, json=body, headers={"api-key": key})
            return int(sent.status_code)

        create, point = {"vectors": COSINE}, {"points": [{"id": 1, "vector": [1, 2, 3, 4]}]}
        assert client.get("/qdrant/healthz").status_code == 200
        assert client.get("/qdrant/collections").status_code == 401
        assert [status(keys[role], "PUT", "", create) for role in keys] == [403, 403, 200]
        assert [status(keys[role], "PUT", "/points", point) for role in keys] == [403, 200, 200]
        assert [status(keys[role], "POST", "/points/query", {"query": 1}) for role in keys] == [200] * 3
        assert [status(other, "POST", "/points/count", {}), status(other, "DELETE", "")] == [403, 403]
        for path, body in (("/points/query", {"query": 1}), ("/points/scroll", {}), ("/points/batch", {})):
            assert status(spaced, "POST", path, body) == 403
        assert [status(keys[role], "DELETE", "") for role in keys] == [403, 403, 200]
        names = client.get("/qdrant/collections", headers={"api-key": other}).json()["result"]
        assert names == {"collections": []}


MOMENTS = [
    datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=part)
    for seconds in (-1, 0, 1, 59, 60, 86_399, 86_400)
    for part in (0, 250_000, 123_456)
]


@pytest.fixture(scope="module")
def spelled() -> Iterator[list[tuple[datetime, str]]]:
    """Moments as payloads may have them."""
    found: list[tuple[datetime, str]] = []
    for moment in MOMENTS:
        plain = moment.replace(tzinfo=None)
        texts = [moment.isoformat(), plain.isoformat(), plain.isoformat() + "Z"]
        if not moment.microsecond % 1_000:
            texts.append(plain.isoformat(timespec="milliseconds") + "Z")
        if moment.hour == moment.minute == moment.second == moment.microsecond == 0:
            texts.append(plain.date().isoformat())
        found += [(moment, text) for text in texts]
    yield found


@pytest.mark.parametrize("operator", ["$gt", "$gte", "$lt", "$lte"])
def test_ranges_of_times_in_utc_are_exact(spelled: list[tuple[datetime, str]], operator: str) -> None:
    compare = {
        "$gt": datetime.__gt__, "$gte": datetime.__ge__, "$lt": datetime.__lt__, "$lte": datetime.__le__
    }[operator]  # fmt: skip
    for limit in MOMENTS:
        elsewhere = limit.astimezone(UTC).isoformat().replace("+00:00", "Z")
        node = parse(time_range("t", operator, elsewhere, "range"))
        assert node is not None
        for moment, text in spelled:
            assert node.matches({"t": text}) is compare(moment, limit), (text, operator, elsewhere)
        assert not node.matches({"t": 5}) and not node.matches({})


def test_payloads_are_cut() -> None:
    payload = {"a": {"b": 1, "c": 2}, "d": 3, "e.f": 4}
    assert payload_selector(["a.b", "d", "x", "a.y", "e.f"], True).of(payload) == {
        "a": {"b": 1}, "d": 3, "e.f": 4
    }  # fmt: skip
    assert payload_selector({"exclude": ["a.b", "d"]}, True).of(payload) == {"a": {"c": 2}, "e.f": 4}
    assert without(payload, ["a", "e.f"]) == {"d": 3} and payload["a"] == {"b": 1, "c": 2}


def test_filters_that_nest_too_deep_or_choose_too_much_are_refused() -> None:
    deep: dict[str, Any] = {"must": [{"key": "a", "match": {"value": 1}}]}
    for _ in range(20):
        deep = {"must": [deep]}
    conditions = [{"key": "a", "match": {"value": n}} for n in range(30)]
    for wrong in (deep, {"min_should": {"conditions": conditions, "min_count": 15}}):
        with pytest.raises(HttpRefusal):
            filter_of(wrong)


def test_aliases_move_at_once_and_go_with_their_collection(client: TestClient, config: ServerConfig) -> None:
    def change(*actions: dict[str, Any]) -> int:
        answer = client.post("/qdrant/collections/aliases", json={"actions": list(actions)})
        return int(answer.status_code)

    def create(alias: str, name: str) -> dict[str, Any]:
        return {"create_alias": {"alias_name": alias, "collection_name": name}}

    def count() -> Any:
        return client.post("/qdrant/collections/current/points/count", json={}).json()["result"]["count"]

    fill(client, COSINE)
    client.put("/qdrant/collections/newer", json={"vectors": COSINE})
    assert change(create("current", "papers"), create("other", "newer")) == 200 and count() == 4
    moved = {"delete_alias": {"alias_name": "current"}}
    assert change(moved, create("current", "newer")) == 200 and count() == 0
    assert client.get("/qdrant/collections/current/exists").json()["result"] == {"exists": True}
    assert change({"rename_alias": {"old_alias_name": "other", "new_alias_name": "old"}}) == 200
    for action, status in (
        (create("x", "absent"), 404),
        (create("papers", "newer"), 409),
        ({"delete_alias": {"alias_name": "x"}}, 404),
        (create("x", "papers") | moved, 400),
        ({"create_alias": {"alias_name": "x"}}, 400),
        ({"drop": {}}, 400),
    ):
        assert change(create("y", "papers"), action) == status
    assert client.put("/qdrant/collections/old", json={"vectors": COSINE}).status_code == 409
    listed = client.get("/qdrant/aliases").json()["result"]["aliases"]
    assert [each["alias_name"] for each in listed] == ["current", "old"]
    assert client.get(f"{ONE}/aliases").json()["result"] == {"aliases": []}
    with TestClient(create_app(config), base_url="http://localhost") as another:
        assert another.get("/qdrant/collections/current").status_code == 200
    client.delete("/qdrant/collections/newer")
    assert client.get("/qdrant/aliases").json()["result"] == {"aliases": []}
    assert client.get("/qdrant/collections/current").status_code == 404


def test_aliases_take_the_key_of_an_admin_that_opens_their_collections(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    admin, writer = add_key(file, "admin")[0], add_key(file, "write")[0]
    other, _ = add_key(file, "admin", indexes=["notes", "free"])
    config = ServerConfig(tmp_path / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost") as client:

        def sent(key: str, method: str, path: str, body: Any = None) -> Any:
            return client.request(method, f"/qdrant{path}", json=body, headers={"api-key": key})

        for name in ("papers", "notes"):
            sent(admin, "PUT", f"/collections/{name}", {"vectors": COSINE})
        create = {"create_alias": {"alias_name": "free", "collection_name": "papers"}}
        took = [
            sent(key, "POST", "/collections/aliases", {"actions": [create]}) for key in (writer, other, admin)
        ]
        assert [answer.status_code for answer in took] == [403, 403, 200]
        assert sent(other, "GET", "/collections/free").status_code == 403
        assert sent(other, "GET", "/collections/free/exists").status_code == 403
        assert sent(other, "GET", "/aliases").json()["result"] == {"aliases": []}
        stolen = {"create_alias": {"alias_name": "free", "collection_name": "notes"}}
        assert sent(other, "POST", "/collections/aliases", {"actions": [stolen]}).status_code == 403
        gone = {"delete_alias": {"alias_name": "free"}}
        assert sent(other, "POST", "/collections/aliases", {"actions": [gone]}).status_code == 403
