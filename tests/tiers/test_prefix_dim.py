"""Changing the prefix in place: answers before, during and after; writes meanwhile; going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.maintenance import steps
from mrlstore.system.job import UNWATCHED
from tests import inside
from tests.nested import nested
from tests.scale import figure
from tests.shared import Shared
from tests.tiers.conftest import DIM, filled_once, recall

N = figure(20_000, 2_500)


@pytest.fixture
def filled(tmp_path: Path, shared: Shared) -> Any:
    store = filled_once(shared, "prefix.mrl", tmp_path / "s.mrl", nested(N, DIM), 64)
    yield store
    report = store.verify()
    assert report.ok, report.problems
    store.close()


def check(store: Any, rows: Any) -> None:
    queries = nested(40, DIM, seed=7)
    exact = [store.query(q, include=(), exact=True) for q in queries]
    assert recall([store.query(q, include=()) for q in queries], exact) >= 0.97
    scores = rows @ queries[0]
    assert exact[0].scores[0] == pytest.approx(scores.max(), abs=1e-3)


def prefixes(store: Any) -> set[int]:
    return {
        part.segment.index.info["prefix_dim"] for part in inside.session(store).snapshots.latest().segments
    }


def test_there_and_back(filled: Any) -> None:
    rows = nested(N, DIM)
    extra = nested(50, DIM, seed=3)
    filled.upsert([f"tail {i}" for i in range(50)], extra)
    every = np.concatenate([rows, extra])
    for wanted in (32, 64, DIM):
        filled.set_prefix_dim(wanted)
        assert filled.prefix_dim == wanted
        assert prefixes(filled) == {wanted}
        assert inside.session(filled).snapshots.latest().tail.buffer.prefix_dim == wanted
        curve = inside.session(filled).snapshots.latest().calibration.curve(10, "all")
        assert curve.prefix_dim == wanted
        check(filled, every)
        assert filled.query(extra[7], 1, include=()).ids == ["tail 7"]


def test_reads_and_writes_go_on_meanwhile(filled: Any, tmp_path: Path) -> None:
    rows = nested(N, DIM)
    seen: list[Any] = []
    with mrlstore.open(tmp_path / "s.mrl", auto_maintain=False) as other:

        def meanwhile(step: mrlstore.Progress) -> None:
            name = f"during {len(seen)}"
            other.upsert([name], rows[:1] + 0.01)
            seen.append(filled.query(rows[0], 5, include=()).ids[0])
            assert name in other.query(rows[0] + 0.01, len(seen) + 5, include=(), exact=True).ids

        filled.set_prefix_dim(32, progress=meanwhile)
        assert len(seen) >= 2
        assert prefixes(filled) == prefixes(other) == {32}
        assert other.prefix_dim == 32
        assert filled.count() == N + len(seen)


def test_a_stop_in_the_midst_is_made_good(filled: Any, tmp_path: Path) -> None:
    rows = nested(N, DIM)

    class Stop(Exception):
        pass

    def stop(step: mrlstore.Progress) -> None:
        raise Stop

    with pytest.raises(Stop):
        filled.set_prefix_dim(32, progress=stop)
    assert prefixes(filled) == {64}  # the old index still serves
    check(filled, rows)
    with mrlstore.open(tmp_path / "s.mrl", auto_maintain=False) as again:  # as after a crash
        assert again.prefix_dim == 32
        check(again, rows)
        again.optimize()
        assert prefixes(again) == {32}
        check(again, rows)
        assert not steps.next_step(inside.session(again), UNWATCHED)


def test_a_query_without_a_direction_in_the_old_prefix_is_scored_in_full(filled: Any) -> None:
    """The new prefix has a direction, but the index still holds codes of the old one."""

    class Stop(Exception):
        pass

    def stop(step: mrlstore.Progress) -> None:
        raise Stop

    with pytest.raises(Stop):
        filled.set_prefix_dim(96, progress=stop)
    assert (filled.prefix_dim, prefixes(filled)) == (96, {64})
    queries = nested(5, DIM, seed=3)
    queries[:, :64] = 0
    queries[1, 0] = 1e-9
    for query in queries:
        exact = filled.query(query, exact=True)
        assert filled.query(query).ids == exact.ids
        assert filled.query(query, where={"n": {"$gte": 0}}).ids == (
            filled.query(query, where={"n": {"$gte": 0}}, exact=True).ids
        )
    exact_batch = filled.query_batch(queries, exact=True)
    assert filled.query_batch(queries).ids == exact_batch.ids


def test_wrong_lengths_are_refused(filled: Any, tmp_path: Path) -> None:
    for wrong in (0, DIM + 1, 1.5, "64"):
        with pytest.raises((InvalidInput, mrlstore.LimitExceeded)):
            filled.set_prefix_dim(wrong)
    with mrlstore.open(tmp_path / "e.mrl") as empty, pytest.raises(InvalidInput, match="no vectors"):
        empty.set_prefix_dim(4)
    with mrlstore.open(tmp_path / "s.mrl", mode="r") as reader, pytest.raises(InvalidInput, match="mode"):
        reader.set_prefix_dim(4)
