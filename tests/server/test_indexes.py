"""Indexes: created, described, deleted and made anew, by this server and by others on the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import mrlstore
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.indexes import IndexFacts, IndexRoot
from mrlstore.server.refusals import HttpRefusal

ROW = {"vectors": [{"id": "a", "values": [1, 2, 3, 4], "metadata": {"year": 2017}}]}
QUESTION = {"topK": 3, "vector": [1, 2, 3, 4], "includeMetadata": True}


def create(client: TestClient, name: str = "papers", **more: Any) -> None:
    answer = client.post("/indexes", json={"name": name, "dimension": 4, **more})
    assert answer.status_code == 201, answer.text


def test_an_index_is_a_store_in_the_folder(client: TestClient, config: ServerConfig) -> None:
    create(client, tags={"team": "a"})
    assert client.post("/i/papers/vectors/upsert", json=ROW).json() == {"upsertedCount": 1}
    with mrlstore.open(config.root / "papers.mrl", mode="r") as store:
        assert store.get(["a"])[0].metadata == {"year": 2017}
    model = client.get("/indexes/papers").json()
    assert (model["host"], model["tags"]) == ("http://localhost:5080/i/papers", {"team": "a"})


def test_a_store_that_was_put_there_is_an_index(client: TestClient, config: ServerConfig) -> None:
    with mrlstore.open(config.root / "Old_Notes.2.mrl") as store:
        store.upsert(["x"], [[0, 1]])
    assert [index["name"] for index in client.get("/indexes").json()["indexes"]] == ["Old_Notes.2"]
    answer = client.post("/i/Old_Notes.2/query", json={"topK": 1, "vector": [0, 1]})
    assert [match["id"] for match in answer.json()["matches"]] == ["x"]


def test_an_index_that_another_process_deletes_is_not_there(client: TestClient, config: ServerConfig) -> None:
    create(client)
    client.post("/i/papers/vectors/upsert", json=ROW)
    IndexRoot(config.root).delete("papers")
    for path, body in (("query", QUESTION), ("vectors/upsert", ROW), ("vectors/delete", {"deleteAll": True})):
        answer = client.post(f"/i/papers/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert [path.name for path in config.root.iterdir()] == [".mrlstore-server.lock"]


def test_an_index_that_is_made_anew_is_the_new_one(client: TestClient, config: ServerConfig) -> None:
    create(client)
    client.post("/i/papers/vectors/upsert", json=ROW)
    other = IndexRoot(config.root)
    other.delete("papers")
    other.create("papers", 2, IndexFacts())
    assert client.post("/i/papers/query", json={"topK": 1, "vector": [1, 1]}).json()["matches"] == []
    row = {"vectors": [{"id": "b", "values": [1, 1]}]}
    assert client.post("/i/papers/vectors/upsert", json=row).json() == {"upsertedCount": 1}
    with mrlstore.open(config.root / "papers.mrl", mode="r") as store:
        assert (store.dim, store.count()) == (2, 1)


def test_a_call_that_finds_the_store_replaced_is_made_again_with_the_new_one(tmp_path: Path) -> None:
    root, other = IndexRoot(tmp_path), IndexRoot(tmp_path)
    root.create("papers", 2, IndexFacts())
    seen: list[Any] = []

    def write(index: Any) -> int:
        if not seen:
            other.delete("papers")
            other.create("papers", 2, IndexFacts())
        seen.append(index)
        return int(index.store.upsert(["a"], [[1, 0]]))

    assert root.run("papers", write) == 1
    assert len(seen) == 2
    with other.use("papers") as index:
        assert index.store.count() == 1
    root.close()
    other.close()


def test_protection_holds_until_it_is_taken_off(client: TestClient) -> None:
    create(client, deletion_protection="enabled")
    assert client.delete("/indexes/papers").status_code == 403
    assert client.patch("/indexes/papers", json={"deletion_protection": "disabled"}).status_code == 200
    assert client.delete("/indexes/papers").status_code == 202
    assert client.get("/indexes/papers").status_code == 404


def test_a_second_index_of_the_same_name_is_a_conflict(client: TestClient) -> None:
    create(client)
    assert client.post("/indexes", json={"name": "papers", "dimension": 8}).status_code == 409


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "../x", ".hidden", "a\0b", "x" * 101, "a\nb", "CON\\"]
)
def test_what_is_no_name_reaches_no_file(tmp_path: Path, name: str) -> None:
    root = IndexRoot(tmp_path / "stores")
    (tmp_path / "x.mrl").mkdir()
    assert not root.exists(name)
    with pytest.raises((HttpRefusal, mrlstore.InvalidInput)):
        root.create(name, 2, IndexFacts())
    for call in (root.facts, root.delete):
        with pytest.raises(HttpRefusal) as caught:
            call(name)
        assert caught.value.status == 404


def test_a_link_is_no_index(tmp_path: Path) -> None:
    mrlstore.open(tmp_path / "elsewhere.mrl").close()
    root = IndexRoot(tmp_path / "stores")
    (tmp_path / "stores" / "papers.mrl").symlink_to(tmp_path / "elsewhere.mrl")
    assert root.names() == []
    with pytest.raises(HttpRefusal, match="exists already"):
        root.create("papers", 2, IndexFacts())


def test_only_so_many_stores_stay_open(tmp_path: Path) -> None:
    root = IndexRoot(tmp_path, open_stores=2)
    for name in ("a", "b", "c"):
        root.create(name, 2, IndexFacts())
    with root.use("a") as held:
        for name in ("b", "c"):
            with root.use(name):
                pass
        assert held.store.count() == 0  # in use: not closed
        assert root.pin("b") is None
    root.close()
    with pytest.raises(mrlstore.StoreClosed):
        held.store.count()


def test_a_server_that_only_reads_writes_nothing(tmp_path: Path) -> None:
    with mrlstore.open(tmp_path / "papers.mrl") as store:
        store.upsert(["a"], [[1, 2, 3, 4]])
    before = sorted(path.name for path in tmp_path.iterdir())
    with TestClient(
        create_app(ServerConfig(tmp_path, read_only=True)), base_url="http://localhost"
    ) as client:
        assert len(client.post("/i/papers/query", json=QUESTION).json()["matches"]) == 1
        for answer in (
            client.post("/i/papers/vectors/upsert", json=ROW),
            client.post("/indexes", json={"name": "new", "dimension": 4}),
            client.delete("/indexes/papers"),
        ):
            assert answer.status_code == 403
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_root_that_is_a_store_is_refused(tmp_path: Path) -> None:
    mrlstore.open(tmp_path / "papers.mrl").close()
    with pytest.raises(mrlstore.InvalidInput, match="is a store"):
        IndexRoot(tmp_path / "papers.mrl")
