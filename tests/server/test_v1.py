"""The server's own API: its routes against their description, keys, jobs, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route
from starlette.testclient import TestClient

import mrlstore
from mrlstore import Progress, Store
from mrlstore.embedders import LocalEmbedder
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_keys import Role, add_key
from mrlstore.server.http_call import KEY, Disconnected, HttpCall
from mrlstore.server.indexes import IndexRoot
from mrlstore.server.operations import Serving
from mrlstore.server.refusals import HttpRefusal
from mrlstore.server.v1 import api_family, openapi
from mrlstore.server.v1.jobs import JobEndpoint
from mrlstore.server.v1.store_calls import CALLS

PAPERS = "/v1/indexes/papers"
DESCRIPTION = openapi.description()
ROWS = {
    "ids": ["a", "b", "c"],
    "vectors": [[1, 2, 3, 4], [4, 3, 2, 1], None],
    "metadatas": [{"x": 1, "g": "u"}, {"x": 2, "g": "v"}, None],
    "documents": ["one red page", "a blue page", "no vector"],
}


@pytest.fixture
def papers(client: TestClient) -> TestClient:
    assert client.post("/v1/indexes", json={"name": "papers", "dim": 4}).status_code == 201
    assert client.post(f"{PAPERS}/upsert", json=ROWS).json() == {"count": 3}
    return client


def events(text: str) -> list[tuple[str, Any]]:
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)
    return [(name, json.loads(data)) for name, data in found]


def test_every_route_is_described_and_every_description_has_its_route(config: ServerConfig) -> None:
    serving = Serving(config, IndexRoot(config.root))
    routes = {
        (route.path, method)
        for route in api_family(serving).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    serving.close()
    described = {
        (path, method.upper()) for path, methods in DESCRIPTION["paths"].items() for method in methods
    }
    assert routes == described


def test_every_argument_is_one_of_the_methods_of_a_store() -> None:
    for call in CALLS:
        method = getattr(Store, call.name)
        if isinstance(method, property):
            continue
        known = set(inspect.signature(method).parameters) - {"self", "progress"}
        missing = known - set(call.arguments)
        beyond = {"texts"} if call.name == "upsert" else set()  # embedded by the server
        assert set(call.arguments) <= known | beyond, call.name
        assert missing <= {"content"}, f"{call.name} lacks {missing}"  # media go by vectors


def test_the_description_is_served_without_a_key(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "read")
    config = ServerConfig(tmp_path / "stores", api_keys=tmp_path / "keys.json")
    with TestClient(create_app(config), base_url="http://localhost") as client:
        answer = client.get("/v1/openapi.json")
        assert answer.json() == json.loads(json.dumps(DESCRIPTION))
        assert client.get("/v1/me").status_code == 401


# A call of each operation, whose answer must be as described.
CALLS_MADE: list[tuple[str, str, Any]] = [
    ("GET", "/v1/me", None),
    ("GET", "/v1/indexes", None),
    ("GET", PAPERS, None),
    ("POST", f"{PAPERS}/query", {"vector": [1, 2, 3, 4], "explain": True, "where": {"x": {"$gt": 0}}}),
    (
        "POST",
        f"{PAPERS}/query",
        {"keywords": "red", "vector": [1, 1, 1, 1], "include": ["document", "vector"]},
    ),
    ("POST", f"{PAPERS}/query", {"vector": [1, 2, 3, 4], "group_by": "g"}),
    ("POST", f"{PAPERS}/query_batch", {"vectors": [[1, 2, 3, 4]] * 2, "k": 1}),
    ("POST", f"{PAPERS}/upsert", {"ids": ["d"]}),
    ("POST", f"{PAPERS}/update", {"where": {"x": 1}, "metadatas": {"y": 2}}),
    ("POST", f"{PAPERS}/delete", {"ids": ["d"]}),
    ("POST", f"{PAPERS}/clear", {"namespace": "none"}),
    ("POST", f"{PAPERS}/get", {"ids": ["a"], "include": ["vector", "metadata"]}),
    ("POST", f"{PAPERS}/scan", {"limit": 1}),
    ("POST", f"{PAPERS}/count", {}),
    ("POST", f"{PAPERS}/namespaces", {}),
    ("POST", f"{PAPERS}/facets", {"field": "x"}),
    ("POST", f"{PAPERS}/sample", {"n": 2, "seed": 1}),
    ("POST", f"{PAPERS}/duplicates", {"above": 0.1, "include": ["metadata", "vector"]}),
    ("POST", f"{PAPERS}/settings", {}),
    ("POST", f"{PAPERS}/stats", {}),
    ("POST", f"{PAPERS}/warm", {}),
    ("POST", f"{PAPERS}/audit", {"rate": 0.5}),
    ("POST", f"{PAPERS}/drop_questions", {}),
    ("POST", f"{PAPERS}/optimize", {}),
    ("POST", f"{PAPERS}/verify", {}),
    ("POST", f"{PAPERS}/repair", {}),
    ("POST", f"{PAPERS}/set_prefix_dim", {"prefix_dim": 2}),
    ("POST", f"{PAPERS}/set_graph", {"graph": "mrlstore"}),
    ("POST", f"{PAPERS}/backups", {"name": "one"}),
    ("GET", f"{PAPERS}/backups", None),
    ("POST", f"{PAPERS}/backups/one/restore", {"index": "again"}),
    ("DELETE", f"{PAPERS}/backups/one", None),
    ("DELETE", PAPERS, None),
]


def test_answers_are_as_they_are_described(papers: TestClient) -> None:
    for method, path, body in CALLS_MADE:
        answer = papers.request(method, path, json=body)
        pattern = path.replace("papers", "{index}").replace("/one", "/{name}")
        operation = DESCRIPTION["paths"][pattern][method.lower()]
        content = operation["responses"][str(answer.status_code)]["content"]
        ((kind, described),) = content.items()
        assert answer.headers["content-type"] == kind, path
        if kind == "application/json":
            assert faults(answer.json(), described["schema"]) == [], path
        else:
            *_, (last, value) = events(answer.text)
            assert last == "result", (path, value)
            result = described["x-event-data"]["anyOf"][1]
            assert faults(value, result) == [], path


def faults(value: Any, schema: Any, place: str = "$") -> list[str]:
    """What of a value is not as a schema says, for the words of JSON Schema that the description uses."""
    if "$ref" in schema:
        return faults(value, DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]], place)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            every = [faults(value, each, place) for each in schema[word]]
            return [] if [] in every else every[0]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is not in {schema['enum']}"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(KINDS[kind](value) for kind in kinds):
        return [f"{place}: {value!r} is no {kinds}"]
    found: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{place}: lacks {name}" for name in schema.get("required", []) if name not in value]
        other = schema.get("additionalProperties", {})
        if known and not other:
            found += [f"{place}: {name} is not described" for name in value if name not in known]
        for name, inner in value.items():
            found += faults(inner, known.get(name, other or {}), f"{place}.{name}")
    if isinstance(value, list):
        firsts = schema.get("prefixItems", [])
        for at, inner in enumerate(value):
            each = firsts[at] if at < len(firsts) else schema.get("items", {})
            found += faults(inner, each, f"{place}[{at}]")
    return found


KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "null": lambda value: value is None,
}


def test_vectors_go_as_base64_both_ways(papers: TestClient) -> None:
    row = np.array([1, 2, 3, 5], dtype="<f4")
    text = base64.b64encode(row.tobytes()).decode()
    answers = [
        papers.post(
            f"{PAPERS}/query?vectors=base64&plan=false", json={"vector": vector, "include": ["vector"]}
        )
        for vector in ([1, 2, 3, 5], {"base64": text}, {"base64": text, "shape": [4]})
    ]
    assert len({answer.text for answer in answers}) == 1
    hit = answers[0].json()["hits"][0]
    assert np.allclose(
        np.frombuffer(base64.b64decode(hit["vector"]["base64"]), "<f4"), [1, 2, 3, 4], rtol=1e-3
    )
    both = {"base64": base64.b64encode(row.tobytes() * 2).decode(), "shape": [2, 4]}
    assert papers.post(f"{PAPERS}/upsert", json={"ids": ["p", "q"], "vectors": both}).json() == {"count": 2}


@pytest.mark.parametrize(
    "vector",
    [
        {"base64": "????"}, {"base64": "AAA="}, {"base64": 3}, {}, "text", 3, [[1, 2, 3, 4]], [1, 2, 3],
        {"base64": "AACAPw==", "shape": [4]}, {"base64": "AACAPw==", "shape": "x"},
        {"base64": "AACAPw==", "shape": [1, 1]}, {"base64": "AACAPw==", "shape": [-1]},
        {"base64": base64.b64encode(np.full(4, np.inf, "<f4").tobytes()).decode()},
    ],
)  # fmt: skip
def test_what_is_no_vector_is_refused(papers: TestClient, vector: Any) -> None:
    for name, body in (("query", {"vector": vector}), ("upsert", {"ids": ["z"], "vectors": [vector]})):
        answer = papers.post(f"{PAPERS}/{name}", json=body)
        assert answer.status_code == 400, answer.text
    assert papers.post(f"{PAPERS}/count", json={}).json() == {"count": 3}


def test_names_that_are_not_known_are_refused(papers: TestClient) -> None:
    for path, body in (
        ("query", {"vector": [1, 2, 3, 4], "topK": 3}), ("optimize", {"progress": 1}), ("audit", {"x": 1}),
        ("get", {"id": "a"}), ("query_batch", {}), ("scan", {"limit": 0}), ("scan", {"limit": 10_001}),
    ):  # fmt: skip
        answer = papers.post(f"{PAPERS}/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGUMENT"), path
    for parameters in ("?vectors=int8", "?plan=maybe"):
        assert papers.post(f"{PAPERS}/query{parameters}", json={"vector": [1, 2, 3, 4]}).status_code == 400
    assert papers.post("/v1/indexes", json={"name": "x", "metric": "cosine"}).status_code == 400
    for name in ("../x", ".x", "", 3, None):
        assert papers.post("/v1/indexes", json={"name": name}).status_code == 400


def test_whole_numbers_of_any_size_are_kept(papers: TestClient) -> None:
    big = 2**90 + 1
    papers.post(f"{PAPERS}/upsert", json={"ids": ["big"], "metadatas": [{"n": big}]})
    (record,) = papers.post(f"{PAPERS}/get", json={"ids": ["big"]}).json()["records"]
    assert record["metadata"] == {"n": big}


def test_roles_and_namespaces_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    admin, _ = add_key(file, "admin")
    limited = {role: add_key(file, role.name.lower(), namespaces=["open"])[0] for role in Role}
    whole = {role: add_key(file, role.name.lower(), indexes=["papers"])[0] for role in Role}
    config = ServerConfig(tmp_path / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost") as client:

        def status(key: str, path: str, body: Any) -> int:
            answer: int = client.post(f"/v1{path}", json=body, headers={"Api-Key": key}).status_code
            return answer

        assert status(admin, "/indexes", {"name": "papers", "dim": 4}) == 201
        assert status(admin, "/indexes", {"name": "notes", "dim": 4}) == 201
        for space in ("open", "secret"):
            assert status(admin, "/indexes/papers/upsert", {**ROWS, "namespace": space}) == 200
        for call in CALLS:
            body = {"namespace": "open"} if "namespace" in call.arguments else {}
            for role, key in limited.items():
                if role < call.role or call.whole_store:
                    assert status(key, f"/indexes/papers/{call.name}", body) == 403, call.name
                else:
                    assert status(key, f"/indexes/papers/{call.name}", body) in (200, 400), call.name
                if "namespace" in call.arguments:
                    for other in ("secret", "", None, ["open", "secret"]):
                        asked = {"namespace": other}
                        assert status(key, f"/indexes/papers/{call.name}", asked) == 403, call.name
            for role, key in whole.items():
                if role < call.role:
                    assert status(key, f"/indexes/papers/{call.name}", {}) == 403, call.name
                assert status(key, f"/indexes/notes/{call.name}", {}) == 403, call.name
        assert status(admin, "/indexes/papers/upsert", {**ROWS, "namespace": "open"}) == 200
        headers = {"Api-Key": limited[Role.READ]}
        listed = client.get("/v1/indexes", headers=headers).json()["indexes"]
        assert [index["name"] for index in listed] == ["notes", "papers"] and "rows" not in listed[1]
        seen = client.post("/v1/indexes/papers/namespaces", headers=headers).json()
        assert seen == {"namespaces": {"open": 3}}
        assert client.get("/v1/indexes/papers/backups", headers=headers).status_code == 403
        listed = client.get("/v1/indexes", headers={"Api-Key": whole[Role.READ]}).json()["indexes"]
        assert [index["name"] for index in listed] == ["papers"]


def test_an_audit_is_kept_for_all_processes(tmp_path: Path) -> None:
    config = ServerConfig(tmp_path / "stores")
    with (
        TestClient(create_app(config), base_url="http://localhost") as one,
        TestClient(create_app(config), base_url="http://localhost") as other,
    ):
        one.post("/v1/indexes", json={"name": "papers", "dim": 4})
        one.post(f"{PAPERS}/upsert", json=ROWS)
        assert other.post(f"{PAPERS}/stats").json()["audit"] == []
        assert one.post(f"{PAPERS}/audit", json={"rate": 2}).status_code == 400
        assert one.post(f"{PAPERS}/audit", json={"rate": 1, "cost": 1}).json() is None

        def audited() -> bool:
            other.post(f"{PAPERS}/query", json={"vector": [1, 2, 3, 4]})
            return bool(other.post(f"{PAPERS}/stats").json()["audit"])

        wait_for(audited)


def test_no_answer_tells_a_path_of_the_machine(papers: TestClient, config: ServerConfig) -> None:
    papers.post(f"{PAPERS}/optimize", json={})
    part = next((config.root / "papers.mrl" / "parts").glob("*/*.npy"))
    with open(part, "r+b") as file:  # in place: the server has the file mapped
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    texts = [
        papers.post(f"{PAPERS}/{name}", json={}).text for name in ("verify", "repair", "stats", "settings")
    ]
    assert '"ok":false' in texts[0] and "parts/" in texts[0]
    assert all(str(config.root) not in text for text in texts)


def test_a_job_that_fails_before_it_reports_is_answered_by_its_status(config: ServerConfig) -> None:
    with TestClient(create_app(config), base_url="http://localhost") as client:
        client.post("/v1/indexes", json={"name": "papers", "dim": 4})
        assert client.post("/v1/indexes/nothing/optimize", json={}).status_code == 404
        assert client.post(f"{PAPERS}/calibrate", json={"k": 0}).status_code == 400
        assert client.post(f"{PAPERS}/calibrate", json={"count": 1}).status_code == 400
        assert client.post(f"{PAPERS}/backups/none/restore", json={"index": "x"}).status_code == 404


def test_a_restored_index_has_the_metric_and_the_model_of_the_first(
    config: ServerConfig, client: TestClient
) -> None:
    client.post(
        "/indexes", json={"name": "papers", "dimension": 4, "metric": "dotproduct", "tags": {"a": "b"}}
    )
    (config.root / "papers.lsa.npz").write_bytes(b"a model")
    client.post(f"{PAPERS}/backups", json={"name": "one.mrl"})
    client.delete("/v1/indexes/papers")
    assert client.get(f"{PAPERS}/backups").json()["backups"][0]["name"] == "one.mrl"
    answer = client.post(f"{PAPERS}/backups/one.mrl/restore", json={"index": "again"})
    assert events(answer.text)[-1] == ("result", {"index": "again"})
    described = client.get("/indexes/again").json()
    assert (described["metric"], described["tags"]) == ("dotproduct", {"a": "b"})
    assert (config.root / "again.lsa.npz").read_bytes() == b"a model"
    client.delete(f"{PAPERS}/backups/one.mrl")
    assert list((config.root / ".backups" / "papers").iterdir()) == []


async def test_work_whose_client_has_gone_is_stopped_at_its_next_report(config: ServerConfig) -> None:
    serving, stopped = Serving(config, IndexRoot(config.root)), threading.Event()

    def work(report: Callable[[Progress], None]) -> None:
        try:
            while True:
                report(Progress("step", 1, 2))
                time.sleep(0.01)
        finally:
            stopped.set()

    begun, read = asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        if not read.is_set():
            read.set()
            return {"type": "http.request", "body": b"{}"}
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        begun.set()

    scope: Any = {"type": "http", "method": "POST", "path": "/", "headers": [], "path_params": {}}
    scope[KEY] = HttpCall(scope, receive, send, 1_000)
    endpoint = JobEndpoint(serving, "job", Role.READ, lambda call, body: work)
    with pytest.raises(Disconnected):
        await endpoint(scope, receive, send)
    assert await asyncio.to_thread(stopped.wait, 30)
    serving.close()


def test_a_text_is_embedded_by_what_has_filled_the_index(config: ServerConfig, client: TestClient) -> None:
    texts = [
        f"{color} {thing} number {n}"
        for n in range(4)
        for color in ("red", "blue")
        for thing in ("cat", "car")
    ]
    model = LocalEmbedder.fit(texts, dim=4)
    model.save(config.root / "texts.lsa.npz")
    with mrlstore.open(config.root / "texts.mrl", embedder=model) as store:
        store.add(texts)
        expected = store.query(text="a blue car", k=3).ids
    asked = {"text": "a blue car", "k": 3}
    answer = client.post("/v1/indexes/texts/query", json=asked).json()
    assert [hit["id"] for hit in answer["hits"]] == expected
    for wrong in ({"text": ""}, {"text": 3}, {"text": "qwertyuiop"}, {**asked, "id": expected[0]}):
        assert client.post("/v1/indexes/texts/query", json=wrong).status_code == 400
    client.post("/v1/indexes", json={"name": "papers", "dim": 4})
    assert client.post(f"{PAPERS}/query", json=asked).status_code == 400


def test_texts_of_rows_are_embedded_by_what_has_filled_the_index(
    config: ServerConfig, client: TestClient
) -> None:
    texts = [
        f"{color} {thing} {n}" for n in range(4) for color in ("red", "blue") for thing in ("cat", "car")
    ]
    model = LocalEmbedder.fit(texts, dim=4)
    model.save(config.root / "texts.lsa.npz")
    with mrlstore.open(config.root / "texts.mrl", embedder=model) as store:
        store.add(texts)
        place = "/v1/indexes/texts/upsert"
        rows = {"ids": ["a", "b"], "texts": ["a blue car", "a red cat"]}
        assert client.post(place, json=rows).json() == {"count": 2}
        found = store.get(["a", "b"], include=("document", "vector"))
        assert [row.document for row in found] == rows["texts"]
        for row, vector in zip(found, model.embed_documents(rows["texts"]), strict=True):
            assert row.vector is not None and np.allclose(row.vector, vector, atol=1e-3)
        client.post(place, json={**rows, "documents": ["one", "two"]})
        assert [row.document for row in store.get(["a", "b"])] == ["one", "two"]
        for wrong in (
            {"texts": "a"},
            {"texts": [""]},
            {"texts": ["a car"]},
            {"texts": ["qwertyuiop"] * 2},
            {"vectors": [[1, 2, 3, 4]] * 2},
        ):
            assert client.post(place, json={**rows, **wrong}).status_code == 400, wrong
        assert store.count() == len(texts) + 2
    client.post("/v1/indexes", json={"name": "papers", "dim": 4})
    assert client.post(f"{PAPERS}/upsert", json=rows).status_code == 400


async def test_jobs_beyond_the_threads_are_told_to_wait(config: ServerConfig) -> None:
    serving, go = Serving(config, IndexRoot(config.root)), threading.Event()
    running = [asyncio.create_task(serving.in_job_thread(go.wait)) for _ in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(HttpRefusal) as refused:
        await serving.in_job_thread(go.wait)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
    go.set()
    assert await asyncio.gather(*running) == [True] * 4
    assert await serving.in_job_thread(lambda: 1) == 1
    serving.close()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["a", "vector", "x", "base64"]),
)
NAMES = st.sampled_from(["x", "$gt", "$and", "base64"])
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    config = ServerConfig(tmp_path_factory.mktemp("fuzzed") / "stores")
    with TestClient(create_app(config), base_url="http://localhost", raise_server_exceptions=False) as client:
        client.post("/v1/indexes", json={"name": "papers", "dim": 4})
        client.post(f"{PAPERS}/upsert", json=ROWS)
        yield client


QUICK = [call for call in CALLS if not call.job]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(QUICK), st.data())
def test_whatever_is_sent_is_answered_with_a_clear_status(fuzzed: TestClient, call: Any, data: Any) -> None:
    names = list(call.arguments) or ["none"]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    body = {name: data.draw(JSON_VALUES) for name in chosen}
    answer = fuzzed.post(f"{PAPERS}/{call.name}", json=body)
    assert answer.status_code in (200, 400), (call.name, body, answer.text)
    if answer.status_code == 400:
        assert answer.json()["error"]["message"]


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
