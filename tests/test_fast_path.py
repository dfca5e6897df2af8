"""The fast path of a query against the general one: the same answers, or it leaves the query to that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import Hit
from mrlstore.search.searcher import Searcher
from mrlstore.storage.page_cache import ReadAhead
from tests import inside
from tests.nested import nested
from tests.shared import Shared

DIM, ROWS = 96, 3_000
ALL: tuple[Any, ...] = ("metadata", "document", "vector")
QUERIES = nested(20, DIM, seed=2)
Store = mrlstore.Store


def build(path: Path) -> None:
    names = [f"row {i}" for i in range(ROWS)]
    names[1::3] = [f"ряд {i} ☃" for i in range(1, ROWS, 3)]
    with mrlstore.open(path, dim=DIM, prefix_dim=32, auto_maintain=False) as store:
        documents = [f"text {i}" if i % 2 else None for i in range(ROWS)]
        store.upsert(names, nested(ROWS, DIM), [{"n": i} for i in range(ROWS)], documents)
        store.optimize()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Path:
    return shared.store("fast.mrl", tmp_path_factory.mktemp("fast") / "s.mrl", build)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each query whose searcher has a fast path, whether that answered."""
    calls: list[bool] = []
    plain = Searcher.one

    def watched(self: Searcher, vector: Any) -> Any:
        hits = plain(self, vector)
        if self._fast is not None:
            calls.append(hits is not None)
        return hits

    monkeypatch.setattr(Searcher, "one", watched)
    return calls


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """One whose rows count as warm, however long a search takes."""
    monkeypatch.setattr(ReadAhead, "learn", lambda *_: None)
    with mrlstore.open(path, mode="r") as store:
        store.query(QUERIES[0], include=())
        inside.first_segment(store).read_ahead.needed = False
        yield store


def vector_of(hit: Hit) -> np.ndarray:
    assert hit.vector is not None
    return hit.vector


PARAMS = [
    {}, {"k": 3}, {"ef": 40}, {"target_recall": 0.9}, {"where": {"n": {"$lt": 50}}},
    {"where": {"n": {"$lt": 2_500}}, "ef": 40},
]  # fmt: skip


@pytest.mark.parametrize("params", PARAMS)
def test_both_paths_answer_alike(store: Store, taken: list[bool], params: dict[str, Any]) -> None:
    for query in QUERIES:
        long = store.query(query, include=ALL, min_score=-1.0, **params)
        short, rich = store.query(query, include=(), **params), store.query(query, include=ALL, **params)
        assert short.ids == rich.ids == long.ids
        assert short.scores.tobytes() == rich.scores.tobytes() == long.scores.tobytes()
        assert [(hit.id, hit.score) for hit in short] == [(hit.id, hit.score) for hit in long]
        assert [hit[:4] for hit in rich] == [hit[:4] for hit in long]
        assert [vector_of(hit).tolist() for hit in rich] == [vector_of(hit).tolist() for hit in long]
        assert short.plan == rich.plan == long.plan
    few = params.get("where", {}).get("n", {}).get("$lt") == 50
    assert taken == [] if few else sum(taken) >= 2 * (len(QUERIES) - 1), "so few rows are scored in full"


@pytest.mark.parametrize(
    "vector",
    [
        QUERIES[1].astype(np.float64), QUERIES[1].tolist(), QUERIES[1] * np.float32(1e-30),
        QUERIES[1].astype(">f4"), QUERIES[1:2][0][::1].reshape(DIM).astype(np.float16).astype(np.float64),
    ],
)  # fmt: skip
def test_unusual_vectors_are_left_to_the_general_path(store: Store, taken: list[bool], vector: Any) -> None:
    expected = store.query(QUERIES[1], include=()).ids
    taken.clear()
    assert len(set(store.query(vector, include=()).ids) & set(expected)) >= 9
    assert taken == [False]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_has_no_direction_is_refused_as_ever(store: Store, taken: list[bool], value: float) -> None:
    store.query(QUERIES[0], include=())
    with pytest.raises(mrlstore.InvalidInput):
        store.query(np.full(DIM, value, np.float32), include=())
    with pytest.raises(mrlstore.InvalidInput, match="96"):
        store.query(np.ones(DIM + 1, np.float32), include=())
    assert taken[-2:] == [False, False]


def test_strided_and_read_only_vectors_are_taken_and_left_as_they_are(
    store: Store, taken: list[bool]
) -> None:
    wide = np.repeat(3 * QUERIES[2], 2)
    frozen = wide.copy()
    frozen.setflags(write=False)
    expected = store.query(3 * QUERIES[2], include=())
    found = store.query(frozen[::2], include=())
    assert found.ids == expected.ids and found.scores.tobytes() == expected.scores.tobytes()
    np.testing.assert_array_equal(frozen, wide)
    assert taken[-1]


def test_a_prefix_that_says_nothing_is_answered_exactly(store: Store, taken: list[bool]) -> None:
    blind = np.zeros(DIM, np.float32)
    blind[40] = 1
    expected = store.query(blind, exact=True, include=()).ids
    assert store.query(blind, include=()).ids == store.query(blind, include=()).ids == expected
    assert not any(taken[-2:])


def test_rows_to_be_read_ahead_are_left_to_the_general_path(store: Store, taken: list[bool]) -> None:
    read_ahead = inside.first_segment(store).read_ahead
    store.query(QUERIES[3], include=())
    read_ahead.needed = True
    store.query(QUERIES[3], include=())
    assert taken[-1] is False


def test_a_search_that_took_long_tells_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrlstore.search import searcher

    told: list[Any] = []
    expected = store.query(QUERIES[3], include=())
    times = iter([0.0, 10.0])
    monkeypatch.setattr(searcher, "perf_counter", lambda: next(times))
    monkeypatch.setattr(ReadAhead, "learn", lambda _, *what: told.append(what))
    assert store.query(QUERIES[3], include=()).ids == expected.ids
    ((elapsed_s, ((hits, reranked, visited, *_),)),) = told
    assert (elapsed_s, hits) == (10.0, 10)
    assert (reranked, visited) == (expected.plan.reranked, expected.plan.visited)


def test_an_audit_sees_every_query(path: Path, taken: list[bool]) -> None:
    with mrlstore.open(path, mode="r") as store:
        store.audit(1.0)
        for query in QUERIES[:5]:
            store.query(query, include=())
    assert not taken


def test_writes_of_others_are_seen(tmp_path: Path, path: Path, taken: list[bool]) -> None:
    import shutil

    own = shutil.copytree(path, tmp_path / "own.mrl")
    with mrlstore.open(own, auto_maintain=False) as writer, mrlstore.open(own, mode="r") as reader:
        reader.query(QUERIES[0], include=())
        inside.first_segment(reader).read_ahead.needed = False
        best = reader.query(QUERIES[0], include=()).ids[0]
        assert taken == [True]
        assert reader.query(QUERIES[0]).ids[0] == best
        writer.delete([best])
        assert best not in reader.query(QUERIES[0], include=()).ids
        writer.upsert(["new"], QUERIES[:1])
        assert reader.query(QUERIES[0], include=()).ids[0] == "new"


@pytest.mark.parametrize("name", ["a\0b", "\0", "x" * 1_000])
def test_ids_that_a_kernel_does_not_write_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[bool], name: str
) -> None:
    monkeypatch.setattr(ReadAhead, "learn", lambda *_: None)
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=32, auto_maintain=False) as store:
        names = [f"{i}" for i in range(2_500)]
        names[7] = name
        rows = nested(2_500, DIM)
        store.upsert(["another"], rows[:1], namespace="before")
        store.upsert(names, rows, namespace="here")
        store.optimize()
        for _ in range(4):
            found = store.query(rows[7], include=(), namespace="here")
            assert found.ids[0] == name and len(found.ids) == 10
            inside.first_segment(store).read_ahead.needed = False
        assert taken[-1], "it is not searched for twice"
        batch = store.query_batch(rows[:20], include=(), namespace="here")
        assert [result.ids[0] for result in batch] == names[:20]
        assert store.query(rows[7], k=2_500, include=(), namespace="here").ids[0] == name


@pytest.mark.parametrize("event", ["removed", "added"])
def test_rows_that_are_removed_behind_the_fast_path(
    tmp_path: Path, path: Path, taken: list[bool], monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    """A hit that is gone before its metadata is read. It is still in the segment: the answer is of before."""
    import shutil

    own = shutil.copytree(path, tmp_path / "own.mrl")
    watched = Searcher.one
    with mrlstore.open(own, auto_maintain=False) as writer, mrlstore.open(own, mode="r") as reader:
        before = reader.query(QUERIES[0])
        inside.first_segment(reader).read_ahead.needed = False

        def overtaken(self: Searcher, vector: Any) -> Any:
            found = watched(self, vector)
            if event == "removed":
                writer.delete([before.ids[0]])
            else:
                writer.upsert(["new"], QUERIES[:1])
            return found

        monkeypatch.setattr(Searcher, "one", overtaken)
        found = reader.query(QUERIES[0])
        assert taken == [True]
        assert list(found) == list(before) and found.plan.generation == before.plan.generation


def test_rows_that_are_removed_and_that_only_the_catalogue_has(
    tmp_path: Path, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hit whose document is long, and that is gone before it is read: the query begins again."""
    watched, done = Searcher.one, list[bool]()
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=32, auto_maintain=False) as writer:
        writer.upsert([f"{i}" for i in range(2_500)], nested(2_500, DIM), None, ["long " * 1_000] * 2_500)
        writer.optimize()
        with mrlstore.open(tmp_path / "s.mrl", mode="r") as reader:
            before = reader.query(QUERIES[0], include=("document",))
            inside.first_segment(reader).read_ahead.needed = False

            def overtaken(self: Searcher, vector: Any) -> Any:
                found = watched(self, vector)
                if not done:
                    done.append(writer.delete([before.ids[0]]) == 1)
                return found

            monkeypatch.setattr(Searcher, "one", overtaken)
            found = reader.query(QUERIES[0], include=("document",))
    assert done == [True]
    assert found.ids[:9] == before.ids[1:] and found.plan.generation > before.plan.generation
    assert found[0].document == "long " * 1_000


def test_a_batch_keeps_no_segment_open(store: Store) -> None:
    batch = store.query_batch(QUERIES, include=())
    expected = [store.query(query, include=()).ids for query in QUERIES]
    store.close()
    assert batch.ids == expected
