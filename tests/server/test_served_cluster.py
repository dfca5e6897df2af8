"""A cluster in the folder of the server is an index like the stores beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mrlstore import cluster
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.indexes import IndexRoot
from mrlstore.server.refusals import HttpRefusal

ROWS = [{"id": f"r{n}", "values": [1, n, 2, 4], "metadata": {"n": n}} for n in range(9)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[TestClient]:
    cluster.create(tmp_path / "home", dim=4, shards=2, m=4, ef_construction=20)
    root = tmp_path / "stores"
    root.mkdir()
    where = {"home": str(tmp_path / "home"), "folder": str(tmp_path / "copies"), "poll_s": 0}
    (root / "papers.cluster.json").write_text(json.dumps(where))
    with TestClient(create_app(ServerConfig(root)), base_url="http://localhost:5080") as made:
        yield made


def post(client: TestClient, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_pinecones_api(served: TestClient, tmp_path: Path) -> None:
    assert post(served, "/i/papers/vectors/upsert", {"vectors": ROWS}) == {"upsertedCount": 9}
    asked = {"topK": 2, "vector": [1, 3, 2, 4], "includeMetadata": True, "includeValues": True}
    found = post(served, "/i/papers/query", asked)["matches"]
    assert found[0]["id"] == "r3" and found[0]["metadata"] == {"n": 3}
    assert post(served, "/i/papers/query", {**asked, "filter": {"n": {"$gt": 6}}})["matches"][0]["id"] == "r7"
    assert post(served, "/i/papers/describe_index_stats", {})["totalVectorCount"] == 9
    assert [one["name"] for one in served.get("/indexes").json()["indexes"]] == ["papers"]
    listed = served.get("/i/papers/vectors/list?limit=4").json()
    assert len(listed["vectors"]) == 4
    post(served, "/i/papers/vectors/delete", {"ids": ["r0"]})
    with cluster.connect(tmp_path / "home", mode="r") as reader:
        assert reader.count() == 8


def test_the_own_api_and_the_figures(served: TestClient) -> None:
    given = {"ids": ["a", "b"], "vectors": [[1, 0, 0, 0], [0, 1, 0, 0]], "documents": ["one", "two"]}
    post(served, "/v1/indexes/papers/upsert", given)
    found = post(served, "/v1/indexes/papers/query", {"vector": [1, 0.1, 0, 0], "k": 1})
    assert found["hits"][0]["id"] == "a"
    assert post(served, "/v1/indexes/papers/count", {})["count"] == 2
    described = served.get("/v1/indexes/papers").json()
    assert (described["dim"], described["rows"]) == (4, 2)
    for call in ("stats", "settings", "verify", "optimize"):
        assert served.post(f"/v1/indexes/papers/{call}", json={}).status_code < 300, call
    refused = served.post("/v1/indexes/papers/set_prefix_dim", json={"prefix_dim": 2})
    assert refused.status_code >= 400 or "not for a cluster" in refused.text
    text = served.get("/metrics").text
    assert 'mrlstore_rows{index="papers"} 2.0' in text
    assert 'mrlstore_shard_place{index="papers",shard="1"}' in text
    assert 'mrlstore_shard_epoch{index="papers",shard="0"} 1.0' in text


def test_it_is_not_deleted_and_a_wrong_file_is_refused(served: TestClient, tmp_path: Path) -> None:
    answer = served.delete("/indexes/papers")
    assert answer.status_code == 403 and "papers.cluster.json" in answer.text
    root = tmp_path / "stores"
    (root / "bad.cluster.json").write_text('{"home": "x", "secret": 1}')
    (root / "none.cluster.json").write_text(json.dumps({"home": str(tmp_path / "nothing")}))
    answer = served.post("/i/bad/query", json={"topK": 1, "vector": [1, 2, 3, 4]})
    assert answer.status_code == 400 and "secret" in answer.text
    with pytest.raises(HttpRefusal), IndexRoot(root).use("none"):
        pass
