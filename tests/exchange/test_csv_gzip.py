"""CSV files, files compressed by gzip, and ids that are numbers."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput, StoreExists
from mrlstore.exchange import export_rows, import_rows, jsonl
from tests.exchange.conftest import held


@pytest.fixture
def store(opened: Callable[..., Any], tmp_path: Path) -> mrlstore.Store:
    """A store that takes vectors of any length."""
    made: mrlstore.Store = opened(tmp_path / "any.mrl")
    return made


def rows_of(store: mrlstore.Store) -> dict[str, tuple[Any, Any, Any]]:
    return {
        row.id: (row.metadata, row.document, None if row.vector is None else row.vector.tolist())
        for row in store.scan(include=("metadata", "document", "vector"))
    }


def test_cells_become_what_rows_have(store: mrlstore.Store, tmp_path: Path) -> None:
    """Quotes, line breaks in a cell, all ways to write a vector, empty cells, numbers and texts like them."""
    file = tmp_path / "rows.csv"
    text = (
        "\ufeffid,vector,document,year,price,code,read,metadata\r\n"
        '1,"[1, 0, 2]","He said ""no"",\nand left",2021,-0.5,007,true,\r\n'
        "b,0 1.5 0,,,1e3,12a,false,\r\n"
        'c,"[0.5;1;1]",c,9999999999999999999,nan,1_000, true,"{""deep"": [1]}"\r\n'
        "\r\n"
        "d,,only words,,,,,\r\n"
    )
    file.write_bytes(text.encode())
    done = import_rows(store, file, extra="metadata")
    assert (done.written, done.refused, done.without_vector) == (4, 0, 1)
    found = rows_of(store)
    assert found["1"] == (
        {"year": 2021, "price": -0.5, "code": "007", "read": True}, 'He said "no",\nand left', [1, 0, 2]
    )  # fmt: skip
    assert found["b"] == ({"price": 1000.0, "code": "12a", "read": False}, None, [0, 1.5, 0])
    assert found["c"][0] == {
        "year": "9999999999999999999", "price": "nan", "code": "1_000", "read": " true", "deep": [1]
    }  # fmt: skip
    assert found["d"] == (None, "only words", None)


@pytest.mark.parametrize(("name", "between"), [("r.csv", ";"), ("r.tsv", "\t"), ("r.csv", ",")])
def test_what_stands_between_cells_is_seen(
    store: mrlstore.Store, tmp_path: Path, name: str, between: str
) -> None:
    (tmp_path / name).write_text(between.join(("doi", "emb", "skip\n")) + between.join(("x", "1 2", "3\n")))
    import_rows(store, tmp_path / name, names={"id": "doi", "vector": "emb"}, omit=["skip"])
    assert rows_of(store) == {"x": (None, None, [1, 2])}


def test_vectors_beside_a_csv_file(store: mrlstore.Store, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "r.csv").write_text("id\na\nb\nc\n")
    assert import_rows(store, tmp_path / "r.csv", vectors=tmp_path / "v.npy").written == 3
    assert rows_of(store)["b"][2] == [0, 1, 0]
    for lines, said in (("id\na\n", "1 rows for 3 vectors"), ("id\na\nb\nc\nd\n", "the vectors ended")):
        with pytest.raises(InvalidInput, match=said):
            import_rows(store, io.BytesIO(lines.encode()), format="csv", vectors=tmp_path / "v.npy")


def test_bad_rows_are_told_with_their_line(store: mrlstore.Store) -> None:
    text = 'id,vector\na,"[1,2]"\nb\nc,"[1,x]"\n,"[1,2]"\ne,1 2,3\nf,"1 2"\n'
    done = import_rows(store, io.BytesIO(text.encode()), format="csv")
    assert {one.place: one.why for one in done.refusals} == {
        "-:3": "1 cells below 2 column names",
        "-:4": "the vector is not a list of numbers: '[1,x]'",
        "-:5": "no id",
        "-:6": "3 cells below 2 column names",
    }
    assert sorted(rows_of(store)) == ["a", "f"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no line of column names"),
        (b"name,vector\n", r"no column 'id'; it has name, vector. names=\{\"id\": \"COLUMN\"\}"),
        (b"id,id\n", "two columns are called 'id'"),
        (b"id,year\n", "'year' is not a part of a row"),
        (b"id\n\xff\xfe\n", "-:2: not UTF-8 text"),
    ],
)
def test_bad_csv_files(store: mrlstore.Store, content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        import_rows(store, io.BytesIO(content), format="csv")


def test_a_column_that_is_named_and_absent_is_refused(store: mrlstore.Store) -> None:
    """Else a slip in a name would replace all rows by rows without a vector."""
    with pytest.raises(InvalidInput, match="no column 'embeding'; it has id, embedding"):
        import_rows(store, io.BytesIO(b"id,embedding\na,[1 0]\n"), format="csv", names={"vector": "embeding"})
    assert len(store) == 0


def test_a_line_without_end_is_refused(store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrlstore.exchange.csv_rows.LINE_BYTES", 1000)
    with pytest.raises(InvalidInput, match="-:2: a line of more than 1,000 bytes"):
        import_rows(store, io.BytesIO(b"id,document\na," + b"x" * 2000), format="csv")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_files_compressed_by_gzip(store: mrlstore.Store, tmp_path: Path, kind: str) -> None:
    text = '{"id": "a", "vector": [1, 2]}\n' if kind == "jsonl" else "id,vector\na,1 2\n"
    file = tmp_path / f"rows.{kind}.gz"
    file.write_bytes(gzip.compress(text.encode()))
    seen: list[Any] = []
    assert import_rows(store, file, progress=seen.append).written == 1
    assert rows_of(store) == {"a": (None, None, [1, 2])}
    assert seen[-1].done == seen[-1].total == file.stat().st_size
    whole = gzip.compress((text * 1).encode() + b"\n" * 100_000)
    for damaged in (b"text", whole[:-9], whole[:-1], whole[:30] + b"\0\0" + whole[32:]):
        file.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=rf"rows.{kind}.gz: no whole gzip file"):
            import_rows(store, file)


def test_a_long_line_of_a_small_gzip_file(
    store: mrlstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LINE_BYTES", 1000)
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(b"[" * 10_000_000))
    (one,) = import_rows(store, tmp_path / "r.jsonl.gz").refusals
    assert "more than 1,000 bytes" in one.why


def test_gzip_goes_with_text_only(store: mrlstore.Store, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InvalidInput, match="unpack it first"):
        import_rows(store, tmp_path / "r.parquet.gz")
    with pytest.raises(InvalidInput, match="unpack it first"):
        export_rows(store, tmp_path / "r.arrow.gz")
    with pytest.raises(InvalidInput, match="expected one of jsonl, parquet, arrow, got 'csv'"):
        export_rows(store, tmp_path / "r.csv")
    assert list(tmp_path.glob("r.*")) == []


def test_an_export_to_gzip_comes_back(full: mrlstore.Store, opened: Any, tmp_path: Path) -> None:
    done = export_rows(full, tmp_path / "rows.jsonl.gz")
    plain = gzip.decompress((tmp_path / "rows.jsonl.gz").read_bytes())
    assert plain.count(b"\n") == done.rows == 600
    copy = opened(tmp_path / "copy.mrl")
    import_rows(copy, tmp_path / "rows.jsonl.gz")
    assert held(copy) == held(full)
    with pytest.raises(StoreExists, match="overwrite=True replaces it"):
        export_rows(full, tmp_path / "rows.jsonl.gz")


def test_ids_that_are_numbers(store: mrlstore.Store) -> None:
    lines = b'{"id": 17}\n{"id": 1e3}\n{"id": 1.5}\n{"id": true}\n{"id": [1]}\n{"id": "18"}\n'
    done = import_rows(store, io.BytesIO(lines))
    assert done.written == done.without_vector == 1
    assert (
        done.refusals[0].why == 'the id 17 is a number, and ids are texts: id_as_text=True makes "17" of it'
    )
    done = import_rows(store, io.BytesIO(lines), id_as_text=True)
    assert sorted(rows_of(store)) == ["1000", "17", "18"]
    assert [one.place for one in done.refusals] == ["-:3", "-:4", "-:5"]
    assert done.refusals[0].why == "the id 1.5 is neither a whole number nor a text"
    with pytest.raises(InvalidInput, match="id_as_text"):
        import_rows(store, io.BytesIO(lines), id_as_text="yes")  # type: ignore[arg-type]


def test_ids_of_tables_that_are_numbers(store: mrlstore.Store) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": pa.array([1, 2**62], pa.int64()), "vector": [[1.0, 2.0]] * 2})
    assert import_rows(store, table).refused == 2
    assert import_rows(store, table, id_as_text=True).written == 2
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [3.0, 4.0, float("nan")]})
    done = import_rows(store, frame, id_as_text=True)
    assert sorted(rows_of(store)) == ["1", "3", "4", str(2**62)] and done.refused == 1
