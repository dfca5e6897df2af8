"""Upsert: what goes in comes out, conflict policies, duplicates, kinds of vectors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mrlstore import IdExists, InvalidInput
from mrlstore.storage.vector_rows import to_unit_rows
from mrlstore.writing.batch import metadata_text
from tests.oracle import Oracle, assert_same_rows, assert_same_vector, nested_vectors

ALL = ("metadata", "document", "vector")


def test_what_goes_in_comes_out(store: Any) -> None:
    vectors = nested_vectors(3, 8) * 7
    metadatas: list[Any] = [
        {"s": "x", "i": 1, "f": 1.5, "b": True, "n": None, "l": [1, "a"], "d": {"e": {}}},
        {},
        None,
    ]
    documents = ["one", "", None]
    assert store.upsert(["a", "b", "c"], vectors, metadatas, documents) == 3
    records = store.get(["a", "b", "c"], include=ALL)
    assert [record.metadata for record in records] == metadatas
    assert [record.document for record in records] == documents
    for record, vector in zip(records, vectors, strict=True):
        assert_same_vector(record.vector, vector)


def test_types_of_metadata_survive(store: Any) -> None:
    metadata = {
        "int": 1,
        "float": 1.0,
        "bool": True,
        "big": 2**53 + 1,
        "huge": 2**80,
        "tiny": 5e-324,
        "neg": -0.5,
    }
    store.upsert(["a"], np.ones((1, 8)), [metadata])
    found = store.get(["a"])[0].metadata
    assert found == metadata
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in metadata.items()
    }


FLAT: list[dict[str, Any]] = [
    {},
    {"": ""},
    {"a": 1, "b": -(2**70), "c": 0.1, "d": -0.0, "e": 1e300, "f": True, "g": None},
    {'"\\/\b\n\x00\x7f\u2028': '"\\/\b\n\x00\x7f\u2028', "ü": "🦆", "true": "null"},
]


@pytest.mark.parametrize("metadata", FLAT)
def test_flat_metadata_are_written_as_any_other(metadata: dict[str, Any]) -> None:
    text = metadata_text(metadata, "a")
    assert text == json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    assert f'{{"inner":{text}}}' == metadata_text({"inner": metadata}, "a")


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 10**5_000, "\ud800"], ids="abcd")
def test_flat_metadata_that_cannot_be_written_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="metadata of 'a'"):
        metadata_text({"n": 1, "x": value}, "a")


def test_metadata_given_is_not_kept_by_reference(store: Any) -> None:
    metadata: dict[str, Any] = {"list": [1]}
    vector = np.ones((1, 8), dtype=np.float32)
    store.upsert(["a"], vector, [metadata])
    metadata["list"].append(2)
    vector[:] = [[-1, 0, 0, 0, 0, 0, 0, 0]]
    assert store.get(["a"])[0].metadata == {"list": [1]}
    assert store.query(np.ones(8), k=1)[0].score == pytest.approx(1.0, abs=1e-6)
    store.get(["a"])[0].metadata["list"].append(3)
    assert store.get(["a"])[0].metadata == {"list": [1]}


def test_replace_is_the_default_and_replaces_all_of_a_row(store: Any) -> None:
    first, second = nested_vectors(2, 8)
    store.upsert(["a"], [first], [{"x": 1, "y": 2}], ["old"])
    assert store.upsert(["a"], [second], [{"x": 3}]) == 1
    (record,) = store.get(["a"], include=ALL)
    assert (record.metadata, record.document) == ({"x": 3}, None)
    assert_same_vector(record.vector, second)
    assert len(store) == 1


def test_replacing_with_no_vector_takes_it_out_of_queries(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    store.upsert(["a"], None, [{"x": 1}])
    assert store.query(np.ones(8)).ids == []
    assert store.get(["a"], include=ALL)[0].vector is None


def test_skip_keeps_what_is_there(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"x": 1}])
    assert store.upsert(["a", "b"], np.ones((2, 8)), [{"x": 2}, {"x": 3}], on_conflict="skip") == 1
    assert [record.metadata for record in store.get(["a", "b"])] == [{"x": 1}, {"x": 3}]


def test_error_refuses_the_whole_batch_and_names_the_id(store: Any) -> None:
    store.upsert(["taken"], np.ones((1, 8)), [{"x": 1}])
    with pytest.raises(IdExists, match="taken"):
        store.upsert(["new", "taken"], np.ones((2, 8)), on_conflict="error")
    assert "new" not in store
    assert store.get(["taken"])[0].metadata == {"x": 1}
    assert store.upsert(["new"], np.ones((1, 8)), on_conflict="error") == 1


@pytest.mark.parametrize("policy", ["replace", "skip", "error"])
def test_conflicts_are_seen_in_large_batches_and_segments_too(opened: Any, policy: str) -> None:
    store = opened(dim=4)
    vectors = nested_vectors(4200, 4)
    store.upsert([f"r{i}" for i in range(4200)], vectors, [{"turn": 1}] * 4200)
    ids = [f"r{i}" for i in range(4199, 8500)]
    rows = nested_vectors(len(ids), 4, seed=1)
    if policy == "error":
        with pytest.raises(IdExists, match="r4199"):
            store.upsert(ids, rows, [{"turn": 2}] * len(ids), on_conflict=policy)
        assert len(store) == 4200
        assert store.count({"turn": 2}) == 0
    else:
        written = store.upsert(ids, rows, [{"turn": 2}] * len(ids), on_conflict=policy)
        assert written == len(ids) - (policy == "skip")
        assert store.get(["r4199"])[0].metadata == {"turn": 1 if policy == "skip" else 2}
        assert len(store) == 8500


def test_the_last_of_equal_ids_in_a_batch_wins(store: Any) -> None:
    vectors = nested_vectors(3, 8)
    store.upsert(["a", "b", "a"], vectors, [{"i": 0}, {"i": 1}, {"i": 2}], ["x", "y", "z"])
    assert len(store) == 2
    (record,) = store.get(["a"], include=ALL)
    assert (record.metadata, record.document) == ({"i": 2}, "z")
    assert_same_vector(record.vector, vectors[2])


def test_the_last_of_equal_ids_wins_in_a_large_batch(opened: Any) -> None:
    store = opened(dim=4)
    n = 4500
    vectors = nested_vectors(n, 4)
    ids = [f"r{i % 4400}" for i in range(n)]
    store.upsert(ids, vectors, [{"i": i} for i in range(n)])
    assert len(store) == store.count() == 4400
    assert [record.metadata for record in store.get(["r0", "r99", "r100"])] == [
        {"i": 4400},
        {"i": 4499},
        {"i": 100},
    ]
    found = store.query(vectors[0], k=4400, exact=True)
    assert len(found) == 4400


def test_same_id_in_two_namespaces_is_two_rows(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"in": "one"}], namespace="one")
    store.upsert(["a"], np.ones((1, 8)), [{"in": "two"}], namespace="two")
    assert store.get(["a"], namespace="one")[0].metadata == {"in": "one"}
    assert store.get(["a"], namespace="two")[0].metadata == {"in": "two"}
    assert store.get(["a"]) == []
    assert (store.count(namespace=None), len(store)) == (2, 0)


ODD_IDS = [
    "",
    " ",
    "\0",
    "a\0b",
    "a\0c",
    "\n",
    "'; DROP TABLE rows; --",
    "../../etc/passwd",
    "é",
    "e\u0301",
    "\u202eevil",
    "🦆" * 100,
    "\ufeff",
    "%",
    "_",
    "x" * 1024,
    "ñ" * 512,
    "NULL",
    "0",
    "00",
    "A",
    "a",
]


def test_ids_are_opaque(store: Any) -> None:
    ids = [name for name in ODD_IDS if name]
    vectors = nested_vectors(len(ids), 8)
    store.upsert(ids, vectors, [{"id": name} for name in ids])
    assert len(store) == len(ids)
    assert [record.id for record in store.get(ids)] == ids
    for name, vector in zip(ids, vectors, strict=True):
        assert store.query(vector, k=1, exact=True).ids == [name]
        assert store.count({"id": name}) == 1
        assert name in store
    assert store.delete(["a\0b", "é"]) == 2
    assert "a\0c" in store and "e\u0301" in store and "é" not in store


def test_ids_are_opaque_in_segments(opened: Any) -> None:
    store = opened(dim=8)
    ids = [name for name in ODD_IDS if name] + [f"r{i}" for i in range(4200)]
    vectors = nested_vectors(len(ids), 8)
    store.upsert(ids, vectors)
    store.optimize()
    for name, vector in list(zip(ids, vectors, strict=True))[: len(ODD_IDS)]:
        assert store.query(vector, k=1, exact=True, include=()).ids == [name]


def column(rows: list[Any]) -> Any:
    """An object array [n] of rows, as the column of a data frame is for numpy."""
    made = np.empty(len(rows), dtype=object)
    made[:] = rows
    return made


class Series:
    """What is known of a data frame's column: that numpy can make an array of it."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return column(self.rows)


VECTOR_KINDS: dict[str, Any] = {
    "float32": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "big-endian": lambda rows: rows.astype(">f4"),
    "Fortran order": lambda rows: np.asfortranarray(rows),
    "strided": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "reversed": lambda rows: rows[::-1][::-1],
    "read-only": lambda rows: np.frombuffer(rows.tobytes(), dtype=np.float32).reshape(rows.shape),
    "unaligned": lambda rows: (
        np.frombuffer(b"x" + rows.tobytes(), dtype=np.uint8)[1:].view("<f4").reshape(rows.shape)
    ),
    "lists": lambda rows: rows.tolist(),
    "tuples": lambda rows: tuple(tuple(row) for row in rows.tolist()),
    "list of arrays": lambda rows: list(rows),
    "mixed list": lambda rows: [rows[0], rows[1].tolist(), tuple(rows[2].tolist())],
    "list of float64 arrays": lambda rows: [row.astype(np.float64) for row in rows],
    "object array of numbers": lambda rows: rows.astype(object),
    "column of arrays": lambda rows: column(list(rows)),
    "column of lists": lambda rows: column(rows.tolist()),
    "something that gives a column": lambda rows: Series(rows.tolist()),
}


@pytest.mark.parametrize("kind", VECTOR_KINDS)
def test_kinds_of_vectors(store: Any, kind: str) -> None:
    rows = np.round(nested_vectors(3, 8) * 64) / 16 + 0.125
    store.upsert(["a", "b", "c"], VECTOR_KINDS[kind](rows))
    for record, row in zip(store.get(["a", "b", "c"], include=("vector",)), rows, strict=True):
        assert_same_vector(record.vector, row)


@pytest.mark.parametrize(
    "kind", ["float32", "float16", "big-endian", "Fortran order", "strided", "unaligned"]
)
def test_large_batches_have_the_bits_of_small_ones(kind: str) -> None:
    rows = nested_vectors(1_100, 37) * np.linspace(0.01, 100, 1_100, dtype=np.float32)[:, None]
    given = VECTOR_KINDS[kind](rows)
    before = np.array(given)
    units, norms = to_unit_rows(given)
    np.testing.assert_array_equal(given, before)
    for start in range(0, 1_100, 100):
        few, lengths = to_unit_rows(given[start : start + 100])
        np.testing.assert_array_equal(units[start : start + 100].view(np.uint16), few.view(np.uint16))
        np.testing.assert_array_equal(norms[start : start + 100], lengths)


@pytest.mark.parametrize("row", [0, 511, 512, 1_099])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_bad_row_of_a_large_batch_is_named(row: int, value: float) -> None:
    rows = nested_vectors(1_100, 37)
    rows[row] = value
    with pytest.raises(InvalidInput, match=rf"vectors: row {row} (has|is)"):
        to_unit_rows(rows)


@pytest.mark.parametrize("kind", [column, Series])
def test_a_column_may_lack_vectors(store: Any, kind: Any) -> None:
    store.upsert(["a", "b"], kind([[1.0] * 8, None]))
    assert [record.vector is None for record in store.get(["a", "b"], include=("vector",))] == [False, True]
    assert store.query_batch(kind([[1.0] * 8, [2.0] * 8]), include=()).ids == [["a"], ["a"]]


def test_integers_are_numbers(store: Any) -> None:
    rows = np.arange(1, 17).reshape(2, 8)
    store.upsert(["a", "b"], rows)
    store.upsert(["c", "d"], rows.tolist())
    for name, row in zip("abcd", [*rows, *rows], strict=True):
        assert_same_vector(store.get([name], include=("vector",))[0].vector, row)


def test_lengths_of_vectors_come_back(store: Any) -> None:
    base = nested_vectors(1, 8)[0] / np.linalg.norm(nested_vectors(1, 8)[0])
    for length in (1e-30, 1e-6, 1.0, 1e6, 1e30):
        store.upsert(["a"], [base * np.float32(length)])
        found = store.get(["a"], include=("vector",))[0].vector
        assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(length, rel=2e-3)
        assert store.query(base, k=1)[0].score == pytest.approx(1.0, abs=1e-5)


def test_float64_beyond_float32_in_parts_is_refused_or_right(store: Any) -> None:
    huge = np.full((1, 8), 1e300)
    with pytest.raises(InvalidInput, match="a"):
        store.upsert(["a"], huge)
    assert len(store) == 0


def test_an_empty_batch_writes_nothing(store: Any) -> None:
    assert store.upsert([], np.empty((0, 8), dtype=np.float32)) == 0
    assert store.upsert([], None) == 0
    assert store.upsert([], []) == 0
    assert len(store) == 0


def test_rows_without_vectors(opened: Any) -> None:
    store = opened(dim=8)
    oracle = Oracle()
    vectors = nested_vectors(2, 8)
    for target in (store, oracle):
        target.upsert(["a", "b", "c"], [vectors[0], None, vectors[1]], [{"x": 1}] * 3, ["d1", "d2", "d3"])
        target.upsert(["d", "e"], None, [{"x": 1}, {"x": 2}])
        target.upsert(["f"], [None], [{"x": 1}])
    assert_same_rows(store, oracle)
    assert sorted(store.query(vectors[0], k=10).ids) == ["a", "c"]
    assert sorted(store.query(vectors[0], k=10, where={"x": 1}, exact=True).ids) == ["a", "c"]
    assert store.count({"x": 1}) == 5
    assert store.stats().rows_without_vector == 4
    store.optimize()
    assert_same_rows(store, oracle)
    assert sorted(store.query(vectors[0], k=10).ids) == ["a", "c"]


def test_rows_without_vectors_need_no_dim(opened: Any) -> None:
    store = opened()
    store.upsert(["a", "b"], None, [{"x": 1}, {"x": 2}])
    assert store.stats().dim is None
    assert store.count({"x": 2}) == 1
    assert [record.id for record in store.scan()] == ["a", "b"]
    store.optimize()
    store.upsert(["c"], np.ones((1, 5)))
    assert store.stats().dim == 5
    assert store.query(np.ones(5)).ids == ["c"]
    assert len(store) == 3


def test_many_rows_without_vectors_in_one_batch(opened: Any) -> None:
    store = opened(dim=4)
    store.upsert([f"r{i}" for i in range(5000)], None, [{"i": i} for i in range(5000)])
    store.optimize()
    assert len(store) == 5000
    assert store.count({"i": {"$lt": 10}}) == 10
    assert store.query(np.ones(4)).ids == []


def test_documents_of_every_size(store: Any) -> None:
    documents = ["", "x", "y\0z", "ü" * 100_000, "line\n" * 1000]
    store.upsert([str(i) for i in range(5)], np.ones((5, 8)), None, documents)
    assert [record.document for record in store.get([str(i) for i in range(5)])] == documents


def test_ids_may_be_any_sequence_or_array_of_strings(store: Any) -> None:
    store.upsert(("a", "b"), np.ones((2, 8)))
    store.upsert(np.array(["c", "d"]), np.ones((2, 8)))
    assert sorted(record.id for record in store.scan()) == ["a", "b", "c", "d"]
    assert all(type(record.id) is str for record in store.scan())
