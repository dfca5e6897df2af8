"""`mrlstore migrate` from files, which needs no other package; see tests/integrations/migrate for others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import mrlstore
from mrlstore.cli import main
from mrlstore.exchange.migrate import Choice, migrate

from .conftest import Run

VECTORS = np.random.default_rng(8).normal(size=(2_500, 8)).astype(np.float32)


def written(file: Path, vectors: bool = True) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for n in range(len(VECTORS)):
            row = {"doi": f"d{n}", "year": 2000 + n % 20, "abstract": f"text {n}"}
            out.write(json.dumps({**row, "embedding": VECTORS[n].tolist()} if vectors else row) + "\n")
    return file


def test_jsonl(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "rows.jsonl")
    command = ["migrate", str(path), str(file), "--id", "doi", "--vector", "embedding"]
    assert main([*command, "--document", "abstract", "--prefix-dim", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["collections"][0]["compared"] == 100
    with mrlstore.open(path, mode="r") as store:
        assert (store.count(), store.prefix_dim) == (2_500, 4)
        [row] = store.get(["d7"], include=("metadata", "document", "vector"))
        assert (row.metadata, row.document) == ({"year": 2007}, "text 7")
        assert row.vector == pytest.approx(VECTORS[7], abs=1e-2)


@pytest.mark.parametrize("suffix", ["txt", "npy"])
def test_npy_with_ids(suffix: str, tmp_path: Path, path: Path) -> None:
    np.save(tmp_path / "rows.npy", VECTORS.astype(np.float64))
    ids = tmp_path / f"ids.{suffix}"
    if suffix == "txt":
        ids.write_text("".join(f"row {n}\n" for n in range(2_500)), encoding="utf-8")
    else:
        np.save(ids, np.arange(2_500) * 2)
    assert migrate(path, str(tmp_path / "rows.npy"), choice=Choice(ids=ids)).ok
    with mrlstore.open(path, mode="r") as store:
        assert store.count() == 2_500
        assert ("row 2499" if suffix == "txt" else "4998") in store


def test_bad_rows_are_told_and_the_rest_is_compared(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"id": f"r{n}", "vector": [1, n + 1]} for n in range(20)]
    rows[3]["vector"], rows[5]["vector"] = [0, 0], [1, 2, 3]
    rows[7]["namespace"] = "there"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["migrate", str(path), str(file)]) == 6
    told = capsys.readouterr().out
    assert "17 rows in" in told and "zero vector" in told and "3 dimensions" in told and "namespace" in told
    file.write_text("\n".join(map(json.dumps, [*rows[:2], rows[0]])), encoding="utf-8")
    assert main(["migrate", str(tmp_path / "twice.mrl"), str(file)]) == 1
    assert "3 rows were stored, the store counts 2" in capsys.readouterr().out


def test_an_interrupted_migration_goes_on_or_begins_anew(tmp_path: Path, path: Path) -> None:
    np.save(tmp_path / "rows.npy", VECTORS)
    source = str(tmp_path / "rows.npy")

    def stop(step: mrlstore.Progress) -> None:
        raise KeyboardInterrupt

    def begun() -> list[int]:
        with pytest.raises(KeyboardInterrupt):
            migrate(path, source, batch=1_000, progress=stop)
        kept = json.loads(path.with_name("store.mrl.migration.json").read_text())
        return [state["read"] for state in kept["collections"].values()]

    assert begun() == [1_000]
    assert begun() == [2_000]
    with pytest.raises(mrlstore.InvalidInput, match="not finished"):
        migrate(path, str(tmp_path / "other.npy"))
    with pytest.raises(mrlstore.InvalidInput, match="not finished"):
        migrate(path, source, choice=Choice(namespace="elsewhere"))
    told: list[mrlstore.Progress] = []
    done = migrate(path, source, batch=1_000, restart=True, progress=told.append)
    assert done.ok and done.rows == 2_500 and told[0].done == 1_000
    path.with_name("store.mrl.migration.json").write_text("[]")
    with pytest.raises(mrlstore.InvalidInput, match="can't be read"):
        migrate(path, source)


@pytest.mark.parametrize(
    "source, word", [("absent.jsonl", "no such file"), ("sqlite:x", "KIND:PLACE"), ("rows.txt", "format")]
)
def test_what_is_no_source_makes_no_store(
    source: str, word: str, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("{}")
    with pytest.raises(mrlstore.InvalidInput, match=word):
        migrate(path, source)
    assert not path.exists()


def test_a_wrong_dimension_is_told_first(tmp_path: Path, path: Path) -> None:
    with mrlstore.open(path, dim=4) as store:
        store.upsert(["a"], np.ones((1, 4)))
    np.save(tmp_path / "rows.npy", VECTORS)
    with pytest.raises(mrlstore.InvalidInput, match="8 dimensions, the store .* of 4"):
        migrate(path, str(tmp_path / "rows.npy"))
    with mrlstore.open(path, mode="r") as store:
        assert store.count() == 1


def test_a_database_whose_package_is_absent_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "qdrant_client", None)
    assert main(["migrate", str(path), "qdrant:somewhere"]) == 1
    assert "pip install qdrant-client" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("chroma", ["chroma.sqlite3"], "pip install chromadb"),
        ("qdrant", ["meta.json", "collection/papers/storage.sqlite"], "pip install qdrant-client"),
        ("lancedb", ["papers.lance/data/a.lance"], "pip install lancedb"),
        ("server", ["raft_state.json", "collections/papers/x"], "the storage of a Qdrant server"),
        ("texts", ["notes.txt"], "say chroma:FOLDER"),
    ],
)
def test_a_folder_says_which_database_it_is(
    kind: str, files: list[str], said: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("chromadb", "qdrant_client", "lancedb"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in files:
        (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / kind / name).touch()
    done = run("migrate", tmp_path / "s.mrl", tmp_path / kind)
    assert done.code in (1, 2) and said in done.err
    assert not (tmp_path / "s.mrl").exists()


def test_a_store_is_no_source(filled: Path, tmp_path: Path, run: Run) -> None:
    done = run("migrate", tmp_path / "s.mrl", filled)
    assert done.code == 2 and "is a store already" in done.err
