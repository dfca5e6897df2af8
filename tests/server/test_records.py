"""Records: texts that the server embeds, by a local model or by Gemini, and searches by a text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

import mrlstore
from mrlstore.embedders import LocalEmbedder
from mrlstore.server import ServerConfig, text_models

SUBJECTS = ("tides", "volcanoes", "poetry", "engines", "bridges", "bees")
WORDS = (
    "the moon pulls the ocean water and the sea rises at the coast",
    "magma rises under the mountain and lava and ash erupt",
    "verses rhyme and the poet writes a sonnet about love",
    "pistons burn fuel and the motor turns the shaft",
    "arches and cables carry the road over the river",
    "honey is made in the hive by workers around the queen",
)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def create(client: TestClient, **embed: Any) -> dict[str, Any]:
    model = {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}, **embed}
    body = {"name": "notes", "cloud": "aws", "region": "us-east-1", "embed": model}
    answer = client.post("/indexes/create-for-model", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def upsert(client: TestClient, records: list[dict[str, Any]], namespace: str = "ns1") -> Any:
    content = "\n".join(json.dumps(record) for record in records)
    return client.post(f"/i/notes/records/namespaces/{namespace}/upsert", content=content)


def search(client: TestClient, namespace: str = "ns1", **body: Any) -> Any:
    return client.post(f"/i/notes/records/namespaces/{namespace}/search", json=body)


def records(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "_id": f"{SUBJECTS[n % 6]}-{n}",
            "chunk_text": f"{SUBJECTS[n % 6]}: " + " ".join(rng.permutation(WORDS[n % 6].split())) + f" n{n}",
            "year": 2000 + n % 20,
        }
        for n in range(count)
    ]


def test_few_texts_are_found_by_their_words(client: TestClient) -> None:
    model = create(client)
    assert (model["embed"]["model"], model["dimension"]) == ("multilingual-e5-large", 1024)
    assert upsert(client, records(12)).status_code == 201
    answer = search(
        client, query={"inputs": {"text": "honey of the queen"}, "top_k": 2}, fields=["chunk_text"]
    )
    hits = answer.json()["result"]["hits"]
    assert [hit["_id"].partition("-")[0] for hit in hits] == ["bees", "bees"]
    assert list(hits[0]["fields"]) == ["chunk_text"] and hits[0]["fields"]["chunk_text"].startswith("bees:")


def test_many_texts_get_a_model_and_earlier_ones_their_vectors(
    client: TestClient, config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_models, "FEW_TEXTS", 80)
    create(client)
    every = records(100)
    for start in (0, 40):
        assert not (config.root / "notes.lsa.npz").exists()
        assert upsert(client, every[start : start + 40]).status_code == 201
    assert upsert(client, every[80:]).status_code == 201
    assert isinstance(LocalEmbedder.load(config.root / "notes.lsa.npz"), LocalEmbedder)
    with mrlstore.open(config.root / "notes.mrl", mode="r") as store:
        assert store.count(namespace="ns1") == len(every) and store.stats().rows_without_vector == 0
    assert client.get("/indexes/notes").json()["dimension"] < 1024
    query = {
        "inputs": {"text": "why does water rise at the coast"},
        "top_k": 3,
        "filter": {"year": {"$gte": 2010}},
    }
    hits = search(client, query=query).json()["result"]["hits"]
    assert (
        all(hit["_id"].startswith("tides") and hit["fields"]["year"] >= 2010 for hit in hits)
        and len(hits) == 3
    )
    same = search(client, query={"id": "bees-5", "top_k": 1}).json()["result"]["hits"]
    assert same[0]["_id"].startswith("bees") and same[0]["_score"] > 0.99
    assert upsert(client, [{"_id": "new", "chunk_text": "xylophone"}]).status_code == 201  # an unknown word
    found = search(client, query={"inputs": {"text": "xylophone"}, "top_k": 1}).json()["result"]["hits"]
    assert found[0]["_id"] == "new"
    assert client.delete("/indexes/notes").status_code == 202
    assert not (config.root / "notes.lsa.npz").exists()


class Counting:
    """An embedder that counts what it embeds."""

    fingerprint = {"embedder": "gemini", "model": "stands for it", "dim": 4, "task": "retrieval documents"}

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_documents(self, contents: Any) -> NDArray[np.float32]:
        self.texts += contents
        return np.stack([self.embed_query(text) for text in contents])

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        return np.array([content.count(letter) + 0.1 for letter in "abcd"], dtype=np.float32)


def test_a_text_that_is_stored_is_not_embedded_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Counting()
    monkeypatch.setenv("GEMINI_API_KEY", "key")
    monkeypatch.setattr(text_models, "gemini_of", lambda recorded: embedder)
    assert create(client, dimension=4)["dimension"] == 4
    rows: list[dict[str, Any]]
    rows = [{"_id": "x", "chunk_text": "aab", "old": 1}, {"id": "y", "chunk_text": "ccd"}]
    assert upsert(client, rows).status_code == 201
    assert (
        upsert(
            client, [{"_id": "x", "chunk_text": "aab", "new": 2}, {"_id": "y", "chunk_text": "dd"}]
        ).status_code
        == 201
    )
    assert embedder.texts == ["aab", "ccd", "dd"]
    hits = search(client, query={"inputs": {"text": "aa"}, "top_k": 1}).json()["result"]["hits"]
    assert (hits[0]["_id"], hits[0]["fields"]) == ("x", {"new": 2, "chunk_text": "aab"})
    vector = {"values": [0.1, 0.1, 0.1, 2.1]}
    assert search(client, query={"vector": vector, "top_k": 1}).json()["result"]["hits"][0]["_id"] == "y"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": {"inputs": {"text": "a"}, "top_k": 1}, "rerank": {"model": "x"}}, "rerank"),
        ({"query": {"inputs": {"text": "a"}, "top_k": 0}}, "top_k"),
        ({"query": {"inputs": {"text": "a"}, "id": "b", "top_k": 1}}, "exactly one"),
        ({"query": {"inputs": {}, "top_k": 1}}, "inputs"),
        ({"query": {"inputs": {"text": "a"}, "top_k": 1}, "fields": "x"}, "fields"),
        ({}, "query"),
    ],
)
def test_wrong_searches_are_refused(client: TestClient, body: dict[str, Any], message: str) -> None:
    create(client)
    answer = search(client, **body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "a"}', "chunk_text"),
        ('{"chunk_text": "x"}', "give _id"),
        ('{"_id": "a", "id": "b", "chunk_text": "x"}', "give _id"),
        ('{"_id": 1, "chunk_text": "x"}', "expected a string"),
        ("[]", "expected an object"),
        ("{", "not JSON"),
        ("", "1 to"),
    ],
)
def test_wrong_records_are_refused_and_nothing_is_stored(client: TestClient, line: str, message: str) -> None:
    create(client)
    content = '{"_id": "good", "chunk_text": "x"}\n' * bool(line) + line
    answer = client.post("/i/notes/records/namespaces/ns1/upsert", content=content)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]
    assert client.post("/i/notes/describe_index_stats", json={}).json()["totalVectorCount"] == 0


def test_an_index_of_vectors_has_no_texts(client: TestClient) -> None:
    client.post("/indexes", json={"name": "notes", "dimension": 4})
    assert upsert(client, [{"_id": "a", "text": "x"}]).status_code == 400
    answer = search(client, query={"inputs": {"text": "a"}, "top_k": 1})
    assert (
        answer.status_code == 400 and "the index has no model that embeds them; send vectors" in answer.text
    )


def test_a_store_that_was_filled_by_commands_is_searched_by_texts(
    client: TestClient, config: ServerConfig
) -> None:
    texts = [record["chunk_text"] for record in records(60)]
    model = LocalEmbedder.fit(texts, dim=32)
    model.save(config.root / "notes.lsa.npz")
    with mrlstore.open(config.root / "notes.mrl", embedder=model) as store:
        store.add(texts, [f"r{n}" for n in range(60)])
    answer = search(client, "__default__", query={"inputs": {"text": "lava and ash"}, "top_k": 1})
    assert answer.json()["result"]["hits"][0]["fields"]["text"].startswith("volcanoes")
