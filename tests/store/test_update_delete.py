"""Update, delete, clear and namespaces: by ids and by filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrlstore import InvalidInput
from tests.oracle import Oracle, assert_exact, assert_same_rows, assert_same_vector, nested_vectors


@pytest.fixture
def filled(opened: Any) -> tuple[Any, Oracle]:
    """Forty rows in two namespaces, some without vector, metadata or document."""
    store, oracle = opened(dim=6, prefix_dim=3), Oracle()
    for space in ("", "other"):
        vectors: list[Any] = [None if i % 7 == 0 else row for i, row in enumerate(nested_vectors(20, 6))]
        metadatas = [None if i % 9 == 0 else {"n": i, "parity": i % 2, "tags": [i % 3]} for i in range(20)]
        documents = [None if i % 4 == 0 else f"doc {i}" for i in range(20)]
        for target in (store, oracle):
            target.upsert([f"r{i}" for i in range(20)], vectors, metadatas, documents, namespace=space)
    return store, oracle


def test_update_merges_keys_and_none_removes_one(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    change: Any = ["r1", "r2", "r0"], [{"n": None, "new": 1}, {"tags": ["x"]}, {"first": True}]
    assert store.update(*change) == oracle.update(*change) == 3
    assert store.get(["r1"])[0].metadata == {"parity": 1, "tags": [1], "new": 1}
    assert_same_rows(store, oracle)


def test_update_replaces_documents_and_keeps_the_rest(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.update(["r1", "r2"], documents=["new", None]) == 2
    oracle.update(["r1", "r2"], documents=["new", None])
    assert_same_rows(store, oracle)


def test_update_of_missing_ids_counts_only_what_was_there(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.update(["nobody", "r3"], [{"x": 1}, {"x": 2}]) == 1
    oracle.update(["r3"], [{"x": 2}])
    assert "nobody" not in store
    assert_same_rows(store, oracle)


def test_update_keeps_the_very_same_vector(filled: tuple[Any, Oracle]) -> None:
    store, _ = filled
    query = nested_vectors(1, 6, seed=5)[0]
    before = {hit.id: hit.score for hit in store.query(query, k=20, exact=True)}
    for turn in range(5):
        store.update([f"r{i}" for i in range(20)], [{"turn": turn}] * 20)
    store.optimize()
    store.update([f"r{i}" for i in range(20)], [{"turn": 9}] * 20)
    after = {hit.id: hit.score for hit in store.query(query, k=20, exact=True)}
    assert after == before


def test_update_of_a_vector_keeps_metadata_and_document(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    given = nested_vectors(3, 6, seed=8)
    for target in (store, oracle):  # r7 has no vector so far
        assert target.update(["r1", "nobody", "r7"], vectors=list(given)) == 2
        assert target.update(["r2", "r3"], [{"x": 1}, None], [None, "new"], vectors=[None, given[0]]) == 2
    assert_same_rows(store, oracle)
    assert store.get(["r1"])[0].document == "doc 1"
    assert_exact(store.query(given[0], k=20, exact=True), oracle.scores(given[0]), 20)
    store.optimize()
    assert_same_rows(store, oracle)
    assert_exact(store.query(given[2], k=20, exact=True), oracle.scores(given[2]), 20)


def test_of_an_id_updated_twice_in_one_call_the_last_vector_stays(filled: tuple[Any, Oracle]) -> None:
    store, _ = filled
    one, two = nested_vectors(2, 6, seed=8)
    assert store.update(["r1", "r1", "r1"], [{"x": 1}, None, {"y": 2}], vectors=[one, two, None]) == 1
    (record,) = store.get(["r1"], include=("metadata", "vector"))
    assert (record.metadata["x"], record.metadata["y"]) == (1, 2)
    assert_same_vector(record.vector, two)


def test_update_of_many_vectors_writes_a_segment(opened: Any) -> None:
    store, oracle, ids, _ = with_graph(opened, 4300)
    given = nested_vectors(4300, 8, seed=4)
    for target in (store, oracle):
        assert target.update(ids, vectors=given) == 4300
    stats = store.stats()
    assert (stats.tail_rows, stats.segments, stats.dead_rows) == (0, 2, 4300)
    assert_same_rows(store, oracle)
    assert_exact(store.query(given[9], k=10, exact=True), oracle.scores(given[9]), 10)


def test_update_gives_vectors_to_rows_of_a_store_without_any(opened: Any) -> None:
    store = opened()
    store.upsert(["a", "b"], None, [{"x": 1}, {"x": 2}])
    assert store.update(["nobody"], vectors=[[1.0, 2.0, 3.0]]) == 0
    assert store.stats().dim is None
    assert store.update(["b"], vectors=[[1.0, 2.0, 3.0]]) == 1
    assert store.dim == store.settings.dim == 3
    assert store.query([1, 2, 3]).ids == ["b"]
    with pytest.raises(InvalidInput, match="4 dimensions, but this store has 3"):
        store.update(["a"], vectors=[[1.0, 2.0, 3.0, 4.0]])


def test_update_where(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    where = {"parity": 1, "n": {"$gt": 5}}
    changed = store.update(metadatas={"seen": [1, 2], "n": None}, where=where)
    assert changed == oracle.update_where(where, {"seen": [1, 2], "n": None}) > 0
    assert_same_rows(store, oracle)
    assert store.update(metadatas={"x": 1}, where={"nothing": "here"}) == 0


def test_update_by_ids_and_where_takes_the_rows_that_are_both(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.update(["r1", "r2", "r3"], [{"x": 1}, {"x": 2}, {"x": 3}], where={"parity": 1}) == 2
    oracle.update(["r1", "r3"], [{"x": 1}, {"x": 3}])
    assert_same_rows(store, oracle)


def test_update_is_per_namespace(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    store.update(["r1"], [{"x": 1}], namespace="other")
    oracle.update(["r1"], [{"x": 1}], namespace="other")
    store.update(metadatas={"y": 1}, where={"parity": 0}, namespace="other")
    oracle.update_where({"parity": 0}, {"y": 1}, "other")
    assert_same_rows(store, oracle)


def with_graph(opened: Any, rows: int) -> tuple[Any, Oracle, list[str], np.ndarray]:
    """A store and its oracle with as many rows, indexed; their ids and vectors."""
    store, oracle = opened(dim=8, prefix_dim=4), Oracle()
    vectors = nested_vectors(rows, 8)
    ids = [f"r{i}" for i in range(rows)]
    for target in (store, oracle):
        target.upsert(ids, vectors, [{"n": i} for i in range(rows)])
    store.optimize()
    return store, oracle, ids, vectors


def test_update_in_a_segment_with_a_graph(opened: Any) -> None:
    store, oracle, _, vectors = with_graph(opened, 2500)
    changed = store.update(metadatas={"even": True}, where={"n": {"$lt": 100}})
    assert changed == oracle.update_where({"n": {"$lt": 100}}, {"even": True}) == 100
    assert store.count({"even": True}) == 100
    assert store.query(vectors[5], k=1, where={"even": True}).ids == ["r5"]
    store.optimize()
    assert_same_rows(store, oracle)
    assert store.query(vectors[5], k=1, where={"even": True}).ids == ["r5"]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.update(),
        lambda s: s.update(["r1"]),
        lambda s: s.update(metadatas=[{"x": 1}]),
        lambda s: s.update(["r1"], [{"x": 1}, {"x": 2}]),
        lambda s: s.update(["r1", "r2"], [{"x": 1}]),
        lambda s: s.update(["r1"], documents=["a", "b"]),
        lambda s: s.update(metadatas=[{"x": 1}], where={"n": 1}),
        lambda s: s.update(["r1"], ["no dict"]),
        lambda s: s.update(["r1"], documents=[3]),
        lambda s: s.update([3], [{"x": 1}]),
        lambda s: s.update(metadatas={"x": 1}, where={"n": {"$unknown": 1}}),
        lambda s: s.update(vectors=[[1.0] * 6], where={"n": 1}),
        lambda s: s.update(["r1"], vectors=[[1.0] * 5]),
        lambda s: s.update(["r1", "r2"], vectors=[[1.0] * 6]),
        lambda s: s.update(["r1", "r2"], [{"x": 1}] * 2, vectors=[[1.0] * 6, [0.0] * 6]),
        lambda s: s.update(["r1"], vectors=[["a"] * 6]),
        lambda s: s.update(metadatas={"x": float("nan")}, where={"n": 1}),
        lambda s: s.update(["r1"], [{"x": "y" * 70_000}]),
    ],
)
def test_bad_updates_are_refused_whole(filled: tuple[Any, Oracle], call: Any) -> None:
    store, oracle = filled
    with pytest.raises((InvalidInput, ValueError)):
        call(store)
    assert_same_rows(store, oracle)


def test_an_update_beyond_the_limit_of_the_merged_row_is_refused_whole(store: Any) -> None:
    store.upsert(["a", "b"], np.ones((2, 8)), [{"x": "y" * 40_000}, {}])
    with pytest.raises(ValueError, match="a"):
        store.update(["b", "a"], [{"ok": 1}, {"z": "y" * 40_000}])
    assert store.get(["b"])[0].metadata == {}
    assert set(store.get(["a"])[0].metadata) == {"x"}


def test_delete_by_ids(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    gone = ["r1", "r2", "nobody", "r1"]
    assert store.delete(gone) == oracle.delete(gone) == 2
    assert "r1" not in store and store.get(["r1"]) == []
    assert_same_rows(store, oracle)
    assert store.delete(gone) == 0
    assert store.delete([]) == 0


def test_delete_where(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    where = {"$or": [{"n": {"$gte": 15}}, {"tags": 0}]}
    assert store.delete(where=where) == oracle.delete(oracle.ids(where)) > 0
    assert_same_rows(store, oracle)


def test_delete_by_ids_and_where_takes_the_rows_that_are_both(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.delete(["r1", "r2", "r3"], where={"parity": 1}) == oracle.delete(["r1", "r3"]) == 2
    assert_same_rows(store, oracle)


def test_delete_by_prefix_alone_and_with_the_rest(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    odd = {"parity": 1}
    assert store.delete(prefix="r1", where=odd) == oracle.delete(["r1", "r11", "r13", "r15", "r17", "r19"])
    assert_same_rows(store, oracle)
    assert store.delete(["r12", "r2", "r14"], prefix="r1", where={"n": 12}) == oracle.delete(["r12"]) == 1
    assert store.delete(prefix="r1", namespace="other") == 11
    oracle.delete([name for name in oracle.ids(None, "other") if name.startswith("r1")], "other")
    assert store.delete(["r2", "r14"], prefix="r1") == oracle.delete(["r14"]) == 1
    assert store.delete(prefix="nobody") == 0
    assert_same_rows(store, oracle)


@pytest.mark.parametrize("prefix", ["a", "a\U0010ffff", "\ud7ff", "é", "%", "a_", "\U0010ffff"])
def test_delete_by_prefixes_at_the_edges(store: Any, prefix: str) -> None:
    ids = ["a", "a\U0010ffff", "a\U0010ffffz", "b", "\ud7ff", "\ue000", "é", "e", "%x", "a_b", "aXb", "A"]
    ids += ["\U0010ffff", "\U0010ffff\U0010ffff"]
    store.upsert(ids, None)
    assert store.delete(prefix=prefix) == sum(name.startswith(prefix) for name in ids) > 0
    assert {record.id for record in store.scan()} == {name for name in ids if not name.startswith(prefix)}


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.delete(),
        lambda s: s.delete(prefix=""),
        lambda s: s.delete(prefix=3),
        lambda s: s.delete(prefix="\ud800"),
        lambda s: s.delete(where={}),
        lambda s: s.delete(None),
        lambda s: s.delete("r1"),
        lambda s: s.delete([1]),
        lambda s: s.delete(["r1", None]),
        lambda s: s.delete(where={"n": {"$gt": None}}),
        lambda s: s.delete(where=[("n", 1)]),
        lambda s: s.delete(["r1"], namespace=3),
    ],
)
def test_bad_deletes_are_refused_and_remove_nothing(filled: tuple[Any, Oracle], call: Any) -> None:
    store, oracle = filled
    with pytest.raises(InvalidInput):
        call(store)
    assert_same_rows(store, oracle)


def test_deleted_rows_are_found_by_nothing(opened: Any) -> None:
    store, oracle, ids, vectors = with_graph(opened, 2600)
    for target in (store, oracle):
        target.delete(ids[::2])
    for options in ({}, {"exact": True}, {"dim": 4}, {"where": {"n": {"$gte": 0}}}):
        found = store.query(vectors[0], k=2600, **options)
        assert not set(found.ids) & set(ids[::2]), options
        assert len(found) == 1300, options
    assert_same_rows(store, oracle)
    store.optimize()
    assert_same_rows(store, oracle)
    for target in (store, oracle):
        target.upsert(ids[:10], vectors[:10])
    assert_same_rows(store, oracle)
    assert store.query(vectors[0], k=1).ids == ["r0"]


def test_a_row_written_again_after_deletion_is_new(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"x": 1}], ["d"])
    store.delete(["a"])
    store.upsert(["a"], np.ones((1, 8)))
    (record,) = store.get(["a"])
    assert (record.metadata, record.document) == (None, None)


def test_clear_empties_one_namespace(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.clear("other") == oracle.clear("other") == 20
    assert_same_rows(store, oracle)
    assert store.namespaces() == {"": 20}
    assert store.clear("nobody") == 0
    assert store.clear() == 20
    assert len(store) == 0
    assert store.namespaces() == {}
    assert store.query(np.ones(6)).ids == []


def test_clear_of_segments_and_refill(opened: Any) -> None:
    store = opened(dim=4)
    ids = [f"r{i}" for i in range(4200)]
    for _ in range(3):
        store.upsert(ids, nested_vectors(4200, 4))
        store.optimize()
        assert store.clear() == 4200
        store.optimize()
        assert len(store) == store.count() == 0
        assert store.query(np.ones(4), k=5).ids == []
    store.upsert(ids[:3], nested_vectors(3, 4))
    assert len(store) == 3


def test_namespaces_are_apart(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    assert store.namespaces() == {"": 20, "other": 20}
    store.delete(["r1", "r2", "r3"])
    assert store.namespaces() == {"": 17, "other": 20}
    assert store.count(namespace="other") == 20
    assert store.count(namespace=None) == store.stats().rows == 37
    assert store.count() == len(store) == 17
    assert "r1" not in store
    assert len(store.get(["r1"], namespace="other")) == 1
    query = nested_vectors(1, 6, seed=3)[0]
    assert "r1" in store.query(query, k=20, namespace="other").ids
    assert "r1" not in store.query(query, k=20).ids
    assert oracle.namespaces() == {"": 20, "other": 20}


@pytest.mark.parametrize(
    "name", ["", "a", "a/b", "../up", "ü" * 128, "x" * 256, "nul\0", "🦆", " ", "%", "A"]
)
def test_odd_namespaces(opened: Any, name: str) -> None:
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)), [{"x": 1}], namespace=name)
    store.upsert(["b"], np.ones((1, 4)), namespace=name + "-" if len(name.encode()) < 256 else "other")
    assert store.namespaces()[name] == 1
    assert store.query(np.ones(4), namespace=name).ids == ["a"]
    assert [record.id for record in store.scan(namespace=name)] == ["a"]
    store.optimize()
    assert store.query(np.ones(4), namespace=name).ids == ["a"]
    assert store.clear(name) == 1


def test_many_namespaces_in_a_segment(opened: Any) -> None:
    store, oracle = opened(dim=4), Oracle()
    vectors = nested_vectors(5000, 4)
    for part in range(50):
        rows = vectors[part * 100 : part * 100 + 100]
        for target in (store, oracle):
            target.upsert([f"r{i}" for i in range(100)], rows, namespace=f"tenant {part}")
    store.optimize()
    assert len(store.namespaces()) == 50
    for part in range(0, 50, 7):
        space = f"tenant {part}"
        found = store.query(vectors[part * 100 + 3], k=100, namespace=space)
        assert found.ids[0] == "r3"
        assert len(found) == 100
    assert_same_rows(store, oracle)
