"""Searchers that are kept for the next query like theirs."""

from __future__ import annotations

import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.search.params import NOTHING, Projection, QueryParams
from mrlstore.search.searcher import known_searcher, searcher_for
from mrlstore.storage.page_cache import ReadAhead
from mrlstore.where import parse
from tests import inside
from tests.oracle import nested_vectors
from tests.pressure.opcodes import AtOpcode, interrupt


def params(**fields: Any) -> QueryParams:
    return QueryParams(10, "", **fields)


def test_equal_queries_have_equal_keys_and_others_do_not() -> None:
    plain, filtered = params(), params(where=parse({"a": 1}))
    assert plain.key == params(projection=Projection()).key == QueryParams(10, "", NOTHING).key
    assert filtered.key == params(where=parse({"a": {"$eq": 1.0}})).key
    others = (
        plain, filtered, params(where=parse({"a": 2})), QueryParams(11, ""), QueryParams(10, "b"),
        params(exact=True), params(dim=4), params(projection=Projection(True)), params(min_score=0.5),
        params(ef=40), params(shortlist=40), params(target_recall=0.9), params(explain=True),
    )  # fmt: skip
    assert len({one.key for one in others}) == len(others)


def test_a_searcher_is_kept_for_as_long_as_its_snapshot_lives(tmp_path: Path) -> None:
    with mrlstore.open(tmp_path / "s.mrl", dim=8, auto_maintain=False) as store:
        store.upsert(["a"], np.eye(1, 8))
        before = inside.session(store).snapshots.latest()
        filtered_params = params(where=parse({"a": 1}))
        assert known_searcher(before, filtered_params) is None
        kept = searcher_for(before, filtered_params, lambda keys: [None for _ in keys])
        assert searcher_for(before, filtered_params, lambda keys: [None for _ in keys]) is kept
        store.upsert(["b"], np.eye(1, 8))
        after = inside.session(store).snapshots.latest()
        assert known_searcher(after, filtered_params) is None
        gone = weakref.ref(before)
        del before
        assert gone() is None, "a kept searcher must not keep its snapshot"


def test_neither_many_searchers_nor_large_masks_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.SEARCHERS_MASK_BYTES, 10_000)
    with mrlstore.open(tmp_path / "s.mrl", dim=8, auto_maintain=False) as store:
        store.upsert([str(i) for i in range(1_000)], np.ones((1_000, 8)), [{"n": i} for i in range(1_000)])
        for number in range(300):
            store.query(np.ones(8), k=1 + number, include=())
        snapshot = inside.session(store).snapshots.latest()
        assert len(inside.searchers(snapshot)) <= 200
        for number in range(50):
            store.query(np.ones(8), where={"n": {"$gt": number}}, include=())
            assert inside.searchers(snapshot).nbytes <= 10_000
        assert known_searcher(snapshot, params(where=parse({"n": {"$gt": 49}}))) is not None


def test_an_interrupt_while_a_snapshot_goes_leaves_no_searcher_to_its_successor(tmp_path: Path) -> None:
    """Searchers were kept by the snapshot's id; one that stayed answered from rows of another generation."""
    rows = np.eye(8, dtype=np.float32)
    with mrlstore.open(tmp_path / "s.mrl", dim=8, auto_maintain=False) as store:
        store.upsert(["first"], rows[:1])
        store.query(rows[0])  # loads the kernels
        store.clear()
        for turn in range(80):
            store.upsert([f"{turn}-{n}" for n in range(8)], rows)
            store.delete([f"{turn - 1}-{n}" for n in range(8)])
            with suppress(KeyboardInterrupt), AtOpcode(1 + turn % 5, interrupt, (weakref.__file__,)):
                store.query(rows[turn % 8], k=1)
            hit = store.query(rows[turn % 8], k=1)[0]
            assert (hit.id, round(hit.score, 3)) == (f"{turn}-{turn % 8}", 1.0)


def test_a_remembered_filter_follows_each_write(tmp_path: Path) -> None:
    rows = np.eye(8, dtype=np.float32)
    with mrlstore.open(tmp_path / "s.mrl", dim=8) as store:

        def found() -> list[str]:
            first: Any = store.query(np.ones(8), k=8, where={"kind": "a"}, include=())
            again = store.query(np.ones(8), k=8, where={"kind": "a"}, include=())
            assert first.ids == again.ids
            assert first.plan.matching == len(first.ids)
            return sorted(first.ids)

        store.upsert(["0", "1", "2"], rows[:3], [{"kind": "a"}, {"kind": "b"}, {"kind": "a"}])
        assert found() == ["0", "2"]
        store.update(["1"], [{"kind": "a"}])
        assert found() == ["0", "1", "2"]
        store.optimize()
        assert found() == ["0", "1", "2"]
        store.update(["0"], [{"kind": "b"}])
        assert found() == ["1", "2"]
        store.delete(["2"])
        assert found() == ["1"]
        store.upsert(["3"], rows[3:4], [{"kind": "a"}])
        assert found() == ["1", "3"]


def test_a_query_in_the_midst_of_a_query_does_not_change_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler may query while the query that it interrupts is between its two stages."""
    vectors = nested_vectors(3_000, 32)
    queries = nested_vectors(20, 32, seed=1)
    real = ReadAhead.request
    inner: list[list[str]] = []

    def request(self: ReadAhead, *arguments: Any) -> None:
        real(self, *arguments)
        if len(inner) < len(done):
            inner.append(store.query(queries[-len(done)], include=(), ef=200, shortlist=200).ids)

    with mrlstore.open(tmp_path / "s.mrl", dim=32, auto_maintain=False) as store:
        store.upsert([str(number) for number in range(3_000)], vectors)
        store.optimize()
        expected = [store.query(one, include=()) for one in queries]
        monkeypatch.setattr(ReadAhead, "request", request)
        (part,) = inside.session(store).snapshots.latest().segments
        done: list[int] = []
        for number, query in enumerate(queries):
            done.append(number)
            part.segment.read_ahead.needed = True  # only then are the two stages apart
            found = store.query(query, include=())
            assert found.ids == expected[number].ids
            np.testing.assert_array_equal(found.scores, expected[number].scores)
    assert len(inner) == len(queries), "nothing was asked in between: the test no longer tests"
