"""Graphs that grow from that of an older segment: what they hold and find, and when none is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mrlstore
from mrlstore.index import build, graph
from mrlstore.index.build import build_index
from mrlstore.index.codes import coding_of
from mrlstore.index.growing import Seed
from mrlstore.index.layout import open_index
from mrlstore.index.verification import verify_index
from tests import inside
from tests.nested import nested

OLD, NEW, DIM, PREFIX = 3_000, 600, 64, 32
OPTIONS: dict[str, Any] = {"prefix_dim": PREFIX, "m": 8, "ef_construction": 60}


class Grown:
    """An index of old rows, and one of those that are kept and new ones, grown from it."""

    def __init__(self, rows: NDArray[np.float16], kept: NDArray[np.int64], old: int) -> None:
        before, info = build_index(rows[:old], np.array([0, old]), **OPTIONS)
        self.before = open_index(before, info, 0, 0, old)
        self.rows = np.concatenate([rows[:old][kept], rows[old:]])
        self.places = np.full(old, -1)
        self.places[kept] = np.arange(len(kept))
        bounds = np.array([0, len(self.rows)])
        seeds = [Seed(self.before, self.places)]
        arrays, info = build_index(self.rows, bounds, like=coding_of(before, PREFIX), seeds=seeds, **OPTIONS)
        assert verify_index(arrays, info, bounds) == []
        self.index = open_index(arrays, info, 0, 0, len(self.rows))


@pytest.fixture
def grown_from(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each graph that grew has begun with."""
    sizes: list[int] = []
    plain = graph.grow_graph

    def watched(codes: Any, start: Any, *others: Any) -> Any:
        sizes.append(len(start.nodes))
        return plain(codes, start, *others)

    monkeypatch.setattr(build, "grow_graph", watched)
    return sizes


def test_rows_that_stay_keep_links_and_removed_ones_have_none() -> None:
    rows = nested(OLD + NEW, DIM).astype(np.float16)
    kept = np.setdiff1d(np.arange(OLD), np.arange(0, OLD, 10))
    found = Grown(rows, kept, OLD)
    assert found.before.neighbours is not None and found.index.neighbours is not None
    old, new = found.before.neighbours[kept].astype(np.int64), found.index.neighbours[: len(kept)]
    links = np.where(old < OLD, found.places[np.minimum(old, OLD - 1)], -1)
    still = [len(np.intersect1d(a[a >= 0], b)) for a, b in zip(links, new, strict=True)]
    assert sum(still) > 0.8 * np.count_nonzero(links >= 0)
    assert len(found.index.entries) >= 14


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_near_copies_of_old_rows_join_them(removed: int) -> None:
    """Groups of 20 near copies; of each the first rows were removed, the last three are new."""
    rng = np.random.default_rng(2)
    rows = np.repeat(nested(150, DIM), 23, axis=0)
    rows += 0.002 * rng.normal(size=rows.shape).astype(np.float32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    group, member = np.arange(len(rows)) // 23, np.arange(len(rows)) % 23
    order = np.concatenate([np.flatnonzero(member < 20), np.flatnonzero(member >= 20)])
    old = int(np.count_nonzero(member < 20))
    kept = np.flatnonzero(member[order][:old] >= removed)
    found = Grown(rows[order], kept, old)
    groups = np.concatenate([group[order][:old][kept], group[order][old:]])
    nodes = found.index.node_of
    assert (groups[nodes] == groups).all()
    assert len(np.unique(nodes)) < 2 * 150


def test_merges_grow_graphs_and_find_what_new_graphs_find(tmp_path: Path, grown_from: list[int]) -> None:
    rows, questions = nested(5_000, DIM), nested(200, DIM, seed=5)
    options: dict[str, Any] = {"dim": DIM, "prefix_dim": PREFIX, "m": 8, "auto_maintain": False}
    live = np.arange(3_000)
    rng = np.random.default_rng(1)
    with mrlstore.open(tmp_path / "s.mrl", **options) as store:
        store.upsert([str(i) for i in live.tolist()], rows[:3_000])
        store.optimize()
        for first in range(3_000, 5_000, 1_000):
            gone = rng.choice(live, 300, replace=False)
            store.delete([str(i) for i in gone.tolist()])
            store.upsert([str(i) for i in range(first, first + 1_000)], rows[first : first + 1_000])
            store.optimize()
            live = np.concatenate([np.setdiff1d(live, gone), np.arange(first, first + 1_000)])
        assert len(grown_from) == 2 and grown_from[0] == 2_700
        assert store.stats().segments == 1 and store.verify().ok
        with mrlstore.open(tmp_path / "anew.mrl", **options) as anew:
            anew.upsert([str(i) for i in live.tolist()], rows[live])
            anew.optimize()
            found = [0, 0]
            for question in questions:
                best = {*store.query(question, include=(), exact=True).ids}
                for number, one in enumerate((store, anew)):
                    found[number] += len(best & {*one.query(question, ef=64, shortlist=64, include=()).ids})
    assert found[0] >= found[1] - 0.01 * 10 * len(questions)


def test_a_damaged_graph_is_not_kept(tmp_path: Path, grown_from: list[int]) -> None:
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=PREFIX, m=8, auto_maintain=False) as store:
        store.upsert([str(i) for i in range(OLD)], nested(OLD, DIM))
        store.optimize()
        index = inside.first_segment(store).index
        assert index is not None
        path = index.path / "neighbours.npy"
    held = bytearray(path.read_bytes())
    held[-40] ^= 1
    path.chmod(0o600)
    path.write_bytes(held)
    with mrlstore.open(tmp_path / "s.mrl", auto_maintain=False) as store:
        store.upsert([f"new {i}" for i in range(NEW)], nested(NEW, DIM, seed=3))
        store.optimize()
        assert store.stats().segments == 1 and store.verify().ok
    assert grown_from == []


@pytest.mark.parametrize(("kept", "others", "fits"), [(1.0, 0.1, True), (0.6, 0.1, False), (1.0, 1.5, False)])
def test_which_graphs_are_kept(kept: float, others: float, fits: bool) -> None:
    """Not where many rows were removed, nor where most rows are new."""
    rows = nested(OLD, DIM).astype(np.float16)
    arrays, info = build_index(rows, np.array([0, OLD]), **OPTIONS)
    places = np.where(np.arange(OLD) < kept * OLD, np.arange(OLD), -1)
    seed = Seed(open_index(arrays, info, 0, 0, OLD), places)
    assert seed.fits(int(kept * OLD + others * OLD)) is fits


def test_a_graph_whose_nodes_were_removed_is_not_kept() -> None:
    """Most rows stay, but these have no direction in the prefix, so none of the old nodes is left."""
    nodes, others = 2_100, 6_000
    old = nodes + others
    rows = nested(old + nodes, DIM)
    rows[nodes:old, :PREFIX] = 0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stored, places = rows.astype(np.float16), np.arange(old) - nodes
    arrays, info = build_index(stored[:old], np.array([0, old]), **OPTIONS)
    seed = Seed(open_index(arrays, info, 0, 0, old), np.where(places < 0, -1, places))
    assert len(seed.index.unprefixed) == others
    left, bounds = stored[nodes:], np.array([0, old])
    assert not seed.fits(len(left))
    anew, told = build_index(left, bounds, like=coding_of(arrays, PREFIX), seeds=[seed], **OPTIONS)
    assert verify_index(anew, told, bounds) == []
