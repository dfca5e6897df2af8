"""Several segments and the tail searched as one: against exact answers, one segment, and each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mrlstore
from mrlstore.kernels.scratch import Scratch
from mrlstore.maintenance import steps
from mrlstore.search import searcher
from mrlstore.search.group_search import Scan, Walk
from mrlstore.search.joint_search import JointSearch, joint_search
from mrlstore.search.queries import prepare
from mrlstore.storage.page_cache import ReadAhead
from mrlstore.system.job import UNWATCHED
from tests import inside
from tests.nested import nested
from tests.shared import Shared

DIM, PREFIX, ROWS, TAIL = 224, 192, 7_600, 200
SEGMENTS = (3_200, 3_000, 700, ROWS - 6_900 - TAIL)  # two with graphs, two without
COPIES = 40  # of each of 20 rows, in every segment and the tail
QUERIES = nested(40, DIM, seed=2)
Vectors = NDArray[np.float32]


def vectors() -> Vectors:
    """Rows with near copies spread over all segments, and a few without a usable prefix."""
    rng, rows = np.random.default_rng(3), nested(ROWS, DIM)
    places = rng.permutation(ROWS)[: 20 * COPIES]
    noise = 0.002 * rng.standard_normal((len(places), DIM)).astype(np.float32)
    rows[places] = np.repeat(rows[places[:20]], COPIES, axis=0) + noise
    rows[100:ROWS:1_500, :PREFIX] = 0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(store: mrlstore.Store, sizes: tuple[int, ...], rows: Vectors) -> None:
    """Store rows in indexed segments of these sizes, the rest in the tail; every twentieth is removed."""
    session, start = inside.session(store), 0
    for size in (*sizes, len(rows) - sum(sizes)):
        for name, step in (("", 0), ("other", 1)):
            some = [i for i in range(start, start + size) if (i % 5 == 4) == bool(step)]
            for at in range(0, len(some), 1_000):
                part = some[at : at + 1_000]
                store.upsert([f"row {i}" for i in part], rows[part], [{"n": i} for i in part], namespace=name)
        start += size
        if start <= sum(sizes):
            steps.flush(session)
    steps.complete_all(session, UNWATCHED)
    for name in ("", "other"):
        store.delete([f"row {i}" for i in range(3, len(rows), 20)], namespace=name)


def build(path: Path) -> None:
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
        fill(store, SEGMENTS, vectors())


def build_one(path: Path) -> None:
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
        fill(store, (ROWS,), vectors())


def warm_store(path: Path) -> Iterator[mrlstore.Store]:
    with mrlstore.open(path, mode="r") as store:
        store.query(QUERIES[0], include=())
        for part in inside.session(store).snapshots.latest().segments:
            part.segment.read_ahead.needed = False
        yield store


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows count as warm, however long a search takes."""
    monkeypatch.setattr(ReadAhead, "learn", lambda *_: None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Path:
    return shared.store("several.mrl", tmp_path_factory.mktemp("several") / "s.mrl", build)


@pytest.fixture
def store(built: Path) -> Iterator[mrlstore.Store]:
    yield from warm_store(built)


PARAMS: list[dict[str, Any]] = [
    {}, {"k": 1}, {"k": 60}, {"namespace": "other"}, {"namespace": None}, {"namespace": ["other", ""]},
    {"where": {"n": {"$lt": 5_000}}}, {"where": {"n": {"$gt": 6_500}}}, {"where": {"n": {"$lt": 300}}},
    {"target_recall": 0.9},
]  # fmt: skip


@pytest.mark.parametrize("params", PARAMS)
def test_whole_efforts_are_exact(store: mrlstore.Store, params: dict[str, Any]) -> None:
    arguments = {"k": 10, **params}
    arguments.pop("target_recall", None)
    for query in QUERIES[:12]:
        exact = store.query(query, exact=True, include=(), **arguments)
        found = store.query(query, ef=ROWS, shortlist=ROWS, include=(), **arguments)
        assert found.ids == exact.ids
        assert found.scores.tobytes() == exact.scores.tobytes()


@pytest.mark.parametrize("params", PARAMS)
def test_default_efforts_find_nearly_all(store: mrlstore.Store, params: dict[str, Any]) -> None:
    found = total = 0
    for query in QUERIES:
        exact = store.query(query, exact=True, include=(), **{"k": 10, **params, "target_recall": None})
        answer = store.query(query, include=(), **{"k": 10, **params})
        assert len(answer.ids) == len(exact.ids)
        found += len(set(answer.ids) & set(exact.ids))
        total += len(exact.ids)
    assert found >= 0.985 * total


@pytest.mark.parametrize("params", PARAMS)
def test_all_paths_answer_alike(
    store: mrlstore.Store, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    fast = searcher.Searcher.one

    def watched(self: Any, vector: Any) -> Any:
        hits = fast(self, vector)
        taken.append(hits is not None)
        return hits

    monkeypatch.setattr(searcher.Searcher, "one", watched)
    batch = store.query_batch(QUERIES, include=(), **params)
    for number, query in enumerate(QUERIES):
        short, rich = store.query(query, include=(), **params), store.query(query, **params)
        general = store.query(query, include=(), min_score=-1.0, **params)
        told = store.query(query, include=(), explain=True, **params)
        others = [rich, general, told, batch[number]]
        assert all(one.ids == short.ids for one in others)
        assert all(one.scores.tobytes() == short.scores.tobytes() for one in others)
        assert short.plan == rich.plan == general.plan == batch[number].plan
        assert [one.path for one in told.plan.segments] == [one.path for one in short.plan.segments]
        assert [hit.metadata for hit in rich] == [{"n": int(hit.id.split()[1])} for hit in rich]
    assert sum(taken) >= 2 * len(QUERIES) - 1, "the fast path answers"


def test_rows_that_may_have_to_be_read_are_found_alike(store: mrlstore.Store) -> None:
    warm = [store.query(query, include=()) for query in QUERIES]
    for query, expected in zip(QUERIES, warm, strict=True):
        for part in inside.session(store).snapshots.latest().segments:
            part.segment.read_ahead.needed = True
        cold = store.query(query, include=())
        assert cold.ids == expected.ids and cold.scores.tobytes() == expected.scores.tobytes()


def test_an_explicit_shortlist_is_scored_whole(store: mrlstore.Store) -> None:
    for shortlist in (30, 200):
        plan = store.query(QUERIES[0], 10, shortlist=shortlist, namespace="other", include=()).plan
        assert sum(one.reranked - one.copies for one in plan.segments) >= shortlist


def test_equal_scores_go_by_row_key(opened: Any) -> None:
    store = opened(dim=32, prefix_dim=16, auto_maintain=False)
    session, row = inside.session(store), nested(1, 32)[0]
    for start in range(0, 900, 300):
        store.upsert([str(i) for i in range(start, start + 300)], np.repeat(row[None], 300, axis=0))
        if start < 600:
            steps.flush(session)
    steps.complete_all(session, UNWATCHED)
    assert store.query(row, 25, include=()).ids == [str(i) for i in range(25)]
    assert store.query(row, 650, shortlist=650, include=()).ids == [str(i) for i in range(650)]


def test_the_same_work_as_for_one_segment(
    store: mrlstore.Store, tmp_path_factory: pytest.TempPathFactory, shared: Shared
) -> None:
    """Rows scored in full are those of one shortlist, not of one for each segment."""
    path = shared.store("several-one.mrl", tmp_path_factory.mktemp("several") / "one.mrl", build_one)
    with mrlstore.open(path, mode="r") as one:
        single = [one.query(query, include=()).plan.reranked for query in QUERIES]
    several = [store.query(query, include=()).plan.reranked for query in QUERIES]
    assert sum(several) <= 1.3 * sum(single)


def test_walks_end_by_the_best_of_all_groups(store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    together = sum(_walked(store.query(query, include=())) for query in QUERIES)
    monkeypatch.setattr(searcher, "joint_search", lambda *_: None)
    with mrlstore.open(store.path, mode="r") as other:
        apart = sum(_walked(other.query(query, include=())) for query in QUERIES)
    assert together < 0.9 * apart


def _walked(answer: mrlstore.Result) -> int:
    """Codes that walks have scored."""
    return sum(
        one.visited for one in answer.plan.segments if one.path == "filtered walk" or one.path == "walk"
    )


def test_segments_take_the_rotation_that_the_store_has(built: Path) -> None:
    with mrlstore.open(built, mode="r") as store:
        snapshot = inside.session(store).snapshots.latest()
        groups = [one.group for one in snapshot.groups(None)]
    assert len(groups) > 8 and snapshot.tail is not None
    assert {group.index.encoding for group in groups} == {groups[0].index.encoding}
    assert groups[0].index.rotation is not None


def test_where_rotations_differ_groups_are_searched_one_by_one(opened: Any) -> None:
    store = opened(dim=DIM, prefix_dim=PREFIX, auto_maintain=False)
    session, rng = inside.session(store), np.random.default_rng(1)
    held = []
    for number, first in enumerate((0, 96)):  # two kinds of rows, which vary in different dims
        rows = 0.002 * rng.standard_normal((2_050, DIM)).astype(np.float32)
        rows[:, first : first + 96] += nested(2_050, 96, seed=number)
        held.append(rows[2_000:])
        rows = rows[:2_000]
        for start in range(0, len(rows), 1_000):
            some = rows[start : start + 1_000]
            store.upsert([f"{number} {start + i}" for i in range(len(some))], some)
        steps.flush(session)
        steps.complete_all(session, UNWATCHED)
    groups = [one.group.index for one in session.snapshots.latest().groups("")]
    assert len(groups) == 2 and groups[0].encoding != groups[1].encoding
    for query in np.concatenate(held)[::5]:
        exact = store.query(query, exact=True, include=())
        assert len(set(store.query(query, include=()).ids) & set(exact.ids)) >= 9
        assert store.query(query, ef=4_000, shortlist=4_000, include=()).ids == exact.ids


def test_a_short_list_first_finds_what_the_whole_list_does(store: mrlstore.Store) -> None:
    """As for one group: the list is made again, whole, only where the re-rank came to its end."""
    groups = [one.group for one in inside.session(store).snapshots.latest().groups("")]

    def search(first: int, margin: float) -> JointSearch:
        walks = [
            Walk(group, 10, 256, 60, beam_ratio=0.2, stop_margin=margin, first=first)
            if group.index.neighbours is not None
            else Scan(group, 10, 60, stop_margin=margin, first=first)
            for group in groups
        ]
        joint = joint_search(walks, 10, 60)
        assert joint is not None
        return joint

    again = 0
    for margin in (0.7, 3.5):
        whole, short = search(0, margin), search(14, margin)
        assert (whole.first, short.first) == (60, 14)
        for query in QUERIES:
            asked = prepare(query / np.linalg.norm(query), PREFIX)
            expected, found = whole(asked, Scratch()), short(asked, Scratch())
            assert set(zip(found.which[0], found.rows[0], strict=True)) == set(
                zip(expected.which[0], expected.rows[0], strict=True)
            )
            assert found.scores.tobytes() == expected.scores.tobytes()
            again += int(found.counts[0, :, 2].sum() > 1.5 * expected.counts[0, :, 2].sum())
    assert 0 < again < 2 * len(QUERIES)
