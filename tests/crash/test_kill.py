"""SIGKILL at random moments: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.children import Child, children
from tests.crash import workload
from tests.oracle import Oracle, assert_exact, assert_same_rows
from tests.scale import figure, shares


def same(store: Any, oracle: Oracle) -> bool:
    """Whether the store holds what the oracle holds: a quick look before the thorough one."""
    found = {
        (record.namespace, record.id): (record.metadata, record.document)
        for record in store.scan(namespace=None, include=("metadata", "document"))
    }
    return found == {key: (row.metadata, row.document) for key, row in oracle.rows.items()}


def judge(path: Path, oracle: Oracle, pending: Oracle) -> Oracle:
    """The killed store is in the acknowledged state, or in the one the last step was to reach."""
    with mrlstore.open(path, auto_maintain=False) as store:
        state = oracle if same(store, oracle) else pending
        assert_same_rows(store, state)
        for space in ("", "tenant"):
            query = workload.POOL[17]
            truth = state.scores(query, namespace=space)
            assert_exact(store.query(query, k=20, namespace=space, exact=True), truth, 20)
            assert len(store.query(query, k=10, namespace=space)) == min(10, len(truth))
        report = store.verify()
        assert report.ok, report.problems
    return state


@pytest.mark.parametrize("share", shares(10, 2))
def test_killed_writers_lose_nothing_acknowledged(path: Path, share: int) -> None:
    rng = random.Random(share)
    oracle, step = Oracle(), 0
    for round_ in range(figure(20, 5)):
        pending = oracle.copy()
        child = Child(workload.run, str(path), share, step, round_ % 2 == 0)
        with children(child):
            assert child.receive() == "open"
            for _ in range(2 * rng.randrange(0, figure(25, 12))):
                step = hear(child.receive(), oracle, pending, share)
            child.pipe.poll(rng.random() * 0.05)  # a random moment within the next step
            child.kill()
            for message in child.heard():
                step = hear(message, oracle, pending, share)
        state = judge(path, oracle, pending)
        if state is pending:
            step += 1
        oracle = state.copy()


def hear(message: Any, oracle: Oracle, pending: Oracle, seed: int) -> int:
    """Bring both states up to what the child has said; the first step that is not acknowledged."""
    kind, step = message
    workload.apply(pending if kind == "begins" else oracle, seed, step)
    return int(step) + (kind == "done")


def test_killed_at_once_while_creating(tmp_path: Path) -> None:
    rng = random.Random(5)
    for turn in range(figure(100, 6)):
        path = tmp_path / f"{turn}.mrl"
        child = Child(workload.run, str(path), 1, 0, True)
        with children(child):
            child.pipe.poll(rng.random() * 0.03)
            child.kill()
        with mrlstore.open(path, dim=workload.DIM, prefix_dim=workload.PREFIX) as store:
            store.upsert(["after"], workload.POOL[:1])
            assert "after" in store
            assert store.verify().ok
