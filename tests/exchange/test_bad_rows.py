"""Bad rows and bad files: told with their place, and nothing else is lost."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.checks import iso_text
from mrlstore.errors import InvalidInput, StoreExists
from mrlstore.exchange import export_rows, import_rows, jsonl

Opened = Callable[..., Any]


def test_bad_rows_of_a_table_are_told_with_their_place(store: mrlstore.Store) -> None:
    pa = pytest.importorskip("pyarrow")
    vectors = [[1.0] * 8 for _ in range(8)]
    vectors[2], vectors[3], vectors[4] = [0.0] * 8, [1.0], [1.0] * 7 + [None]  # type: ignore[list-item]
    table = pa.table(
        {
            "id": ["a", None, "c", "d", "e", "", "g", "h"],
            "vector": vectors,
            "metadata": [None, None, None, None, None, None, "{no json", '{"fine": 1}'],
        }
    )
    done = import_rows(store, table)
    assert (done.written, done.refused) == (2, 6)
    assert sorted(refusal.place for refusal in done.refusals) == [f"row:{n}" for n in range(2, 8)]
    assert [record.id for record in store.scan()] == ["a", "h"]
    with pytest.raises(InvalidInput, match="row:2"):
        import_rows(store, table, strict=True)


def test_strict_keeps_the_batches_before(store: mrlstore.Store) -> None:
    lines = b"".join(b'{"id": "%d", "vector": [1,1,1,1,1,1,1,1]}\n' % n for n in range(10)) + b"{\n"
    with pytest.raises(InvalidInput, match="-:11: .*10 rows before it are in"):
        import_rows(store, io.BytesIO(lines), strict=True, batch=4)
    assert len(store) == 10


def test_columns_are_judged_before_any_row_is(store: mrlstore.Store) -> None:
    pa = pytest.importorskip("pyarrow")
    for columns, said in (
        ({"vector": [[1.0]]}, "no column 'id'"),
        ({"id": ["a"], "vectr": [1]}, "vectr"),
        ({"id": ["a"], "vector": ["text"]}, "not lists of numbers"),
        ({"id": ["a"], "vector": [[[1.0]]]}, "not lists of numbers"),
    ):
        with pytest.raises(InvalidInput, match=said):
            import_rows(store, pa.table(columns))
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["id", "id"])
    wide = pa.table({"id": ["a"], "vector": pa.array([[0.0] * 9000], type=pa.list_(pa.float32(), 9000))})
    for table in (twice, wide):
        with pytest.raises(InvalidInput):
            import_rows(store, table)
    assert len(store) == 0


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_damaged_files_are_refused_or_told(
    full: mrlstore.Store, opened: Opened, tmp_path: Path, format: str
) -> None:
    pytest.importorskip("pyarrow")
    target = tmp_path / f"rows.{format}"
    export_rows(full, target)
    whole = target.read_bytes()
    copy = opened(tmp_path / "copy.mrl")
    rng = np.random.default_rng(4)
    refused = 0
    for trial in range(60):
        broken = bytearray(whole)
        if trial % 3 == 0:
            broken = broken[: int(rng.integers(len(whole)))]
        else:
            for at in rng.integers(0, len(whole), size=4):
                broken[at] ^= 1 << int(rng.integers(8))
        target.write_bytes(broken)
        try:
            import_rows(copy, target)
        except InvalidInput:
            refused += 1
    assert refused > 10
    target.write_bytes(b"no such file")
    with pytest.raises(InvalidInput):
        import_rows(copy, target)


def test_a_line_too_long_is_refused_and_the_next_is_read(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LINE_BYTES", 100)
    lines = [{"id": "a"}, {"id": "b", "document": "x" * 250}, {"id": "c"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = import_rows(store, io.BytesIO(text.encode()))
    assert (done.written, [refusal.place for refusal in done.refusals]) == (2, ["-:2"])


def test_refusals_are_counted_beyond_those_told(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrlstore.exchange.importing.KEPT_REFUSALS", 5)
    done = import_rows(store, io.BytesIO(b"{}\n" * 40))
    assert (done.refused, len(done.refusals)) == (40, 5)


def test_an_export_that_fails_leaves_nothing(full: mrlstore.Store, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def fail(progress: mrlstore.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_rows(full, folder / "r.jsonl", vectors=folder / "r.npy", progress=fail)
    assert list(folder.iterdir()) == []


def test_targets_that_are_refused(full: mrlstore.Store, tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    with pytest.raises(StoreExists):
        export_rows(full, there)
    (tmp_path / "link").symlink_to(full.path)
    for inside in (full.path / "x.jsonl", tmp_path / "link" / "x.jsonl", full.path / "parts" / "x.jsonl"):
        with pytest.raises(InvalidInput):
            export_rows(full, inside)
    with pytest.raises(InvalidInput):
        export_rows(full, tmp_path / "x.jsonl", vectors=full.path / "x.npy")
    with pytest.raises(StoreExists):
        export_rows(full, tmp_path / "x.jsonl", vectors=there)
    assert there.read_text() == "mine"
    assert not (tmp_path / "x.jsonl").exists()
    target: Any
    for target in (None, 5, io.StringIO()):
        with pytest.raises(InvalidInput, match="target"):
            export_rows(full, target)
    with pytest.raises(FileNotFoundError, match=f"no such folder.*{tmp_path / 'none'}"):
        export_rows(full, tmp_path / "none" / "x.jsonl")


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float64"},
        {"dtype": "float16"},
        {"format": "csv"},
        {"after": "nonsense"},
        {"limit": -1},
        {"where": {"$no": 1}},
        {"namespace": 3},
        {"progress": 5},
        {"vectors": 5},
    ],
)
def test_arguments_are_judged_before_a_file_is_made(
    full: mrlstore.Store, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        export_rows(full, tmp_path / "x.jsonl", **options)
    assert not list(tmp_path.glob("*x.jsonl*"))


def test_sources_that_are_none(store: mrlstore.Store) -> None:
    pytest.importorskip("pyarrow")
    for source in (None, 3, [{"id": "a"}]):
        with pytest.raises(InvalidInput, match="source"):
            import_rows(store, source)
    for options in (
        {"batch": 0},
        {"names": {"key": "id"}},
        {"extra": "drop"},
        {"format": "csv"},
        {"vectors": 5},
        {"progress": 5},
    ):
        with pytest.raises(InvalidInput):
            import_rows(store, io.BytesIO(b""), **options)


def test_norms_go_with_float16_only(store: mrlstore.Store) -> None:
    lines = [
        {"id": "a", "vector": [1.0] * 8, "norm": 2.0},
        {"id": "b", "norm": 2.0},
        {"id": "c", "vector": [1.0] * 8},
    ]
    done = import_rows(store, io.BytesIO("\n".join(map(json.dumps, lines)).encode()))
    assert (done.written, done.refused) == (1, 2)


@pytest.mark.parametrize(
    "vector",
    [
        '["1.5", "2", 1, 1, 1, 1, 1, 1]',
        "[true, false, true, true, true, true, true, true]",
        "[true, 1.5, 2, 3, 4, 5, 6, 7]",
        "[null, 1, 1, 1, 1, 1, 1, 1]",
        "[[1, 1, 1, 1, 1, 1, 1, 1]]",
        '"1.5"',
        "true",
        "3",
        '{"a": 1}',
        f"[1{'0' * 400}, 1, 1, 1, 1, 1, 1, 1]",
        "[1e400, 1, 1, 1, 1, 1, 1, 1]",
        "[NaN, 1, 1, 1, 1, 1, 1, 1]",
    ],
    ids=lambda text: text[:30],
)
def test_a_vector_in_a_line_is_a_list_of_numbers(store: mrlstore.Store, vector: str) -> None:
    lines = f'{{"id": "bad", "vector": {vector}}}\n{{"id": "good", "vector": [1, 2.5, 0, 0, 0, 0, 0, -1]}}\n'
    done = import_rows(store, io.BytesIO(lines.encode()))
    assert [refusal.place for refusal in done.refusals] == ["-:1"]
    assert [record.id for record in store.scan()] == ["good"]


def test_times_with_zones_are_ordered_as_times(store: mrlstore.Store) -> None:
    """On the night when clocks go back 02:30+02:00 is before 02:15+01:00."""
    pa = pytest.importorskip("pyarrow")
    times = [1729989000, 1729991700, 1729994400]  # 02:30+02:00, 02:15+01:00, 03:00+01:00 on 2024-10-27
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "at": pa.array(times, type=pa.timestamp("s", tz="Europe/Berlin")),
            "day": pa.array([0, 1, None], type=pa.date32()),
        }
    )
    assert import_rows(store, table, extra="metadata").written == 3
    at = {record.id: record.metadata["at"] for record in store.scan()}  # type: ignore[index]
    assert at["a"] == "2024-10-27T00:30:00+00:00" and at["b"] == "2024-10-27T01:15:00+00:00"
    assert store.count({"at": {"$lt": at["b"]}}) == 1 and store.count({"at": {"$gte": at["b"]}}) == 2
    assert store.count({"day": {"$lte": "1970-01-01"}}) == 1


def test_the_text_of_a_time_with_a_zone_is_in_utc() -> None:
    times = [datetime.datetime.fromisoformat(f"2024-10-27T02:{rest}") for rest in ("30+02:00", "15+01:00")]
    assert [iso_text(time) for time in times] == ["2024-10-27T00:30:00+00:00", "2024-10-27T01:15:00+00:00"]
    assert iso_text(times[0].replace(tzinfo=None)) == "2024-10-27T02:30:00"


def test_times_without_an_order_are_refused_by_place() -> None:
    east = datetime.timezone(datetime.timedelta(hours=14))
    with pytest.raises(ValueError, match="no order"):
        iso_text(datetime.time(2, 30, tzinfo=east))
    with pytest.raises(ValueError, match="9999"):
        iso_text(datetime.datetime(1, 1, 1, tzinfo=east))
    assert iso_text(datetime.time(2, 30)) == "02:30:00"
    assert iso_text(datetime.datetime(2024, 1, 1, 1, 2, 3, 4)) == "2024-01-01T01:02:03.000004"
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="NaT"):
        iso_text(pandas.NaT)
    stamp = pandas.Timestamp(1729989000123456789, tz="Europe/Berlin")
    assert iso_text(stamp) == "2024-10-27T00:30:00.123456789+00:00"
