"""Recall on rows that are nearly the same, and what an index holds of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from benchmarks.recall.measure import recall
from benchmarks.recall.near_copies import DIM, PREFIX, Copies, generate, stored
from mrlstore.index.build import build_index
from mrlstore.index.copies import copy_radius, copy_sets, find_copies
from mrlstore.index.group import NO_COPIES
from mrlstore.index.layout import open_index
from mrlstore.index.verification import verify_index
from mrlstore.maintenance import steps
from mrlstore.system.job import UNWATCHED
from tests import inside
from tests.scale import figure
from tests.shared import Shared

QUESTIONS = figure(1_000, 60)


@pytest.fixture(scope="module", params=[(30, 0.0), (30, 0.05), (1_000, 0.01)], ids=str)
def copied(
    request: pytest.FixtureRequest, shared: Shared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Copies, mrlstore.Store]]:
    """Groups of near copies among 600 other rows."""
    size, noise = request.param
    copies = generate(figure(6_000, 2_400) // size or 2, size, noise, 600, questions=QUESTIONS)
    target = tmp_path_factory.mktemp("copied") / "s.mrl"
    shared.store(f"copies-{size}-{noise}.mrl", target, lambda path: stored(path, copies.rows).close())
    with mrlstore.open(target, auto_maintain=False) as store:
        yield copies, store


@pytest.mark.parametrize(
    "options",
    [{}, {"where": {"n": {"$lt": 50}}}, {"where": {"topic": {"$lt": 10}}}, {"target_recall": 0.999}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["random", "near"])
def test_recall_holds(copied: tuple[Copies, mrlstore.Store], kind: str, options: dict[str, Any]) -> None:
    copies, store = copied
    found = recall(store, getattr(copies, kind), **options)
    assert found.recall.mean >= 0.985
    assert found.without_a_hit == 0


def test_more_explicit_effort_finds_more_and_all_of_it_everything(
    copied: tuple[Copies, mrlstore.Store],
) -> None:
    copies, store = copied
    questions, n = copies.random[:30], len(store)
    recalls = [recall(store, questions, ef=ef, shortlist=ef).recall.mean for ef in (10, 40, 400, n)]
    assert recalls == sorted(recalls)
    for question in questions:
        whole = store.query(question, include=(), ef=n, shortlist=n)
        assert whole.ids == store.query(question, include=(), exact=True).ids


def test_a_group_after_deletes(tmp_path: Path) -> None:
    """The node itself may be among the deleted rows."""
    copies = generate(80, 30, 0.02, questions=QUESTIONS)
    with stored(tmp_path / "s.mrl", copies.rows) as store:
        (part,) = inside.session(store).snapshots.latest().segments
        index = part.segment.run("").group.index
        names = store.sample(len(store))
        order = {int(record.id): record.id for record in names}
        nodes = [order[i] for i in range(0, len(order), 3)]
        assert len(index.copies.rows) > 2_000
        store.delete(nodes)
        for questions in (copies.random, copies.near):
            found = recall(store, questions)
            assert found.recall.mean >= 0.985
            assert found.without_a_hit == 0


@pytest.mark.parametrize("segments", [1, 2])
def test_copies_far_from_their_node_are_found(tmp_path: Path, segments: int) -> None:
    """Their nodes stand further down the list than those among the best k by themselves."""
    copies = generate(2, 1_600 * segments, 0.1, questions=figure(1_000, 100))
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
        for number, rows in enumerate(np.array_split(copies.rows, segments)):
            store.upsert([f"{number} {i}" for i in range(len(rows))], rows)
            steps.flush(inside.session(store))
        steps.complete_all(inside.session(store), UNWATCHED)
        for questions in (copies.random, copies.near):
            found = recall(store, questions, target_recall=0.95)
            assert found.recall.mean >= 0.97
            assert found.reranked < 600


def test_thousands_of_equal_rows_need_no_scan(tmp_path: Path) -> None:
    row = np.random.default_rng(0).standard_normal(DIM, dtype=np.float32)
    with stored(tmp_path / "s.mrl", np.tile(row, (3_000, 1))) as store:
        found = store.query(row, include=())
        assert found.plan.segments[0].path == "walk"
        assert 0 < found.plan.segments[0].copies < found.plan.reranked < 100
        assert found.ids == store.query(row, include=(), exact=True).ids
        assert store.calibrate().warnings == ()


def test_every_row_is_a_node_or_the_copy_of_one() -> None:
    copies = generate(40, 50, 0.03, 500)
    rows = copies.rows / np.linalg.norm(copies.rows, axis=1, keepdims=True)
    arrays, info = build_index(rows.astype(np.float16), np.array([0, len(rows)]), prefix_dim=PREFIX)
    index = open_index(arrays, info, 0, 0, len(rows))
    assert verify_index(arrays, info, np.array([0, len(rows)])) == []
    assert len(index.copies.rows) > 1_900
    nodes = index.node_of
    assert (nodes[nodes] == nodes).all()
    prefixes = rows[:, :PREFIX] / np.linalg.norm(rows[:, :PREFIX], axis=1, keepdims=True)
    away = np.einsum("ij,ij->i", prefixes - prefixes[nodes], prefixes - prefixes[nodes])
    assert away.max() < 0.03 * 2
    only = np.zeros(len(rows), np.bool_)
    only[index.copies.rows[:1]] = True
    assert np.flatnonzero(index.allowed_nodes(only)).tolist() == [nodes[index.copies.rows[0]]]


@pytest.mark.parametrize(
    "change",
    [
        lambda sets, rows: sets.__setitem__((0, 0), 10**6),
        lambda sets, rows: sets.__setitem__((0, 2), sets[0, 2] + 1),
        lambda sets, rows: rows.__setitem__(0, rows[1]),
        lambda sets, rows: rows.__setitem__(0, sets[0, 0]),
        lambda sets, rows: sets.__setitem__(slice(None), sets[::-1].copy()),
    ],
)
def test_damaged_sets_are_found_and_do_no_harm(tmp_path: Path, change: Any) -> None:
    copies = generate(80, 30, 0.02, questions=5)
    rows = copies.rows / np.linalg.norm(copies.rows, axis=1, keepdims=True)
    groups = np.array([0, len(rows)])
    arrays, info = build_index(rows.astype(np.float16), groups, prefix_dim=PREFIX)
    change(arrays["copy_sets"], arrays["copies"])
    (problem,) = verify_index(arrays, info, groups)
    assert "copies" in problem or "reached" in problem


def test_few_rows_and_rows_apart_have_no_copies() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 255, (300, 64)).astype(np.uint8)
    codes[:, :4] = np.frombuffer(np.float32(0.01).tobytes(), np.uint8)
    for count in (3, 300):
        rows = np.arange(count)
        nodes = find_copies(codes, rows, copy_radius(codes, rows), lambda rows: None)
        assert copy_sets(nodes) is NO_COPIES
