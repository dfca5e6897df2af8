"""Values of numpy and its kin: one meaning each, in metadata, in filters and as vectors, or a typed error."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput

NUMBERS = [
    (np.float16(1.5), 1.5),
    (np.int8(-3), -3),
    (np.uint64(2**63), 2**63),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
]
NO_VALUES = [
    np.longdouble("0.1"),
    np.longdouble("inf"),
    np.longdouble("1e400"),
    np.datetime64("2024-01-01"),
    np.datetime64("2024-01-01T00:00:00"),
    np.datetime64("2024-01-01T00:00:00", "ns"),
    np.datetime64("NaT", "s"),
    np.datetime64("NaT", "ns"),
    np.timedelta64(3, "s"),
    np.timedelta64(3, "ns"),
    np.timedelta64("NaT", "s"),
    np.complex64(1),
    np.bytes_(b"x"),
    np.array([(1, 2.0)], dtype="i4,f8")[0],
    np.void(b"ab"),
    datetime.date(2024, 1, 1),
    datetime.datetime(2024, 1, 1),
    datetime.timedelta(1),
    b"bytes",
]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with mrlstore.open(tmp_path / "s.mrl", dim=4, auto_maintain=False) as store:
        yield store


@pytest.mark.parametrize(("value", "plain"), NUMBERS, ids=repr)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"b": {"c": v}}])
def test_a_number_of_numpy_is_the_number(store: Any, value: Any, plain: Any, wrap: Any) -> None:
    store.upsert(["a"], np.ones((1, 4)), [{"x": wrap(value)}])
    store.update(["a"], [{"y": value}])
    (row,) = store.get(["a"])
    assert row.metadata == {"x": wrap(plain), "y": plain}
    assert type(row.metadata["y"]) is type(plain)
    assert store.count({"y": value}) == store.count({"y": plain}) == 1


@pytest.mark.parametrize("value", NO_VALUES, ids=repr)
def test_what_json_has_no_value_for_is_refused(store: Any, value: Any) -> None:
    store.upsert(["a"], np.ones((1, 4)), [{"x": None, "y": 3}])
    for metadata in ({"x": value}, {"x": [value]}, {"x": {"y": value}}):
        with pytest.raises(InvalidInput, match="metadata of 'a'"):
            store.upsert(["a"], np.ones((1, 4)), [metadata])
        with pytest.raises(InvalidInput, match="metadata of 'a'"):
            store.update(["a"], [metadata])
    for where in ({"x": value}, {"x": {"$in": [value]}}, {"x": {"$contains": value}}):
        with pytest.raises(InvalidInput, match="where"):
            store.count(where)
    with pytest.raises(InvalidInput, match="where"):
        store.count({"y": {"$gt": value}})
    assert store.get(["a"])[0].metadata == {"x": None, "y": 3}


def test_a_time_is_refused_with_what_to_do(store: Any) -> None:
    for value in (datetime.datetime(2024, 1, 1), np.datetime64("2024-01-01T00:00:00", "ns")):
        with pytest.raises(InvalidInput, match="as text in UTC"):
            store.upsert(["a"], None, [{"x": value}])


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_vectors_of_types_that_others_add_to_numpy(store: Any, name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = np.array([[1, 2, -3, 4], [0, 1, 0, -1]]).astype(getattr(ml_dtypes, name))
    store.upsert(["a", "b"], rows)
    store.upsert(["c"], [rows[0]])
    plain = rows.astype(np.float32)
    np.testing.assert_allclose(store.get(["a"], include=["vector"])[0].vector, plain[0], rtol=1e-3)
    assert store.query(rows[0], exact=True).ids == ["a", "c", "b"]
    assert store.query_batch(rows, k=1).ids == [["a"], ["b"]]
    store.upsert(["d"], np.ones((1, 4)), [{"x": rows[0, 1]}])
    assert store.get(["d"])[0].metadata == {"x": 2.0} and store.count({"x": rows[0, 1]}) == 1
    with pytest.raises(InvalidInput, match="not finite|zero vector"):
        store.upsert(["e"], np.full((1, 4), np.nan).astype(ml_dtypes.bfloat16) * rows[:1, :1])


def test_raw_bytes_are_no_numbers(store: Any) -> None:
    with pytest.raises(InvalidInput, match="vectors"):
        store.upsert(["a"], np.zeros((1, 4), dtype="V2"))


def test_a_duration_is_no_count(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(InvalidInput, match="k: expected a whole number"):
        store.query(np.ones(4), k=np.timedelta64(5, "s"))
    with pytest.raises(InvalidInput, match="min_score"):
        store.query(np.ones(4), min_score=np.timedelta64(5, "s"))
