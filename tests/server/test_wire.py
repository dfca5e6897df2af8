"""What ten versions of Pinecone's clients were recorded to send, and the fields that each needs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from mrlstore.server import ServerConfig, create_app
from tests.server.recorded import covers, recorded

CALLS: dict[str, list[dict[str, Any]]] = defaultdict(list)
for each in recorded("pinecone"):
    CALLS[each["call"]].append(each)

CONTROL_PLANE = ("/indexes", "/collections", "/backups", "/restore-jobs", "/embed", "/rerank", "/models")
# Calls that are refused, with a word of the message.
REFUSED = {
    "create_backup": "backups",
    "create_collection": "collections",
    "create_index_from_backup": "backups",
    "create_index_schema_named_v10": "_values",
    "create_index_sparse": "dense",
    "delete_backup": "backups",
    "delete_collection": "collections",
    "describe_backup": "backups",
    "describe_collection": "collections",
    "describe_restore_job": "backups",
    "documents_upsert_v10": "documents",
    "embed": "inference",
    "list_models": "inference",
    "query_sparse": "sparse",
    "rerank": "inference",
    "search_rerank": "rerank",
    "start_import": "imports are off",
    "update_sparse": "sparse",
    "upsert_empty": "one or more",
    "upsert_inf": "",
    "upsert_nan": "",
    "upsert_only_sparse": "sparse",
    "upsert_sparse": "sparse",
}
ROWS = [
    {"id": id, "values": [0.5, 0.25, -0.1, n], "metadata": {"year": 2017, "genre": "x"}}
    for n, id in enumerate(("a", "b", "b/c d&é", "a#1", "a#2", "a#3", "p"))
]


ABSENT = {"cancel_import", "describe_import"}  # of an import that was never begun
WITH_TEXTS = {"upsert_records", "search_records", "search_text"}  # of an index that is created for a model
READING = {"query", "fetch", "list", "describe", "has", "index", "embed", "rerank", "search"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose index is filled once: calls that only read share it."""
    config = ServerConfig(tmp_path_factory.mktemp("wire"))
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        fill(client)
        yield client


@pytest.mark.parametrize("call", CALLS)
def test_every_client_gets_what_it_needs(
    client: TestClient, kept: TestClient, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for recording in CALLS[call]:
        if call in WITH_TEXTS:
            fill_with_texts(client)
        elif call in REFUSED or call.partition("_")[0] in READING:
            client = kept
        elif call.startswith(("create_index", "delete_index")):
            client.delete("/indexes/papers")
        if call.startswith("delete_index"):
            client.post("/indexes", json={"name": "papers", "dimension": 4})
        elif client is not kept and not call.startswith("create_index") and not has_rows(client):
            fill(client)
        for request in recording["requests"]:
            refused = call in REFUSED and request["method"] + request["target"] != "GET/indexes/papers"
            if request["target"] == "/indexes/papers2":
                continue  # of an index that the refused request would have made
            answer = send(client, request)
            if refused:
                assert answer.status_code == 400, (recording["clients"], answer.text)
                assert REFUSED[call] in answer.json()["error"]["message"]
                continue
            expected = 404 if call in ABSENT else request["status"]
            assert answer.status_code == expected, (recording["clients"], answer.text)
        if call not in REFUSED.keys() | ABSENT and "least" in recording and answer.content:
            covers(answer.json(), recording["least"], call)


def has_rows(client: TestClient) -> bool:
    return client.get("/i/papers/namespaces/ns1").status_code == 200


def fill_with_texts(client: TestClient) -> None:
    client.delete("/indexes/papers")
    embed = {"model": "multilingual-e5-large", "field_map": {"text": "text"}}
    assert (
        client.post("/indexes/create-for-model", json={"name": "papers", "embed": embed}).status_code == 201
    )
    content = '{"_id": "a", "text": "what q is", "year": 2017}'
    path = "/i/papers/records/namespaces/ns1/upsert"
    assert client.post(path, content=content).status_code == 201


def fill(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    for namespace in ("", "ns1", "ns2"):
        body = {"vectors": ROWS, "namespace": namespace}
        assert client.post("/i/papers/vectors/upsert", json=body).status_code == 200


def send(client: TestClient, request: dict[str, Any]) -> Any:
    target, body = request["target"], request.get("body")
    path = target if target.startswith(CONTROL_PLANE) else "/i/papers" + target
    token = client.get("/i/papers/vectors/list?limit=1&namespace=ns1")
    if "pagination" in token.json():  # a token of this server in the place of the recorded one
        following = token.json()["pagination"]["next"]
        path = path.replace("paginationToken=t2", f"paginationToken={following}")
        if isinstance(body, dict) and "paginationToken" in body:
            body = {**body, "paginationToken": following}
    content = body if body is None or isinstance(body, str) else json.dumps(body)
    headers = {"content-type": request["type"]} if "type" in request else {}
    return client.request(request["method"], path, content=content, headers=headers)
