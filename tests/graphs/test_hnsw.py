"""Graphs by hnswlib: the same arrays, walked by the same kernel, built and changed as a store demands it."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.index.verification import verify_index
from mrlstore.maintenance import steps
from mrlstore.search.queries import prepare
from mrlstore.system.job import UNWATCHED, Interrupted, Job
from tests import inside
from tests.graphs.conftest import DIM, PREFIX, ROWS
from tests.nested import nested
from tests.one_query import search_exact, search_graph

pytestmark = pytest.mark.usefixtures("hnswlib")


def built(rows: Any, groups: Any = None, **options: Any) -> Any:
    stored = np.ascontiguousarray(rows, np.float16)
    bounds = np.array([0, len(rows)] if groups is None else groups)
    options = {"prefix_dim": PREFIX, "m": 8, "ef_construction": 60, "threads": 2} | options
    arrays, info = build_index(stored, bounds, builder="hnswlib", **options)
    assert info["graph"] == "hnswlib"
    assert verify_index(arrays, info, bounds) == []
    return arrays, info


def test_the_lists_are_those_of_hnswlib(hnswlib: Any) -> None:
    rows = nested(ROWS, DIM).astype(np.float16)
    arrays, info = built(rows, threads=1)
    prefixes = rows[:, :PREFIX].astype(np.float32)
    prefixes /= np.linalg.norm(prefixes, axis=1, keepdims=True)
    index = hnswlib.Index("ip", PREFIX)
    index.init_index(ROWS, M=8, ef_construction=60)
    index.add_items(prefixes, num_threads=1)
    (state,) = index.__getstate__()
    level0 = state["data_level0"].view(np.uint8).reshape(ROWS, -1)
    counts = np.ascontiguousarray(level0[:, :2]).view(np.uint16)[:, 0]
    links = np.ascontiguousarray(level0[:, 4 : 4 + 64]).view(np.uint32)
    held = [set(row[row < ROWS].tolist()) for row in arrays["neighbours"]]
    theirs = [set(links[row, : counts[row]].tolist()) for row in range(ROWS)]
    same = sum(len(mine & one) for mine, one in zip(held, theirs, strict=True))
    assert same >= 0.99 * sum(map(len, theirs))  # a few make room for links that mend the graph
    assert sum(map(len, held)) <= 1.01 * sum(map(len, theirs))
    entries = arrays["entries"]
    levels = state["element_levels"]
    chosen = np.isin(np.arange(ROWS), entries)
    assert len(entries) == 16
    assert levels[chosen].min() >= levels[~chosen].max() > 0


def test_it_is_searched_as_well_as_the_other() -> None:
    rows = nested(ROWS, DIM).astype(np.float16)
    arrays, info = built(rows)
    inverse = (1 / np.linalg.norm(rows.astype(np.float32), axis=1)).astype(np.float32)
    group = Group(rows, inverse, np.arange(ROWS), open_index(arrays, info, 0, 0, ROWS))
    shares = []
    for vector in nested(50, DIM, seed=7):
        query = prepare(vector, PREFIX)
        found = search_graph(group, query, 10, 80, 80)
        assert found.visited < ROWS // 2
        shares.append(len({*found.rows} & {*search_exact(group, query, 10).rows}) / 10)
    assert np.mean(shares) >= 0.95


def test_groups_rows_without_a_prefix_and_equal_rows() -> None:
    rows = nested(7_000, DIM)
    rows[100:140, :PREFIX] = 0  # no prefix: no node
    rows[3_000:3_600] = rows[3_000]  # more equal rows than a list has slots
    bounds = [0, 2_500, 2_600, 7_000]
    arrays, info = built(rows, bounds)
    indexes = [open_index(arrays, info, i, a, b) for i, (a, b) in enumerate(itertools.pairwise(bounds))]
    assert [one.neighbours is not None for one in indexes] == [True, False, True]
    assert indexes[0].unprefixed.tolist() == list(range(100, 140))
    assert all((one.entries < len(one.codes)).all() for one in indexes)


def test_a_build_ends_when_it_is_to_stop() -> None:
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen > 3

    with pytest.raises(Interrupted):
        built(nested(ROWS, DIM), job=Job(should_stop=stop))
    assert seen == 4


def built_by(store: Any) -> list[str]:
    snapshot = inside.session(store).snapshots.latest()
    return [part.segment.index.info["graph"] for part in snapshot.segments]


def test_a_store_that_is_made_with_it(tmp_path: Path) -> None:
    rows, path = nested(ROWS, DIM), tmp_path / "s.mrl"
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, graph="hnswlib", auto_maintain=False) as store:
        store.upsert([str(i) for i in range(ROWS)], rows)
        assert store.stats().rows_by_graph == {}
        store.optimize()
        stats, report = store.stats(), store.verify()
        assert (stats.graph, stats.rows_by_graph) == ("hnswlib", {"hnswlib": ROWS})
        assert report.ok and report.rows_by_graph == {"hnswlib": ROWS}
        walked = store.query(rows[7], 1, ef=50, include=())
        assert (walked.ids, walked.plan.segments[0].path) == (["7"], "walk")
    with mrlstore.open(path, graph="hnswlib") as again:
        assert again.settings.graph == "hnswlib"
        assert [again.query(rows[i], 1, include=()).ids for i in range(50)] == [[str(i)] for i in range(50)]
    with pytest.raises(mrlstore.InvalidInput, match="this store has hnswlib; set_graph changes it"):
        mrlstore.open(path, graph="mrlstore")


def test_there_and_back(filled: Path) -> None:
    queries = nested(30, DIM, seed=7)
    with (
        mrlstore.open(filled, auto_maintain=False) as store,
        mrlstore.open(filled, auto_maintain=False) as other,
    ):
        store.calibrate(k=[5, 10], count=40)
        for graph in ("hnswlib", "mrlstore"):
            before = inside.session(store).snapshots.latest().calibration
            seen: list[list[str]] = []

            def meanwhile(step: mrlstore.Progress, seen: Any = seen, graph: str = graph) -> None:
                other.upsert([f"{graph} {len(seen)}"], queries[:1] + 0.01)
                seen.append(store.query(queries[0], 5, include=()).ids)

            store.set_graph(graph, progress=meanwhile)
            assert len(seen) >= 2
            assert built_by(store) == built_by(other) == [graph]
            assert store.stats().graph == other.stats().graph == graph
            after = inside.session(store).snapshots.latest().calibration
            assert {curve.k for curve in after.curves} == {5, 10}
            assert after.stored != before.stored  # measured on the new graph
            found = 0
            for query in queries:
                exact = store.query(query, include=(), exact=True)
                found += len({*store.query(query, include=()).ids} & {*exact.ids})
            assert found >= 0.95 * 10 * len(queries)
            # The other process knows of the change, and does not undo it.
            assert not steps.next_step(inside.session(other), UNWATCHED)
            store.set_graph(graph)  # nothing to do
        assert store.verify().ok


def test_a_stop_in_the_midst_is_made_good(filled: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: mrlstore.Progress) -> None:
        raise Stop

    with mrlstore.open(filled, auto_maintain=False) as store:
        with pytest.raises(Stop):
            store.set_graph("hnswlib", progress=stop)
        assert built_by(store) == ["mrlstore"]  # the old graph still serves
        stats = store.stats()
        assert (stats.graph, stats.rows_by_graph) == ("hnswlib", {"mrlstore": ROWS})
    with mrlstore.open(filled, auto_maintain=False) as again:  # as after a crash
        again.optimize()
        assert built_by(again) == ["hnswlib"]
        assert again.verify().ok


def test_where_hnswlib_is_missing_a_store_can_be_read_and_written(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, new = nested(ROWS, DIM), nested(500, DIM, seed=9)
    with mrlstore.open(filled, auto_maintain=False) as store:
        store.set_graph("hnswlib")
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with mrlstore.open(filled, mode="r", graph="hnswlib") as reader:
        assert reader.query(rows[5], 1, include=()).ids == ["5"]
    with mrlstore.open(filled, auto_maintain=False) as store:
        store.upsert([f"new {i}" for i in range(500)], new)
        before = len(list((filled / "parts").iterdir()))
        for attempt in (store.optimize, store.repair, lambda: store.set_prefix_dim(8)):
            with pytest.raises(ImportError, match=r"pip install 'mrlstore\[hnswlib\]'"):
                attempt()
        assert store.prefix_dim == PREFIX
        assert store.query(new[0], 1, include=()).ids == ["new 0"]
        # The tail was flushed; rows that cannot be indexed were not merged for nothing.
        assert len(list((filled / "parts").iterdir())) == before + 1
        store.set_graph("mrlstore")
        assert store.stats().flat_segments == 0
        assert store.verify().ok
