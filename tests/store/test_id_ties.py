"""Equal scores by id: the same answer in every store that holds the same rows, however they were written."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrlstore

DIM = 4
DIRECTIONS = np.eye(DIM, dtype=np.float32)[[0, 1, 2]]  # few, so that most scores are equal


def answered(store: mrlstore.Store, k: int, **more: Any) -> list[tuple[str, float]]:
    result = store.query([1.0, 0.5, 0.25, 0.0], k, exact=True, ties="id", **more)
    assert result.ids == [hit.id for hit in result]
    return [(hit.id, hit.score) for hit in result]


def expected(rows: dict[str, int], k: int) -> list[str]:
    """The query is nearest to the first direction, then to the second."""
    return sorted(rows, key=lambda name: (rows[name], name.encode()))[:k]


names = st.text(st.sampled_from("ab\u00e9\U0001f600\uffff"), min_size=1, max_size=3)


def test_ties_go_by_id_whatever_the_order_of_writing(tmp_path: Path) -> None:
    with (
        mrlstore.open(tmp_path / "one.mrl", dim=DIM, auto_maintain=False) as one,
        mrlstore.open(tmp_path / "two.mrl", dim=DIM, auto_maintain=False) as two,
    ):

        @settings(max_examples=60, deadline=None)
        @given(st.dictionaries(names, st.integers(0, 2), max_size=40), st.integers(1, 30), st.booleans())
        def check(rows: dict[str, int], k: int, merged: bool) -> None:
            for store in (one, two):
                store.clear()
                order = list(rows)
                random.Random(id(store)).shuffle(order)
                for name in order:
                    store.upsert([name], DIRECTIONS[[rows[name]]], [{"row": rows[name]}])
            if merged:
                one.optimize()
            found = answered(one, k)
            assert [name for name, _ in found] == expected(rows, k)
            assert found == answered(two, k)
            assert all(
                hit.metadata == {"row": rows[hit.id]} for hit in one.query(DIRECTIONS[0], k, ties="id")
            )

        check()


def test_more_ties_than_a_query_may_ask_for(tmp_path: Path) -> None:
    count = 12_000
    order = [f"r{i:05}" for i in range(count)]
    random.Random(3).shuffle(order)
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, auto_maintain=False) as store:
        store.upsert(order, np.tile(DIRECTIONS[0], (count, 1)))
        for k in (1, 10, 10_000):
            assert [name for name, _ in answered(store, k)] == sorted(order)[:k]
        assert answered(store, 10, min_score=0.99) == []


def test_what_it_cannot_be_combined_with(tmp_path: Path) -> None:
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, auto_maintain=False) as store:
        store.upsert(["a", "b"], DIRECTIONS[:2], documents=["x", "y"])
        vector = DIRECTIONS[0]
        for more in (
            {"keywords": "x"}, {"group_by": "n"}, {"offset": 1}, {"diversity": 0.5}, {"positive": ["a"]},
        ):  # fmt: skip
            source = None if "positive" in more else vector
            with pytest.raises(mrlstore.InvalidInput, match="ties"):
                store.query(source, ties="id", **more)
        with pytest.raises(mrlstore.InvalidInput, match="ties"):
            store.query(vector, ties="name")  # type: ignore[arg-type]
        assert store.query(id="a", ties="id").ids == store.query(id="a").ids
        assert store.query(vector, ties="id", explain=True).plan.explanation is not None
