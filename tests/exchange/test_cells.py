"""One bad cell refuses one row: all others go in, whatever kind of table the cell is in."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.exchange import import_rows

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DIM = 8
ONES = [1.0] * DIM


def lines(*rows: Any) -> io.BytesIO:
    return io.BytesIO("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode())


@pytest.mark.parametrize(
    "vector",
    [
        "[1, 1, 1, 1, 1, 1, 1, 1" + "0" * 310 + "]", '["1.5", "2", "1", "1", "1", "1", "1", "1"]',
        "[true, false, true, true, true, true, true, true]", "[1, 1, 1, 1, 1, 1, 1, null]",
        "[[1, 1], [1, 1]]", '"11111111"', "{}", "[1, 1, 1, 1, 1, 1, 1, NaN]", "[1, 1, 1, 1, 1, 1, 1, 1e999]",
        "7",
    ],
)  # fmt: skip
def test_a_line_whose_vector_is_no_list_of_numbers(store: mrlstore.Store, vector: str) -> None:
    bad = f'{{"id": "bad", "vector": {vector}}}'
    done = import_rows(
        store, lines({"id": "a", "vector": ONES}, bad, {"id": "b", "vector": [1, 2, 3, 4, 5, 6, 7, 8]})
    )
    assert (done.written, [refusal.place for refusal in done.refusals]) == (2, ["-:2"])
    assert [record.id for record in store.scan()] == ["a", "b"]


def test_a_norm_beyond_every_float(store: mrlstore.Store) -> None:
    bad = f'{{"id": "bad", "vector": {ONES}, "norm": 1{"0" * 310}}}'
    done = import_rows(store, lines(bad, {"id": "b", "vector": ONES}))
    assert (done.written, done.refused) == (1, 1)


def column(*cells: Any, type: Any) -> Any:
    return pa.array(cells, type=type)


BAD_COLUMNS: dict[str, Callable[[], Any]] = {
    "year 20,000": lambda: column(None, 10**7, 0, type=pa.date32()),
    "timestamps out of range": lambda: column(None, 10**12, 0, type=pa.timestamp("s")),
    "durations": lambda: column(None, 5, None, type=pa.duration("ns")),
    "bytes": lambda: column(None, b"x", None, type=pa.binary()),
    "decimals": lambda: column(None, decimal.Decimal("1.5"), None, type=pa.decimal128(5, 2)),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
@pytest.mark.parametrize("kind", ["table", "polars", "parquet"])
def test_one_cell_of_a_column(store: mrlstore.Store, name: str, kind: str) -> None:
    table: Any = pa.table({"id": ["a", "bad", "c"], "vector": [ONES] * 3, "x": BAD_COLUMNS[name]()})
    if kind == "parquet":
        from pyarrow import parquet

        file = io.BytesIO()
        parquet.write_table(table, file)
        file.seek(0)
        done = import_rows(store, file, format="parquet", extra="metadata")
    else:
        done = import_rows(store, pl.from_arrow(table) if kind == "polars" else table, extra="metadata")
    assert [refusal.place.rpartition(":")[2] for refusal in done.refusals] == ["2"], done.refusals
    assert done.written == 2
    assert "a" in store and "c" in store


def test_an_unknown_zone_does_not_matter_for_moments_are_in_utc(store: mrlstore.Store) -> None:
    for unit in ("s", "us", "ns"):
        times = pa.array([None, 0], type=pa.timestamp(unit, "Mars/Olympus"))
        done = import_rows(store, pa.table({"id": ["a", "b"], "at": times}), extra="metadata")
        assert done.written == 2, done.refusals
        assert store.get(["b"])[0].metadata == {"at": "1970-01-01T00:00:00+00:00"}


def test_nanoseconds_are_kept_as_text_with_pandas_or_without(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1_600_000_000 * 10**9 + 123_456_789
    table = pa.table(
        {
            "id": ["a", "b"],
            "naive": pa.array([moment, moment // 1000 * 1000], type=pa.timestamp("ns")),
            "zoned": pa.array([moment, None], type=pa.timestamp("ns", "Asia/Tokyo")),
            "time": pa.array([3_661_000_000_001, 0], type=pa.time64("ns")),
        }
    )
    frame = pd.DataFrame({"id": ["a"], "naive": [pd.Timestamp(moment)]})
    import_rows(store, frame, extra="metadata")
    with_pandas = store.get(["a"])[0].metadata
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    assert import_rows(store, table, extra="metadata").written == 2
    first, second = store.get(["a", "b"])
    assert first.metadata == {
        "naive": "2020-09-13T12:26:40.123456789",
        "zoned": "2020-09-13T12:26:40.123456789+00:00",
        "time": "01:01:01.000000001",
    }
    assert second.metadata == {"naive": "2020-09-13T12:26:40.123456", "time": "00:00:00"}
    assert with_pandas == {"naive": first.metadata["naive"]}


def test_odd_columns_of_pandas(store: mrlstore.Store) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "vector": [ONES, np.ones(DIM, np.float16), tuple(ONES)],
            "mixed": [1, "x", None],
            "sparse": pd.arrays.SparseArray([1, 0, 1]),
            "category": pd.Categorical(["u", "v", None]),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "when": pd.to_datetime(["2020-01-01T00:00:00", None, "2020-01-02T03:04:05"]),
        },
        index=[2, 0, 1],
    )
    assert import_rows(store, frame, extra="metadata").written == 3
    found = [record.metadata for record in store.get(["a", "b", "c"])]
    assert found == [
        {"mixed": 1, "sparse": 1, "category": "u", "flag": True, "when": "2020-01-01T00:00:00"},
        {"mixed": "x", "sparse": 0, "category": "v"},
        {"sparse": 1, "flag": False, "when": "2020-01-02T03:04:05"},
    ]
    periods = pd.DataFrame({"id": ["a", "b"], "month": [pd.Period("2020-01"), None]})
    done = import_rows(store, periods, extra="metadata")
    assert (done.written, [refusal.place for refusal in done.refusals]) == (1, ["row:1"])
    assert import_rows(store, periods, omit=["month"]).written == 2


def test_columns_of_polars(store: mrlstore.Store) -> None:
    frame = pl.DataFrame(
        {
            "id": ["a", "b"],
            "vector": pl.Series([ONES, ONES], dtype=pl.Array(pl.Float32, DIM)),
            "big": pl.Series([2**100, None], dtype=pl.Int128),
            "category": pl.Series(["u", None], dtype=pl.Categorical),
            "none": pl.Series([None, None], dtype=pl.Null),
        }
    )
    assert import_rows(store, frame.lazy(), extra="metadata").written == 2
    assert [record.metadata for record in store.get(["a", "b"])] == [{"big": 2**100, "category": "u"}, None]


EMPTY = {
    "pandas": lambda: pd.DataFrame(),
    "pandas with columns": lambda: pd.DataFrame({"id": [], "vector": []}),
    "polars": lambda: pl.DataFrame(),
    "polars with columns": lambda: pl.DataFrame({"id": [], "vector": []}),
    "arrow": lambda: pa.table({"id": pa.array([], pa.string()), "vector": pa.array([], pa.float64())}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_frame_has_no_rows(store: mrlstore.Store, name: str) -> None:
    assert import_rows(store, EMPTY[name]()).rows == 0


def test_nan_is_an_empty_cell_everywhere(store: mrlstore.Store) -> None:
    cells: dict[str, Any] = {"id": ["a", "b"], "vector": [ONES, ONES], "x": [math.nan, 1.5]}
    cells["document"] = ["one", None]
    sources = {
        "pandas": pd.DataFrame(cells),
        "polars": pl.DataFrame(cells),
        "arrow": pa.table(cells),
        "pandas objects": pd.DataFrame({**cells, "x": pd.Series([math.nan, 1.5], dtype=object)}),
        "polars null": pl.DataFrame({**cells, "x": [None, 1.5]}),
    }
    for name, source in sources.items():
        store.clear()
        done = import_rows(store, source, extra="metadata")
        assert done.written == 2, (name, done.refusals)
        found = [(record.metadata, record.document) for record in store.get(["a", "b"])]
        assert found == [(None, "one"), ({"x": 1.5}, None)], name


def test_vectors_in_every_kind_of_list(store: mrlstore.Store) -> None:
    rows = [ONES, None, [float(n + 1) for n in range(DIM)], [0.5] * 3]
    kinds = [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.int16())]
    kinds += [pa.list_view(pa.float32()), pa.large_list_view(pa.float32())]
    for kind in kinds:
        store.clear()
        whole = [
            row if row is None or not pa.types.is_integer(kind.value_type) else [1] * len(row) for row in rows
        ]
        table = pa.table({"id": ["a", "b", "c", "d"], "vector": pa.array(whole, type=kind)})
        done = import_rows(store, table.slice(0, 4))
        assert (done.written, [refusal.place for refusal in done.refusals]) == (3, ["row:4"]), kind
        assert store.stats().rows_without_vector == 1
        store.clear()
        assert import_rows(store, table.slice(2, 1)).written == 1
    tensor = pa.fixed_shape_tensor(pa.float32(), [DIM])
    storage = pa.array([ONES, None], type=pa.list_(pa.float32(), DIM))
    table = pa.table({"id": ["t", "u"], "vector": pa.ExtensionArray.from_storage(tensor, storage)})
    assert import_rows(store, table).written == 2
    assert store.stats().rows_without_vector == 1
    square = pa.fixed_shape_tensor(pa.float32(), [2, 4])
    table = pa.table({"id": ["t"], "vector": pa.ExtensionArray.from_storage(square, storage.slice(0, 1))})
    with pytest.raises(InvalidInput, match="not lists of numbers"):
        import_rows(store, table)


def test_dates_inside_of_metadata_become_text(store: mrlstore.Store) -> None:
    metadata = [{"when": datetime.date(2020, 1, 2), "more": [{"at": datetime.datetime(2021, 1, 1, 2)}]}]
    for source in (
        pa.table({"id": ["a"], "metadata": metadata}),
        pd.DataFrame({"id": ["a"], "metadata": metadata}),
        pl.DataFrame({"id": ["a"], "metadata": metadata}),
    ):
        store.clear()
        assert import_rows(store, source).written == 1
        expected = {"when": "2020-01-02", "more": [{"at": "2021-01-01T02:00:00"}]}
        assert store.get(["a"])[0].metadata == expected


@pytest.mark.parametrize("omitted", [["x"], ["x", "y"], ["x", "vector"], ["metadata"]])
def test_fields_can_be_left_out(store: mrlstore.Store, omitted: list[str]) -> None:
    rows = {"id": ["a"], "vector": [ONES], "x": [b"bytes"], "y": [2], "metadata": ['{"m": 1}']}
    row = {"id": "a", "vector": ONES, "x": [math.nan], "y": 2, "metadata": {"m": 1}}
    for source in (pa.table(rows), pd.DataFrame(rows), pl.DataFrame(rows), lines(row)):
        store.clear()
        done = import_rows(store, source, extra="metadata", omit=omitted)
        if "x" not in omitted:
            assert done.refused == 1
            continue
        assert done.written == 1, done.refusals
        record = store.get(["a"], include=("metadata", "vector"))[0]
        assert (record.vector is None) == ("vector" in omitted)
        assert record.metadata == ({"m": 1} if "y" in omitted else {"m": 1, "y": 2})
    for wrong in ("x", [1], 5):
        with pytest.raises(InvalidInput, match="omit"):
            import_rows(store, lines(row), omit=wrong)  # type: ignore[arg-type]
