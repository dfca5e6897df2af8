"""Searches that are remembered with a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore.search.params import Asked
from mrlstore.storage.snapshot import Ready
from mrlstore.where import parse

MIB = 1024 * 1024


def test_what_was_kept_is_given_for_the_same_question_alone() -> None:
    ready, asked, other = Ready(), Asked(10, ""), Asked(10, "")
    ready.keep(asked, None, "free", 0)
    ready.keep(asked, parse({"a": 1}), "filtered", MIB)
    assert ready.get(asked, None) == "free"
    assert ready.get(asked, parse({"a": {"$eq": 1.0}})) == "filtered"
    assert ready.get(asked, parse({"a": 2})) is None
    assert ready.get(other, None) is None


def test_neither_many_searches_nor_large_ones_pile_up() -> None:
    ready = Ready()
    for many in range(1_000):
        ready.keep(Asked(10, str(many)), None, many, 0)
    assert len(ready._searches) <= 200
    asked = Asked(10, "")
    for large in range(100):
        ready.keep(asked, parse({"a": large}), large, MIB)
        assert ready.get(asked, parse({"a": large})) == large
        assert len(ready._searches) <= 232
    assert len(ready._searches) <= 32
    ready.keep(asked, parse({"a": -1}), "too large", 33 * MIB)
    assert ready.get(asked, parse({"a": -1})) is None


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
