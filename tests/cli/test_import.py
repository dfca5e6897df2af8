"""mrlstore create and import."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import mrlstore

from .conftest import DIM, Run, make_rows, write_jsonl


def test_create_makes_an_empty_store(tmp_path: Path, run: Run) -> None:
    store = tmp_path / "new.mrl"
    done = run("create", store, "--dim", 16, "--prefix-dim", 4)
    assert (done.code, done.err) == (0, "")
    assert "16 dims" in done.out
    with mrlstore.open(store, mode="r") as opened:
        assert (len(opened), opened.stats().dim, opened.stats().prefix_dim) == (0, 16, 4)


def test_create_leaves_what_is_there(filled: Path, run: Run) -> None:
    done = run("create", filled)
    assert done.code == 4
    assert str(filled) in done.err
    assert run("count", filled).out == "20\n"


def test_import_keeps_every_field(filled: Path) -> None:
    rows = make_rows(20)
    with mrlstore.open(filled, mode="r") as store:
        records = store.get([row["id"] for row in rows], include=("metadata", "document", "vector"))
    assert [record.metadata for record in records] == [row["metadata"] for row in rows]
    assert [record.document for record in records] == [row["document"] for row in rows]
    for record, row in zip(records, rows, strict=True):
        assert record.vector is not None
        np.testing.assert_allclose(record.vector, row["vector"], rtol=2e-3, atol=2e-3)


def test_import_takes_vectors_from_a_numpy_file(tmp_path: Path, run: Run) -> None:
    rows = make_rows(30)
    vectors = np.array([row.pop("vector") for row in rows], dtype=np.float16)
    np.save(tmp_path / "v.npy", vectors)
    lines = write_jsonl(tmp_path / "r.jsonl", rows)
    done = run("import", tmp_path / "s.mrl", lines, "--vectors", tmp_path / "v.npy", "--batch", 7)
    assert (done.code, done.err) == (0, "")
    for n in (0, 6, 7, 29):
        question = json.dumps(vectors[n].tolist())
        answer = run("query", tmp_path / "s.mrl", "--vector", question, "-k", 1, "--json")
        assert answer.json["hits"][0]["id"] == f"row-{n}"


@pytest.mark.parametrize("lines", [29, 31])
def test_import_refuses_lines_and_vectors_of_different_number(tmp_path: Path, run: Run, lines: int) -> None:
    np.save(tmp_path / "v.npy", np.ones((30, DIM), dtype=np.float32))
    rows = write_jsonl(tmp_path / "r.jsonl", [{"id": str(n)} for n in range(lines)])
    done = run("import", tmp_path / "s.mrl", rows, "--vectors", tmp_path / "v.npy")
    assert done.code == 2
    assert "30" in done.err


def test_import_reads_standard_input(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(json.dumps(row) + "\n" for row in make_rows(5)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    done = run("import", tmp_path / "s.mrl", "-", "--json")
    assert (done.code, done.json["written"], done.json["rows"]) == (0, 5, 5)


def test_bad_rows_are_told_with_their_place_and_the_others_are_in(tmp_path: Path, run: Run) -> None:
    good = make_rows(6)
    bad = [
        "{no json",
        '"a text"',
        {"vector": [1.0] * DIM},
        {"id": "strange", "vectr": [1.0] * DIM},
        {"id": "short", "vector": [1.0]},
        {"id": "zero", "vector": [0.0] * DIM},
        {"id": "words", "vector": ["a"] * DIM},
        '{"id": "nan", "vector": [NaN' + ", 1.0" * (DIM - 1) + "]}",
        {"id": 7, "vector": [1.0] * DIM},
        {"id": "list", "vector": [1.0] * DIM, "metadata": [1]},
        "[" * 100_000,
    ]
    rows = write_jsonl(tmp_path / "r.jsonl", [*good[:3], *bad, "", *good[3:]])
    done = run("import", tmp_path / "s.mrl", rows, "--json")
    assert done.code == 6
    places = [refusal["place"].rpartition(":")[2] for refusal in done.json["refused"]]
    assert sorted(map(int, places)) == list(range(4, 4 + len(bad)))
    with mrlstore.open(tmp_path / "s.mrl", mode="r") as store:
        assert sorted(record.id for record in store.scan()) == [f"row-{n}" for n in range(6)]
    told = run("import", tmp_path / "s.mrl", rows)
    assert told.code == 6
    assert "r.jsonl:4: " in told.err
    assert "Traceback" not in told.err


def test_strict_stops_at_the_first_bad_row(tmp_path: Path, run: Run) -> None:
    good = make_rows(6)
    rows = write_jsonl(tmp_path / "r.jsonl", [*good[:4], "{", *good[4:]])
    done = run("import", tmp_path / "s.mrl", rows, "--strict", "--batch", 2)
    assert done.code == 2
    assert "r.jsonl:5: " in done.err
    assert "4 rows before it are in" in done.err
    assert run("count", tmp_path / "s.mrl").out == "4\n"


def test_conflicts(filled: Path, tmp_path: Path, run: Run) -> None:
    row = {"id": "row-3", "vector": [1.0] * DIM, "document": "new"}
    rows = write_jsonl(tmp_path / "r.jsonl", [row])
    skipped = run("import", filled, rows, "--on-conflict", "skip", "--json").json
    assert (skipped["written"], skipped["skipped"]) == (0, 1)
    assert run("get", filled, "row-3", "--json").json["rows"][0]["document"] == "The text of row 3."
    assert run("import", filled, rows, "--on-conflict", "error").code == 6
    assert run("import", filled, rows).code == 0
    assert run("get", filled, "row-3", "--json").json["rows"][0]["document"] == "new"


def test_namespaces_are_apart(filled: Path, tmp_path: Path, run: Run) -> None:
    rows = write_jsonl(tmp_path / "r.jsonl", make_rows(3))
    assert run("import", filled, rows, "--namespace", "tenant").code == 0
    counts = [run("count", filled, *more).out for more in ((), ("-n", "tenant"), ("--all",))]
    assert counts == ["20\n", "3\n", "23\n"]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, run: Run, content: bytes) -> None:
    (tmp_path / "v.npy").write_bytes(content)
    rows = write_jsonl(tmp_path / "r.jsonl", [{"id": "a"}])
    done = run("import", tmp_path / "s.mrl", rows, "--vectors", tmp_path / "v.npy")
    assert done.code == 2
    assert not (tmp_path / "s.mrl").exists()


def test_pickled_arrays_are_refused(tmp_path: Path, run: Run) -> None:
    np.save(tmp_path / "v.npy", np.array([[print]], dtype=object), allow_pickle=True)
    rows = write_jsonl(tmp_path / "r.jsonl", [{"id": "a"}])
    done = run("import", tmp_path / "s.mrl", rows, "--vectors", tmp_path / "v.npy")
    assert done.code == 2


def test_the_way_out_is_said_in_options(tmp_path: Path, run: Run) -> None:
    store, file = tmp_path / "s.mrl", tmp_path / "r.jsonl"
    file.write_text('{"id": 17, "vector": [1, 2]}\n{"id": "a", "emb": [1, 2], "year": 3}\n')
    done = run("import", store, file)
    assert done.code == 6
    assert '--id-as-text makes "17" of it' in done.err
    assert (
        "--extra metadata makes metadata of them, --omit emb leaves 'emb' out, --name vector=emb says"
        in done.err
    )
    assert "=True" not in done.err and 'extra="' not in done.err
    done = run(
        "import", store, file, "--id-as-text", "--name", "vector=emb", "--omit", "vector", "--omit", "year"
    )
    assert done.code == 0
    file.write_text("name,vector\na,1 2\n")
    done = run("import", tmp_path / "other.mrl", file, "--format", "csv")
    assert done.code == 2 and "it has name, vector. --name id=COLUMN says which has the ids" in done.err
    assert not (tmp_path / "other.mrl").exists()
    (tmp_path / "rows.xyz").touch()
    done = run("import", tmp_path / "other.mrl", tmp_path / "rows.xyz")
    assert done.code == 2 and "say --format ..." in done.err
    done = run("export", store, file)
    assert done.code == 4 and "--force replaces it" in done.err


def test_rows_without_vectors_are_told(tmp_path: Path, run: Run) -> None:
    rows = write_jsonl(tmp_path / "r.jsonl", [{"id": "a", "document": "words"}, {"id": "b"}])
    done = run("import", tmp_path / "s.mrl", rows)
    assert done.code == 0 and "no row has a vector" in done.err and "--name vector=COLUMN" in done.err
    rows = write_jsonl(tmp_path / "r.jsonl", [{"id": "a", "vector": [1, 2]}, {"id": "b"}])
    done = run("import", tmp_path / "s.mrl", rows)
    assert done.err == "1 row has no vector: queries by vector do not find it\n"
    assert run("import", tmp_path / "s.mrl", rows, "--json").json["without_vector"] == 1
