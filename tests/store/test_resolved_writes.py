"""Writes as three steps: what is resolved can be applied again, and to copies, with the same rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrlstore
from mrlstore.search.params import Selection
from mrlstore.where import parse
from mrlstore.writing import resolved_writes
from mrlstore.writing.batch import RowChange, make_batch, make_changes
from mrlstore.writing.writer import BIG_BATCH
from tests import inside
from tests.oracle import nested_vectors

DIM = 8


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    stores = []

    def make(name: str = "s.mrl") -> mrlstore.Store:
        store = mrlstore.open(tmp_path / name, dim=DIM, auto_maintain=False)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


def content(store: mrlstore.Store) -> dict[tuple[str, str], Any]:
    return {
        (name, row.id): (row.metadata, row.document, None if row.vector is None else row.vector.tobytes())
        for name in store.namespaces()
        for row in store.scan(namespace=name, include=("metadata", "document", "vector"))
    }


def test_a_write_tells_its_own_generation(opened: Any) -> None:
    store, other = opened(), opened()
    for write in (
        lambda: store.upsert(["a", "b"], nested_vectors(2, DIM)),
        lambda: store.update(["a"], [{"n": 1}]),
        lambda: store.delete(["b"]),
        lambda: store.clear(),
    ):
        before = store.generation
        written = write()
        assert isinstance(written, mrlstore.Written) and written.generation == before + 1
        assert other.generation == written.generation
        again = pickle.loads(pickle.dumps(written))
        assert (again, again.generation) == (written, written.generation)
    assert store.upsert([], None) == 0 and store.upsert([], None).generation == store.generation
    assert str(store.upsert(["a"], None)) == "1"


def test_generations_of_own_writes_are_told_apart_from_those_of_others(opened: Any) -> None:
    store, other = opened(), opened()
    mine = store.upsert(["a"], None).generation
    theirs = other.upsert(["b"], None).generation
    assert theirs == mine + 1 == store.generation


def test_filters_are_resolved_to_ids(opened: Any) -> None:
    store = opened()
    store.upsert([f"r{i}" for i in range(10)], nested_vectors(10, DIM), [{"n": i} for i in range(10)])
    session, low = inside.session(store), Selection(None, parse({"n": {"$lt": 3}}))
    removal = resolved_writes.resolve_delete(session, "", low)
    assert removal.ids is not None and sorted(removal.ids) == ["r0", "r1", "r2"]
    changes = resolved_writes.resolve_update(session, "", low, RowChange({"n": 100}))
    assert sorted(changes.changes) == ["r0", "r1", "r2"]
    assert store.count() == 10 and store.count({"n": 100}) == 0, "resolving changes nothing"
    missing = resolved_writes.resolve_delete(session, "", Selection(["r5", "gone"]))
    assert missing.ids == ("r5",)
    assert resolved_writes.apply(session, [changes, missing]).rows == (3, 1)
    assert store.count({"n": 100}) == 3 and store.count() == 9


def test_conflicts_are_resolved_before_anything_is_written(opened: Any) -> None:
    store = opened()
    store.upsert(["a", "c"], nested_vectors(2, DIM), documents=["old a", "old c"])
    session = inside.session(store)
    vectors = [*nested_vectors(2, DIM, seed=2), None, nested_vectors(1, DIM, seed=3)[0]]
    batch = make_batch(["c", "d", "e", "f"], vectors, None, ["new"] * 4, "", DIM)
    with pytest.raises(mrlstore.IdExists, match="'c' first"):
        resolved_writes.resolve_upsert(session, batch, "error")
    skipping = resolved_writes.resolve_upsert(session, batch, "skip")
    assert skipping.batch.ids == ["d", "e", "f"]
    assert resolved_writes.apply(session, [skipping]).rows == (3,)
    found = {row.id: row for row in store.scan(include=("document", "vector"))}
    assert found["c"].document == "old c" and found["d"].document == "new" and found["e"].vector is None
    assert np.allclose(found["f"].vector, vectors[3], atol=1e-2)


def test_what_would_be_refused_is_refused_when_it_is_resolved(opened: Any) -> None:
    store = opened()
    store.upsert(["a"], None, [{"text": "x" * 40_000}])
    session = inside.session(store)
    with pytest.raises(mrlstore.LimitExceeded):
        resolved_writes.resolve_update(session, "", Selection(["a"]), RowChange({"more": "x" * 40_000}))


def test_several_writes_are_one_commit_and_all_or_nothing(opened: Any) -> None:
    store = opened()
    session, before = inside.session(store), store.generation
    big = make_batch(
        [f"r{i}" for i in range(BIG_BATCH)], nested_vectors(BIG_BATCH, DIM), None, None, "big", DIM
    )
    writes: list[resolved_writes.ResolvedWrite] = [
        resolved_writes.StoreRows(make_batch(["a"], nested_vectors(1, DIM), None, None, "", DIM)),
        resolved_writes.StoreRows(big),
        resolved_writes.StoreRows(make_batch(["b"], None, [{"n": 1}], None, "", DIM)),
        resolved_writes.ChangeRows("", make_changes(["b"], [{"n": 2}], None, None, DIM)),
        resolved_writes.RemoveRows("", ("a",)),
    ]
    applied = resolved_writes.apply(session, writes)
    assert applied.rows == (1, BIG_BATCH, 1, 1, 1)
    assert applied.generation == store.generation == before + 1
    assert store.get(["b"])[0].metadata == {"n": 2} and store.count(namespace="big") == BIG_BATCH
    wrong = resolved_writes.StoreRows(make_batch(["x"], nested_vectors(1, 16), None, None, "", None))
    parts = set((store.path / "parts").iterdir())
    with pytest.raises(mrlstore.InvalidInput):
        resolved_writes.apply(
            session, [resolved_writes.RemoveRows("big", None), resolved_writes.StoreRows(big), wrong]
        )
    assert store.count(namespace="big") == BIG_BATCH and store.generation == applied.generation
    assert set((store.path / "parts").iterdir()) == parts, "no part is left behind"


names = st.sampled_from(["a", "b", "c", "d"])
vectors = st.none() | st.integers(0, 50)
conflicts = st.sampled_from(["replace", "skip"])
writes = st.lists(
    st.tuples(st.just("upsert"), st.lists(st.tuples(names, vectors), max_size=4), conflicts)
    | st.tuples(st.just("update"), st.lists(names, max_size=3), st.integers(0, 3))
    | st.tuples(st.just("update where"), st.integers(0, 3), st.integers(0, 3))
    | st.tuples(st.just("delete"), st.lists(names, max_size=3), st.none())
    | st.tuples(st.just("delete where"), st.integers(0, 3), st.none())
    | st.tuples(st.just("clear"), st.none(), st.none()),
    max_size=12,
)  # fmt: skip


def resolved(session: Any, write: Any) -> resolved_writes.ResolvedWrite:
    kind, what, how = write
    match kind:
        case "upsert":
            rows = [None if seed is None else nested_vectors(1, DIM, seed=seed)[0] for _, seed in what]
            metadata = [{"n": 0 if seed is None else seed % 4} for _, seed in what]
            batch = make_batch([name for name, _ in what], rows, metadata, None, "", DIM)
            return resolved_writes.resolve_upsert(session, batch, how)
        case "update":
            changes = make_changes(what, [{"n": how, name: 1} for name in what], None, None, DIM)
            return resolved_writes.resolve_update(session, "", Selection(what), changes)
        case "update where":
            return resolved_writes.resolve_update(
                session, "", Selection(None, parse({"n": what})), RowChange({"n": how})
            )
        case "delete":
            return resolved_writes.resolve_delete(session, "", Selection(what))
        case "delete where":
            return resolved_writes.resolve_delete(session, "", Selection(None, parse({"n": what})))
    return resolved_writes.RemoveRows("", None)


def direct(store: mrlstore.Store, write: Any) -> int:
    kind, what, how = write
    match kind:
        case "upsert":
            rows = [None if seed is None else nested_vectors(1, DIM, seed=seed)[0] for _, seed in what]
            metadata = [{"n": 0 if seed is None else seed % 4} for _, seed in what]
            return store.upsert([name for name, _ in what], rows, metadata, on_conflict=how)
        case "update":
            return store.update(what, [{"n": how, name: 1} for name in what])
        case "update where":
            return store.update(where={"n": what}, metadatas={"n": how})
        case "delete":
            return store.delete(what)
        case "delete where":
            return store.delete(where={"n": what})
    return store.clear()


def test_three_steps_and_a_copy_that_repeats_them_are_like_the_methods_of_a_store(tmp_path: Path) -> None:
    with (
        mrlstore.open(tmp_path / "one.mrl", dim=DIM, auto_maintain=False) as one,
        mrlstore.open(tmp_path / "steps.mrl", dim=DIM, auto_maintain=False) as steps,
        mrlstore.open(tmp_path / "copy.mrl", dim=DIM, auto_maintain=False) as copy,
    ):

        @settings(max_examples=40, deadline=None)
        @given(writes)
        def check(sequence: Any) -> None:
            for store in (one, steps, copy):
                store.clear()
            log = []
            for write in sequence:
                log.append(resolved(inside.session(steps), write))
                applied = resolved_writes.apply(inside.session(steps), [log[-1]])
                assert applied.rows == (direct(one, write),)
            resolved_writes.apply(inside.session(copy), log)
            assert content(one) == content(steps) == content(copy)

        check()
