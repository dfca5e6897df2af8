"""Chroma's API: what its client was recorded to send, and what `tests/hosted` does not look at."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import mrlstore
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_keys import add_key
from mrlstore.server.chroma.collection_shape import collection_id
from tests.server.recorded import covers, recorded

CALLS = recorded("chroma")
RECORDED_ID = "3f0c8b2e-0000-4000-8000-000000000001"
PLACE = "/api/v2/tenants/default_tenant/databases/default_database"
NAME = f"{PLACE}/collections/papers"
ONE = f"{PLACE}/collections/{collection_id('papers')}"
COSINE = {"hnsw": {"space": "cosine"}}
# Calls that are refused, with a word of the message.
REFUSED = {"modify": "renamed"}
ROWS = {
    "ids": ["a", "b", "c"],
    "embeddings": [[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]],
    "metadatas": [{"year": 2017, "ok": True}, {"year": 2018}, None],
    "documents": ["x", "xy", None],
}


READING = ("construct", "count", "get", "heartbeat", "list", "modify", "peek", "query")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose collection is filled once, for calls that only read, or are refused."""
    config = ServerConfig(tmp_path_factory.mktemp("chroma") / "stores")
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        fill(client)
        yield client


@pytest.mark.parametrize("recording", CALLS, ids=[each["call"] for each in CALLS])
def test_the_client_gets_what_it_needs(
    kept: TestClient, recording: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    call = recording["call"]
    reads = call.startswith(READING)
    client: TestClient = kept if reads else request.getfixturevalue("client")
    if not reads and not call.startswith("create_collection"):
        fill(client)
    for sent in recording["requests"]:
        target = sent["target"].replace(RECORDED_ID, collection_id("papers"))
        answer = send(client, sent["method"], target, sent.get("body"))
        if call in REFUSED:
            assert answer.status_code == 400
            assert REFUSED[call] in answer.json()["message"]
        else:
            assert answer.status_code == 200, answer.text
    if call not in REFUSED and "least" in recording:
        covers(answer.json(), recording["least"], call)


def fill(client: TestClient, configuration: Any = COSINE) -> None:
    body = {"name": "papers", "configuration": configuration}
    assert client.post(f"{PLACE}/collections", json=body).status_code == 200
    answer = client.post(f"{ONE}/add", json=ROWS)
    assert answer.status_code == 200, answer.text


def send(client: TestClient, method: str, path: str, body: Any = None) -> Any:
    return client.request(method, path, json=body) if body is not None else client.request(method, path)


def result(client: TestClient, path: str, body: Any) -> Any:
    answer = client.post(ONE + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_answers_equal_those_of_the_store(client: TestClient, config: ServerConfig) -> None:
    rng = np.random.default_rng(0)
    rows, questions = (rng.normal(size=(n, 32)).astype(np.float32) for n in (300, 2))
    client.post(f"{PLACE}/collections", json={"name": "papers", "configuration": COSINE})
    written = [base64.b64encode(row.tobytes()).decode() for row in rows]
    documents = [f"text {n % 50}" for n in range(300)]
    body = {"ids": [f"{n:03}" for n in range(300)], "embeddings": written, "documents": documents}
    result(client, "/add", body)
    asked = {"query_embeddings": questions.tolist(), "n_results": 20}
    found = result(client, "/query", asked)
    rare = result(client, "/query", {**asked, "where_document": {"$contains": "text 49"}})
    some = result(client, "/query", {**asked, "ids": found["ids"][0][:3]})
    with mrlstore.open(config.root / "papers.mrl", mode="r") as store:
        expected = [store.query(question, 20) for question in questions]
        everything = [store.query(question, 300, include=("document",)) for question in questions]
    assert found["ids"] == [answer.ids for answer in expected]
    for distances, answer in zip(found["distances"], expected, strict=True):
        np.testing.assert_allclose(distances, 1 - answer.scores, atol=1e-6)
    passing = [[hit.id for hit in answer if hit.document == "text 49"] for answer in everything]
    assert rare["ids"] == passing and len(passing[0]) == 6
    assert some["ids"][0] == found["ids"][0][:3] and sorted(some["ids"][1]) == sorted(some["ids"][0])


def test_records_are_rows_of_the_other_apis(client: TestClient) -> None:
    fill(client)
    points = client.post("/qdrant/collections/papers/points/scroll", json={}).json()["result"]["points"]
    assert [point["id"] for point in points] == ["a", "b", "c"]
    client.post("/i/papers/vectors/upsert", json={"vectors": [{"id": "d", "values": [1, 2, 3, 5]}]})
    assert result(client, "/get", {"ids": ["d"], "include": []})["ids"] == ["d"]
    client.post("/indexes", json={"name": "dots", "dimension": 4, "metric": "dotproduct"})
    described = client.get(f"{PLACE}/collections/dots").json()
    assert (described["configuration_json"]["hnsw"]["space"], described["dimension"]) == ("ip", 4)
    names = [each["name"] for each in client.get(f"{PLACE}/collections").json()]
    assert names == ["dots", "papers"]
    assert [each["name"] for each in client.get(f"{PLACE}/collections?limit=1&offset=1").json()] == ["papers"]


def test_uris_are_kept_beside_the_metadata(client: TestClient) -> None:
    fill(client)
    result(client, "/update", {"ids": ["a"], "uris": ["file:x"]})
    row = result(client, "/get", {"ids": ["a"], "include": ["uris", "metadatas"]})
    assert (row["uris"], row["metadatas"]) == (["file:x"], [{"year": 2017, "ok": True}])


def test_a_collection_made_anew_has_its_own_records(client: TestClient) -> None:
    fill(client)
    assert client.delete(NAME).status_code == 200
    assert client.get(f"{ONE}/count").json()["error"] == "NotFoundError"
    client.post(f"{PLACE}/collections", json={"name": "papers", "configuration": COSINE})
    assert client.get(f"{ONE}/count").json() == 0
    assert result(client, "/query", {"query_embeddings": [[1, 2, 3, 4]]})["ids"] == [[]]


def test_modify_keeps_the_space(client: TestClient) -> None:
    fill(client)
    changed = {"new_metadata": {"a": 1}, "new_configuration": {"hnsw": {"ef_search": 50}}}
    assert client.put(ONE, json=changed).status_code == 200
    described = client.get(NAME).json()
    assert described["metadata"] == {"a": 1}
    assert described["configuration_json"]["hnsw"]["ef_search"] == 50
    other = client.put(ONE, json={"new_configuration": {"hnsw": {"space": "l2"}}})
    assert (other.status_code, other.json()["error"]) == (400, "InvalidArgumentError")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/add", {**ROWS, "ids": ["a", "a", "b"]}, "once"),
        ("/add", {**ROWS, "ids": ["a"]}, "embeddings"),
        ("/add", {"ids": ["z"]}, "embeddings"),
        ("/add", {"ids": ["z"], "embeddings": [[1, 2, 3]]}, "dimension 4"),
        ("/add", {"ids": ["z"], "embeddings": ["AAAA"]}, "base64"),
        ("/add", {"ids": ["z"], "embeddings": ["AACAfwAAgD8AAIA/AACAPw=="]}, "finite"),
        ("/add", {"ids": ["z"], "embeddings": ["AACAPwAAgD8="]}, "dimension of 4, got 2"),
        ("/add", {"ids": [""], "embeddings": [[1, 2, 3, 4]]}, "ids"),
        ("/add", {"ids": ["z"], "embeddings": [[1, 2, 3, 4]], "documents": [5]}, "documents"),
        (
            "/upsert",
            {"ids": ["z"], "embeddings": [[1, 2, 3, 4]], "metadatas": [{"s": {"#type": "x"}}]},
            "sparse",
        ),
        ("/query", {"query_embeddings": [[1, 2, 3]]}, "dimension of 4, got 3"),
        ("/query", {"query_embeddings": []}, "query_embeddings"),
        ("/query", {"query_embeddings": [[1, 2, 3, 4]], "n_results": 0}, "n_results"),
        ("/query", {"query_embeddings": [[1, 2, 3, 4]] * 101, "n_results": 1_000}, "101,000 hits"),
        ("/query", {"query_embeddings": [[1, 2, 3, 4]], "include": ["data"]}, "include"),
        ("/get", {"where": {"a": {"$regex": "x"}}}, "$regex"),
        ("/get", {"where": {"a": 1, "b": 2}}, "one key"),
        ("/get", {"where": {"a": {"$gt": "x"}}}, "number"),
        ("/get", {"where": {"a": {"$in": []}}}, "one or more"),
        ("/get", {"where": {"a": None}}, "string, a number"),
        ("/get", {"where": {"$not": {"a": 1}}}, "$not"),
        ("/get", {"where_document": {"$regex": "(a+)+"}}, "$regex"),
        ("/get", {"where_document": {"$contains": ""}}, "text"),
        ("/get", {"limit": -1}, "limit"),
        ("/delete", {}, "ids, where or where_document"),
        ("/search", {}, "search"),
    ],
)
def test_what_is_wrong_or_does_not_map_is_refused_with_words(
    kept: TestClient, path: str, body: dict[str, Any], words: str
) -> None:
    answer = kept.post(ONE + path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidArgumentError")
    assert words in answer.json()["message"]
    assert kept.get(f"{ONE}/count").json() == 3


def test_other_places_and_unknown_collections(client: TestClient) -> None:
    fill(client)
    for path in (
        "/api/v2/tenants/other",
        "/api/v2/tenants/default_tenant/databases/other",
        "/api/v2/tenants/other/databases/default_database/collections",
        f"/api/v2/tenants/other/databases/x/collections/{collection_id('papers')}/count",
        f"{PLACE}/collections/{RECORDED_ID}/count",
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "NotFoundError")
    assert client.get(f"{PLACE}/collections/by-id/{collection_id('papers')}").json()["name"] == "papers"
    for body in ({"name": "x"}, {"name": "a/b"}, {"name": "y", "schema": {}}, {"name": 5}):
        answer = client.post(f"{PLACE}/collections", json={**body, "configuration": {"hnsw": {"space": "x"}}})
        assert answer.status_code == 400


def test_keys_and_roles_hold(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = {role: add_key(file, role)[0] for role in ("read", "write", "admin")}
    other, _ = add_key(file, "admin", indexes=["notes"])
    spaced, _ = add_key(file, "admin", namespaces=["public"])
    config = ServerConfig(tmp_path / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:

        def status(key: str, method: str, path: str, body: Any = None) -> int:
            sent = client.request(method, path, json=body, headers={"x-chroma-token": key})
            return int(sent.status_code)

        create = {"name": "papers", "configuration": COSINE}
        again = {**create, "get_or_create": True}
        asked = {"query_embeddings": [[1, 2, 3, 4]]}
        assert client.get("/api/v2/heartbeat").status_code == 200
        assert client.get("/api/v2/auth/identity").json()["error"] == "AuthError"
        made = [status(keys[role], "POST", f"{PLACE}/collections", create) for role in keys]
        assert made == [403, 403, 200]
        assert [status(keys[role], "POST", f"{PLACE}/collections", again) for role in keys] == [200] * 3
        assert [status(keys[role], "POST", f"{ONE}/add", ROWS) for role in keys] == [403, 200, 200]
        assert [status(keys[role], "POST", f"{ONE}/query", asked) for role in keys] == [200] * 3
        assert [status(keys[role], "PUT", ONE, {}) for role in keys] == [403, 403, 200]
        assert [status(other, "POST", f"{ONE}/get", {}), status(other, "DELETE", NAME)] == [403, 403]
        assert status(other, "POST", f"{PLACE}/collections", again) == 403
        for path, body in (("query", asked), ("get", {}), ("add", ROWS), ("delete", {"ids": ["a"]})):
            assert status(spaced, "POST", f"{ONE}/{path}", body) == 403
        assert client.get(f"{PLACE}/collections", headers={"authorization": f"Bearer {other}"}).json() == []
        assert [status(keys[role], "DELETE", NAME) for role in keys] == [403, 403, 200]


def test_pages_fit_together_also_where_rows_are_written_in_between(client: TestClient) -> None:
    client.post(f"{PLACE}/collections", json={"name": "papers", "configuration": COSINE})
    ids = [f"{n:02}" for n in range(50)]
    metadatas = [{"n": n % 2} for n in range(50)]
    result(client, "/add", {"ids": ids, "embeddings": [[1, 2, 3, 4]] * 50, "metadatas": metadatas})

    def page(offset: int, limit: int | None, **chosen: Any) -> list[str]:
        body = {"offset": offset, "limit": limit, "include": [], **chosen}
        found: list[str] = result(client, "/get", body)["ids"]
        return found

    for chosen, expected in (({}, ids), ({"where": {"n": 1}}, ids[1::2])):
        assert sum((page(start, 7, **chosen) for start in range(0, 56, 7)), []) == expected
        assert page(3, None, **chosen) == expected[3:] and page(99, 5, **chosen) == []
    assert page(0, 7) == ids[:7]
    result(client, "/delete", {"ids": ids[:3]})
    assert page(7, 7) == ids[10:17]
    assert page(2, 2, ids=ids[3:8]) == ids[5:7]
