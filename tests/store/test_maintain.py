"""Optimize, background work, statistics and disk use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests.oracle import Oracle, assert_exact, assert_same_rows, nested_vectors, recall


def churned(store: Any, oracle: Oracle, n: int, dim: int) -> None:
    for low in range(0, n, 700):
        ids = [f"r{i}" for i in range(low, min(n, low + 700))]
        rows = nested_vectors(len(ids), dim, seed=low)
        metadatas = [{"n": low + i} for i in range(len(ids))]
        for target in (store, oracle):
            target.upsert(ids, rows, metadatas)


def test_optimize_seals_and_indexes_everything(opened: Any) -> None:
    store, oracle = opened(dim=8, prefix_dim=4), Oracle()
    churned(store, oracle, 2800, 8)
    store.optimize()
    stats = store.stats()
    assert (stats.rows, stats.tail_rows, stats.flat_segments, stats.dead_rows) == (2800, 0, 0, 0)
    assert stats.indexed_rows == 2800
    assert stats.segments >= 1
    assert_same_rows(store, oracle)
    query = nested_vectors(1, 8, seed=9)[0]
    assert_exact(store.query(query, k=20, exact=True), oracle.scores(query), 20)


def test_optimize_again_changes_nothing(opened: Any, path: Path) -> None:
    store, oracle = opened(dim=8), Oracle()
    churned(store, oracle, 3000, 8)
    store.optimize()
    before = store.stats().segments
    parts = sorted(entry.name for entry in (path / "parts").iterdir())
    store.optimize()
    assert store.stats().segments == before
    assert sorted(entry.name for entry in (path / "parts").iterdir()) == parts


def test_optimize_reports_progress(opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    churned(store, oracle, 2100, 8)
    steps: list[mrlstore.Progress] = []
    store.optimize(progress=steps.append)
    assert steps
    assert all(isinstance(step, mrlstore.Progress) and 0 <= step.done <= step.total for step in steps)
    assert all(step.phase for step in steps)
    measuring = [step for step in steps if step.phase == "calibrate"]
    assert measuring[-1].done == measuring[-1].total > 1
    again: list[mrlstore.Progress] = []
    store.calibrate(progress=again.append)
    assert [step.done for step in again] == list(range(again[-1].total + 1))


def test_an_error_in_progress_reaches_the_caller_and_harms_nothing(opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    churned(store, oracle, 2100, 8)

    def angry(step: mrlstore.Progress) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        store.optimize(progress=angry)
    assert_same_rows(store, oracle)
    store.optimize()
    assert store.stats().flat_segments == 0
    assert_same_rows(store, oracle)


ANGRY: dict[str, Callable[[Any, Path, Any], object]] = {
    "optimize": lambda store, folder, angry: store.optimize(progress=angry),
    "verify": lambda store, folder, angry: store.verify(progress=angry),
    "repair": lambda store, folder, angry: store.repair(progress=angry),
    "backup": lambda store, folder, angry: store.backup(folder / "copy.mrl", progress=angry),
    "calibrate": lambda store, folder, angry: store.calibrate(progress=angry),
    "tier_report": lambda store, folder, angry: store.tier_report(sample=100, progress=angry),
    "set_prefix_dim": lambda store, folder, angry: store.set_prefix_dim(4, progress=angry),
    "duplicates": lambda store, folder, angry: list(store.duplicates(progress=angry)),
}


@pytest.mark.parametrize("verb", ANGRY)
def test_an_error_in_progress_is_not_taken_for_one_of_the_store(
    opened: Any, tmp_path: Path, verb: str
) -> None:
    """A missing file of the callback's is no missing part, and its StorePoisoned poisons nothing."""
    store = opened(dim=8)
    store.upsert([f"r{i}" for i in range(300)], nested_vectors(300, 8))
    store.optimize()
    store.upsert(["tail"], nested_vectors(1, 8))
    for error in (
        FileNotFoundError(2, "no such file", "of the caller"),
        PermissionError(13, "not allowed", "of the caller"),
        mrlstore.StorePoisoned("another store"),
        mrlstore.CorruptStore("another store", "is damaged"),
        RuntimeError("can't start new thread"),
    ):
        told: list[object] = []

        def angry(step: mrlstore.Progress, error: Exception = error, told: list[object] = told) -> None:
            told.append(step)
            raise error

        with pytest.raises(type(error)) as raised:
            ANGRY[verb](store, tmp_path, angry)
        assert raised.value is error and len(told) == 1
        assert len(store) == 301
        assert not (tmp_path / "copy.mrl").exists()
        store.upsert(["tail"], nested_vectors(1, 8))


def test_a_keyboard_interrupt_in_optimize_harms_nothing(opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    churned(store, oracle, 2100, 8)
    calls = []

    def interrupted(step: mrlstore.Progress) -> None:
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        store.optimize(progress=interrupted)
    assert calls
    assert_same_rows(store, oracle)
    store.optimize()
    assert_same_rows(store, oracle)


def test_the_tail_stays_short_under_background_work(opened: Any) -> None:
    store, oracle = opened(dim=8, prefix_dim=4, auto_maintain=True), Oracle()
    churned(store, oracle, 2800, 8)
    churned(store, oracle, 700, 8)
    store.optimize()
    assert store.stats().tail_rows <= 2048
    assert_same_rows(store, oracle)
    query = nested_vectors(1, 8, seed=9)[0]
    assert_exact(store.query(query, k=20, exact=True), oracle.scores(query), 20)


def test_close_stops_background_threads(path: Path) -> None:
    before = set(threading.enumerate())
    store = mrlstore.open(path, dim=16)
    store.upsert([f"r{i}" for i in range(6000)], nested_vectors(6000, 16))
    store.close()
    mine = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    assert mine == []
    with mrlstore.open(path, mode="r") as reader:
        assert len(reader) == 6000


def test_removed_rows_leave_the_disk(opened: Any, path: Path) -> None:
    store, oracle = opened(dim=64), Oracle()
    churned(store, oracle, 2500, 64)
    store.optimize()
    full = store.stats().bytes_on_disk
    for target in (store, oracle):
        target.delete([f"r{i}" for i in range(2000)])
    assert store.stats().dead_rows == 2000
    assert store.stats().bytes_reclaimable > 0
    store.optimize()
    assert store.stats().dead_rows == 0
    assert store.stats().rows == 500
    assert_same_rows(store, oracle)
    named = store.stats().bytes_by_kind
    assert named["base"] < full / 2


def test_replacing_everything_again_and_again_is_bounded(opened: Any) -> None:
    store = opened(dim=32, prefix_dim=16)
    ids = [f"r{i}" for i in range(2500)]
    oracle = Oracle()
    for turn in range(3):
        rows = nested_vectors(2500, 32, seed=turn)
        for target in (store, oracle):
            target.upsert(ids, rows, [{"turn": turn}] * 2500)
        store.optimize()
    stats = store.stats()
    assert (stats.rows, stats.dead_rows, stats.indexed_rows) == (2500, 0, 2500)
    assert_same_rows(store, oracle)
    asked = nested_vectors(20, 32, seed=77)
    assert np.mean([recall(store.query(q), oracle.scores(q), 10) for q in asked]) >= 0.95


def test_stats_add_up(library: Any) -> None:
    for layout in ("tail", "bulk", "indexed", "mixed"):
        store, oracle = library(layout)
        stats = store.stats()
        folder = Path(stats.path)
        assert stats.rows == len(oracle.rows)
        assert stats.rows_without_vector == sum(row.vector is None for row in oracle.rows.values())
        assert stats.namespaces == 1
        assert stats.generation > 0
        assert stats.damaged_parts == 0
        assert set(stats.bytes_by_kind) >= {"catalogue", "base", "index", "columns"}
        assert sum(stats.bytes_by_kind.values()) == stats.bytes_on_disk
        real = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
        assert stats.bytes_on_disk == pytest.approx(real, rel=0.02, abs=65_536)
        assert (stats.tail_rows > 0) == (layout in ("tail", "mixed"))
        assert (stats.segments > 0) == (layout != "tail")
        assert (stats.indexed_rows > 0) == (layout in ("indexed", "mixed"))


def test_generation_rises_with_each_write(store: Any) -> None:
    seen = [store.stats().generation]
    store.upsert(["a", "b"], np.ones((2, 8)), [{"x": 1}] * 2)
    seen.append(store.stats().generation)
    store.update(["a"], [{"x": 2}])
    seen.append(store.stats().generation)
    store.delete(["a"])
    seen.append(store.stats().generation)
    assert seen == sorted(set(seen))
    store.delete(["a"])
    store.get(["b"])
    store.query(np.ones(8))
    assert store.stats().generation >= seen[-1]


def test_verify_of_a_healthy_store(library: Any) -> None:
    for layout in ("tail", "bulk", "indexed", "mixed"):
        store, oracle = library(layout)
        report = store.verify()
        assert report.ok
        assert report.problems == ()
        assert report.rows == len(oracle.rows)
        assert (report.parts > 0) == (layout != "tail")
        assert (report.bytes_checked > 0) == (layout != "tail")


def test_warm_changes_no_answer(library: Any) -> None:
    store, _ = library("indexed")
    query = nested_vectors(1, 32, seed=1)[0]
    before = store.query(query).ids
    store.warm()
    assert store.query(query).ids == before


def test_clusters_of_equal_vectors_do_not_break_the_graph(opened: Any) -> None:
    store, oracle = opened(dim=8, prefix_dim=4), Oracle()
    rows = np.concatenate([np.repeat(nested_vectors(1, 8), 1800, axis=0), nested_vectors(500, 8, seed=2)])
    ids = [f"r{i}" for i in range(2300)]
    for target in (store, oracle):
        target.upsert(ids, rows)
    store.optimize()
    assert store.verify().ok
    assert store.query(rows[0], k=20, exact=True).ids == ids[:20]
    for i in range(1800, 2300, 49):
        found = store.query(rows[i], k=5)
        assert found.ids[0] == f"r{i}"
        assert recall(found, oracle.scores(rows[i]), 5) == 1.0
    assert len(store.query(rows[0], k=2300)) == 2300
