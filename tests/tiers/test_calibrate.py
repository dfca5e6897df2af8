"""Calibration: targets are reached on queries it has not seen, bad prefixes are noticed, curves are kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.planning.calibration_curves import CalibrationCurves, Curve, Level
from mrlstore.recall import calibrate, ground_truth
from mrlstore.system.job import Interrupted, Job
from tests import inside
from tests.nested import nested
from tests.scale import figure
from tests.tiers.conftest import DIM, Indexed, fill, recall

TARGETS = (0.9, 0.95, 0.99)


def work_of(result: Any) -> float:
    return float(sum(part.visited + 10 * part.reranked for part in result.plan.segments))


def check_targets(indexed: Indexed, where: Any = None) -> None:
    """Every target is reached to within 0.01 on queries that calibration has not seen; more costs more."""
    exact = [indexed.store.query(v, include=(), exact=True, where=where) for v in indexed.queries]
    costs = []
    for target in TARGETS:
        found = [
            indexed.store.query(v, include=(), target_recall=target, where=where) for v in indexed.queries
        ]
        measured = recall(found, exact)
        plan = found[0].plan
        assert measured >= target - 0.01, (target, measured, plan)
        assert plan.target == target
        assert plan.expected is not None
        assert plan.expected.low <= plan.expected.recall <= plan.expected.high
        assert plan.expected.recall >= target
        costs.append(float(np.mean([work_of(one) for one in found])))
    assert costs[0] <= costs[1] <= costs[2]
    assert costs[0] < costs[2]


def test_targets_are_reached_on_generated_rows(generated: Indexed) -> None:
    check_targets(generated)


def test_targets_are_reached_under_a_filter(generated: Indexed) -> None:
    check_targets(generated, {"n": {"$lt": 50}})


def test_targets_are_reached_on_real_rows(real: Indexed) -> None:
    check_targets(real)


def test_the_default_is_a_stated_target(generated: Indexed) -> None:
    plan = generated.store.query(generated.queries[0], include=()).plan
    assert (plan.effort, plan.target) == ("default", 0.99)
    assert plan.expected is not None
    assert plan.segments[0].code_bytes > 0
    explicit = generated.store.query(generated.queries[0], include=(), ef=50).plan
    assert (explicit.effort, explicit.target, explicit.expected) == ("explicit", None, None)


def test_a_target_of_one_is_exact(generated: Indexed) -> None:
    query = generated.queries[0]
    result = generated.store.query(query, include=(), target_recall=1)
    assert result.plan.segments[0].path == "exact"
    assert result.ids == generated.store.query(query, include=(), exact=True).ids


@pytest.mark.parametrize("wrong", [0, -1, 1.01, float("nan"), "high", True])
def test_wrong_targets_are_refused(generated: Indexed, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="target_recall"):
        generated.store.query(generated.queries[0], target_recall=wrong)


def test_a_target_and_an_explicit_effort_exclude_each_other(generated: Indexed) -> None:
    with pytest.raises(InvalidInput, match="target_recall"):
        generated.store.query(generated.queries[0], target_recall=0.9, ef=100)


def test_other_k_take_the_next_curve_or_more_effort(generated: Indexed) -> None:
    exact = [generated.store.query(v, 40, include=(), exact=True) for v in generated.queries[:60]]
    found = [generated.store.query(v, 40, include=(), target_recall=0.95) for v in generated.queries[:60]]
    assert recall(found, exact) >= 0.94
    assert found[0].plan.expected.k == 10
    assert "k = 10" in found[0].plan.remark
    small = generated.store.query(generated.queries[0], 3, include=(), target_recall=0.95).plan
    assert small.expected is not None
    assert small.remark == ""


def test_calibrate_with_queries_says_so_and_is_kept(tmp_path: Path) -> None:
    vectors = nested(2_400, DIM, hard=True)
    store = fill(tmp_path / "s.mrl", vectors[:2_300], 64)
    report = store.calibrate(vectors[2_300:], k=(5, 20))
    assert (report.source, report.queries) == ("queries", 100)
    assert {(curve.k, curve.name) for curve in report.curves} == {
        (k, name) for k in (5, 20) for name in ("all", "half", "tenth", "few")
    }
    store.close()
    with mrlstore.open(tmp_path / "s.mrl", mode="r") as again:
        plan = again.query(vectors[0], 5, include=()).plan
        assert plan.expected is not None
        assert (plan.expected.source, plan.expected.queries, plan.expected.k) == ("queries", 100, 5)


def test_calibrate_checks_its_arguments(generated: Indexed, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="queries"):
        generated.store.calibrate(generated.queries[:1])
    with pytest.raises(InvalidInput, match="dimensions"):
        generated.store.calibrate(np.ones((5, 3)))
    with pytest.raises(mrlstore.MrlStoreError):
        generated.store.calibrate(k=0)
    for k in (np.array(5), [1, np.array(5)], "5", [], 2.5):
        with pytest.raises(InvalidInput, match="k: "):
            generated.store.calibrate(k=k)
    with mrlstore.open(tmp_path / "empty.mrl") as empty, pytest.raises(InvalidInput, match="no vectors"):
        empty.calibrate()


def test_curves_are_those_that_no_cheaper_effort_equals(generated: Indexed) -> None:
    for curve in generated.store.calibrate().curves:
        costs = [level.cost_us for level in curve.levels]
        surest = [level.assured for level in curve.levels]
        assert costs == sorted(costs)
        assert surest == sorted(surest)
        assert curve.levels[-1].path == "exact"
        assert curve.choose(1.0) is None


def test_a_filter_does_not_make_the_shortlist_shorter() -> None:
    """The prefix tells rows apart no better among those that pass."""

    def curve(name: str, shortlist: int) -> Curve:
        level = Level("walk", 384, shortlist, 0, 0.13, 3.5, 0.999, 200, 0.001, 1.0, 900, 60, 90)
        return Curve(10, name, (level,), 200, "stored rows", 100_000, 100_001, (), 768)

    found = CalibrationCurves((curve("all", 130), curve("half", 140), curve("tenth", 40))).effort(10, None)
    assert found.shortlist == found.at(1.0).shortlist == 130
    assert found.at(0.5).shortlist == 140
    assert found.at(0.1).shortlist == 130 <= found.at(0.1).ef


def gaussian(n: int, dim: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def late(n: int, dim: int, seed: int) -> Any:
    """The last three quarters of the dims carry nearly everything."""
    vectors = gaussian(n, dim, seed)
    vectors[:, : dim // 4] *= 0.15
    return vectors


@pytest.mark.parametrize("make", [gaussian, late])
def test_bad_prefixes_are_noticed_and_the_target_is_still_reached(
    tmp_path: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    n = figure(20_000, 2_200)
    with caplog.at_level(logging.WARNING, "mrlstore"):
        store = fill(tmp_path / "s.mrl", make(n, 192, 1), 48)
    assert "say too little" in caplog.text
    queries = make(40, 192, 2)
    exact = [store.query(v, include=(), exact=True) for v in queries]
    for target in TARGETS:
        found = [store.query(v, include=(), target_recall=target) for v in queries]
        assert recall(found, exact) >= target - 0.01
    assert "scan" in found[0].plan.remark
    assert any("say too little" in words for words in store.calibrate().warnings)
    store.close()


def test_it_is_refreshed_when_enough_rows_have_changed(tmp_path: Path) -> None:
    n = figure(30_000, 3_000)
    rows = nested(n, DIM, hard=True)
    store = fill(tmp_path / "s.mrl", rows, 64)
    other = np.roll(nested(n * 3 // 10, DIM, seed=5), 64, axis=1)  # of a different distribution
    kept = inside.session(store).snapshots.latest().calibration
    store.upsert([f"few {i}" for i in range(n // 50)], other[: n // 50])
    store.optimize()
    assert inside.session(store).snapshots.latest().calibration.stored == kept.stored
    store.upsert([str(i) for i in range(len(other))], other)
    assert (
        calibrate.changed_share(inside.session(store).snapshots.latest(), kept.curves[0])
        > calibrate.REFRESH_SHARE
    )
    store.optimize()
    fresh = inside.session(store).snapshots.latest().calibration
    assert fresh.stored != kept.stored
    queries = np.concatenate(
        [nested(60, DIM, seed=8, hard=True), np.roll(nested(60, DIM, seed=9), 64, axis=1)]
    )
    check_targets(Indexed(store, rows, queries))
    store.close()


def test_calibrating_again_forgets_no_epoch(tmp_path: Path) -> None:
    """New rows begin an epoch once, however often the curves are measured afterwards."""
    with fill(tmp_path / "s.mrl", nested(2_200, DIM), 64) as store:
        (first,) = {curve.mark for curve in store.calibrate().curves}
        store.upsert([f"new {i}" for i in range(200)], nested(200, DIM, seed=7))
        store.optimize()
        for _ in range(6):
            curves = store.calibrate(count=20).curves
            assert {curve.earlier for curve in curves} == {(first,)}
        assert {curve.mark for curve in curves} == {first + 200}


def test_small_stores_are_left_alone(opened: Any) -> None:
    store = opened(dim=16)
    store.upsert([str(i) for i in range(500)], gaussian(500, 16, 0))
    store.optimize()
    plan = store.query(np.ones(16), include=()).plan
    assert plan.expected is None
    assert "not calibrated" in plan.remark
    assert store.calibrate().curves == ()
    high = store.query(np.ones(16), include=(), target_recall=0.999).plan
    assert high.segments[0].path == "exact"


@pytest.mark.parametrize("left", [0, 1, 40])
def test_rows_that_died_say_nothing_against_the_prefix(tmp_path: Path, left: int) -> None:
    """A graph of dead rows is dear to walk: that no walk is worth its while is not the prefix's fault."""
    rows = nested(2_500, 64)
    with fill(tmp_path / "s.mrl", rows, 32) as store:
        if left:
            store.delete([str(i) for i in range(left, len(rows))])
        else:
            store.clear()
        assert store.calibrate().warnings == store.calibrate(rows[:50]).warnings == ()
        found = store.query(rows[0])
        assert found.ids == store.query(rows[0], exact=True).ids
        assert len(found) == min(left, 10)


def test_harder_queries_are_told(generated: Indexed) -> None:
    """Queries between the topics: their neighbours lie scattered, which stored rows do not show."""
    hard = np.random.default_rng(2).standard_normal((100, DIM)).astype(np.float32)
    report = generated.store.calibrate(hard)
    assert any("harder than stored rows" in words for words in report.warnings)
    generated.store.calibrate()


def test_it_can_be_interrupted(generated: Indexed) -> None:
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(Interrupted):
        calibrate.calibrate(inside.session(generated.store), job=Job(should_stop=stop))
    assert len(calls) == 4


def test_a_damaged_entry_is_left_out_and_found_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "s.mrl"
    store = fill(path, nested(2_200, DIM), 64)
    with inside.session(store).catalogue.write() as write:
        write.connection.execute("UPDATE calibration SET value = value || ' ' WHERE class = 'all'")
    assert store.query(np.ones(DIM), include=()).plan.expected is None
    assert any("calibration" in problem.what for problem in store.verify().problems)
    store.optimize()  # measured anew
    assert store.query(np.ones(DIM), include=()).plan.expected is not None
    assert store.verify().ok
    store.close()


def test_exact_neighbours_are_those_of_numpy(generated: Indexed) -> None:
    store, queries = generated.store, generated.queries[:20]
    snapshot = inside.session(store).snapshots.latest()
    rows = np.asarray(generated.rows, np.float64)
    found = ground_truth.nearest(ground_truth.rows_of(snapshot, ""), queries, 10, dims=(48, DIM), threads=2)
    for dim in (48, DIM):
        scores = queries[:, :dim].astype(np.float64) @ rows[:, :dim].T
        scores /= np.linalg.norm(rows[:, :dim], axis=1) * np.linalg.norm(queries[:, :dim], axis=1)[:, None]
        best = -np.sort(-scores, axis=1)[:, :10]
        np.testing.assert_allclose(found[dim, "all"].scores, best, atol=2e-3)
        names = [r.id for r in store.scan(include=())]
        assert len(names) == len(rows)


def test_random_filters_let_their_share_through() -> None:
    keys = np.arange(1, 200_001)
    for share in (0.5, 0.1, 0.01):
        assert ground_truth.draw(keys, share).mean() == pytest.approx(share, rel=0.05)
    assert ground_truth.draw(keys, 1.0).all()
