"""Indexes by dot product and by Euclidean distance: exact for rows of length 1, refused for others."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((200, 16))
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
QUESTION = RNG.standard_normal(16) * 3


def fill(client: TestClient, metric: str) -> None:
    assert (
        client.post("/indexes", json={"name": "papers", "dimension": 16, "metric": metric}).status_code == 201
    )
    vectors = [{"id": str(n), "values": row.tolist()} for n, row in enumerate(ROWS)]
    assert client.post("/i/papers/vectors/upsert", json={"vectors": vectors}).status_code == 200


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_scores_and_order_are_those_of_the_metric(client: TestClient, metric: str) -> None:
    fill(client, metric)
    answer = client.post("/i/papers/query", json={"topK": 20, "vector": QUESTION.tolist()}).json()
    found = [(int(match["id"]), match["score"]) for match in answer["matches"]]
    exact = {
        "cosine": ROWS @ QUESTION / np.linalg.norm(QUESTION),
        "dotproduct": ROWS @ QUESTION,
        "euclidean": ((ROWS - QUESTION) ** 2).sum(axis=1),
    }[metric]
    best = np.argsort(exact if metric == "euclidean" else -exact)[:20]
    assert [id for id, _ in found] == best.tolist()
    assert np.allclose([score for _, score in found], exact[best], atol=5e-3)
    assert client.get("/indexes/papers").json()["metric"] == metric


@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
def test_rows_of_another_length_are_refused_and_nothing_is_stored(client: TestClient, metric: str) -> None:
    fill(client, metric)
    vectors = [{"id": "new", "values": ROWS[0].tolist()}, {"id": "long", "values": (ROWS[1] * 1.01).tolist()}]
    answer = client.post("/i/papers/vectors/upsert", json={"vectors": vectors})
    assert answer.status_code == 400 and "vectors[1]: its length is 1.01" in answer.json()["error"]["message"]
    answer = client.post("/i/papers/vectors/update", json={"id": "0", "values": [2.0] * 16})
    assert answer.status_code == 400
    stats = client.post("/i/papers/describe_index_stats", json={}).json()
    assert (stats["totalVectorCount"], stats["metric"]) == (200, metric)


def test_other_metrics_are_refused(client: TestClient) -> None:
    body = {"name": "papers", "dimension": 16, "metric": "manhattan"}
    assert client.post("/indexes", json=body).status_code == 400


@pytest.mark.parametrize(("metric", "score"), [("cosine", 0.0), ("dotproduct", 0.0), ("euclidean", 1.0)])
def test_to_a_question_of_zeros_all_rows_that_match_are_as_near(
    client: TestClient, metric: str, score: float
) -> None:
    fill(client, metric)
    vectors = [{"id": "x", "values": ROWS[0].tolist(), "metadata": {"kind": "x"}}]
    client.post("/i/papers/vectors/upsert", json={"vectors": vectors})
    body = {"topK": 300, "vector": [0.0] * 16, "filter": {"kind": "x"}}
    (match,) = client.post("/i/papers/query", json=body).json()["matches"]
    assert (match["id"], match["score"]) == ("x", score)
    del body["filter"]
    assert len(client.post("/i/papers/query", json=body).json()["matches"]) == 201
    assert client.post("/i/papers/query", json={**body, "vector": [0.0] * 15}).status_code == 400
