"""Bulk imports: Parquet files of a folder of the server, seen by every worker, cancelled and cut short."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from mrlstore.exchange import import_rows
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.indexes import IndexRoot
from mrlstore.server.pinecone import imports


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files" / "papers"
    for name, count in (("", 30), ("ns1", 20)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write(folder / name / "0.parquet", count)
    return folder


def write(path: Path, count: int, dim: int = 4) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "id": [f"row-{n}" for n in range(count)],
            "values": pa.array(rng.random((count, dim)).tolist(), pa.list_(pa.float32())),
            "metadata": [json.dumps({"n": n}) for n in range(count)],
        }
    )
    pq.write_table(table, path)


@pytest.fixture
def importing(tmp_path: Path, files: Path) -> Iterator[TestClient]:
    config = ServerConfig(tmp_path / "stores", import_root=tmp_path / "files")
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        client.post("/indexes", json={"name": "papers", "dimension": 4})
        yield client


def start(client: TestClient, uri: str, **more: Any) -> Any:
    return client.post("/i/papers/bulk/imports", json={"uri": uri, **more})


def ended(client: TestClient, id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state: dict[str, Any] = client.get(f"/i/papers/bulk/imports/{id}").json()
        if state["status"] not in ("Pending", "InProgress"):
            return state
        time.sleep(0.02)
    raise AssertionError(state)


def counts(client: TestClient) -> dict[str, int]:
    stats = client.post("/i/papers/describe_index_stats", json={}).json()
    return {name: value["vectorCount"] for name, value in stats["namespaces"].items()}


def test_a_folder_is_imported_by_namespaces(importing: TestClient, files: Path) -> None:
    for uri in (files.as_uri(), "papers"):
        id = start(importing, uri, errorMode={"onError": "abort"}).json()["id"]
        state = ended(importing, id)
        assert (state["status"], state["recordsImported"], state["percentComplete"]) == ("Completed", 50, 100)
    assert counts(importing) == {"__default__": 30, "ns1": 20}
    row = importing.get("/i/papers/vectors/fetch?ids=row-7&namespace=ns1").json()["vectors"]["row-7"]
    assert row["metadata"] == {"n": 7}
    assert [each["id"] for each in importing.get("/i/papers/bulk/imports").json()["data"]] == ["2", "1"]


def test_bad_files_end_an_import_with_the_reason(importing: TestClient, files: Path) -> None:
    write(files / "1.parquet", 3, dim=5)
    state = ended(importing, start(importing, "papers", errorMode={"onError": "abort"}).json()["id"])
    assert state["status"] == "Failed" and "5 dimensions" in state["error"]
    assert str(files) not in state["error"]
    state = ended(importing, start(importing, "papers").json()["id"])
    assert (state["status"], state["recordsImported"]) == ("Completed", 50)
    (files / "2.parquet").write_bytes(b"PAR1 no")
    assert ended(importing, start(importing, "papers").json()["id"])["status"] == "Failed"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/papers",
        "../stores",
        "/etc",
        "file:///etc",
        "file://elsewhere/x",
        "%2e%2e",
        "absent",
        "",
        7,
    ],
)
def test_other_places_are_refused(importing: TestClient, uri: Any) -> None:
    assert start(importing, uri).status_code == 400
    assert importing.get("/i/papers/bulk/imports").json() == {"data": []}


def test_a_link_out_of_the_folder_is_not_followed(importing: TestClient, files: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write(outside / "0.parquet", 5)
    (files.parent / "link").symlink_to(outside)
    (files.parent / "inner").mkdir()
    (files.parent / "inner" / "0.parquet").symlink_to(outside / "0.parquet")
    for uri in ("link", "inner"):
        assert start(importing, uri).status_code == 400


def test_an_import_is_cancelled(importing: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **options: Any) -> Any:
        importing.delete("/i/papers/bulk/imports/1")
        return import_rows(*arguments, **options)

    monkeypatch.setattr(imports, "import_rows", slow)
    state = ended(importing, start(importing, "papers").json()["id"])
    assert state["status"] == "Cancelled"


def test_an_import_whose_worker_died_has_failed(importing: TestClient, tmp_path: Path) -> None:
    folder = IndexRoot(tmp_path / "stores").beside("papers", "imports")
    folder.mkdir(parents=True)
    state = {"id": "1", "uri": "papers", "status": "InProgress", "createdAt": "2026-01-01T00:00:00Z"}
    (folder / "1.json").write_text(json.dumps(state))
    (folder / "1.lock").touch()
    found = importing.get("/i/papers/bulk/imports/1").json()
    assert found["status"] == "Failed" and "again" in found["error"]
    assert importing.get("/i/papers/bulk/imports/9").status_code == 404


def test_imports_are_off_without_a_folder(client: TestClient) -> None:
    client.post("/indexes", json={"name": "papers", "dimension": 4})
    answer = start(client, "papers")
    assert answer.status_code == 400 and "--import-root" in answer.text


def test_imports_go_with_their_index(importing: TestClient, tmp_path: Path) -> None:
    ended(importing, start(importing, "papers").json()["id"])
    importing.delete("/indexes/papers")
    importing.post("/indexes", json={"name": "papers", "dimension": 4})
    assert importing.get("/i/papers/bulk/imports").json() == {"data": []}
