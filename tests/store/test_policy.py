"""Which segments are merged: few remain, however their sizes lie, and what remains is not merged again."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mrlstore.maintenance import policy
from mrlstore.maintenance.policy import Size
from tests.crash.small import small_thresholds
from tests.oracle import nested_vectors


def after(found: list[Size], chosen: list[int]) -> list[Size]:
    """The segments when the chosen ones are one."""
    merged = sum(found[i].rows - found[i].dead for i in chosen)
    return [size for i, size in enumerate(found) if i not in chosen] + ([Size(merged, 0)] if merged else [])


@pytest.mark.parametrize(
    "rows",
    [
        [5_000] * 10 + [194],
        [194] + [5_000] * 10,
        [1] + [4_096] * 30,
        [10, 50_000, 50_000],
        [10, 1_000, 50_000, 400_000, 50_000],
        [1, 9, 90, 900, 900],
    ],
)
def test_one_small_segment_does_not_keep_large_ones_apart(rows: list[int]) -> None:
    found = [Size(n, 0) for n in rows]
    left = after(found, policy.on_optimize(found))
    assert len(left) <= 2
    while chosen := policy.in_background(found):
        found = after(found, chosen)
    assert len(found) <= policy.MAX_SEGMENTS


def test_a_large_segment_is_not_merged_for_a_few_rows() -> None:
    assert policy.on_optimize([Size(100_000, 0), Size(100, 0)]) == []
    assert policy.on_optimize([Size(100_000, 9_000), Size(100, 0), Size(100, 0)]) == [1, 2]


def test_removed_rows_are_dropped() -> None:
    assert policy.on_optimize([Size(100_000, 11_000), Size(100, 0)]) == [0]
    assert policy.on_optimize([Size(100, 100)]) == [0]
    assert policy.on_optimize([Size(100, 0)]) == policy.on_optimize([]) == []


def test_what_optimize_leaves_it_leaves_again() -> None:
    rng = random.Random(1)
    for _ in range(3_000):
        rows = [int(10 ** rng.uniform(0, 7)) for _ in range(rng.randrange(12))]
        found = [Size(n, int(n * rng.choice([0, 0, 0.05, 0.5, 1]))) for n in rows]
        left = after(found, policy.on_optimize(found))
        assert policy.on_optimize(left) == [], (found, left)
        ordered = sorted(size.rows for size in left)
        for i, n in enumerate(ordered[1:], 1):
            assert n > policy.SIZE_RATIO * sum(ordered[:i]), (found, left)
        assert all(size.dead <= policy.DEAD_SHARE * size.rows for size in left)


def test_optimize_merges_equal_segments_beside_a_small_one(opened: Any) -> None:
    with small_thresholds():
        store = opened(dim=8, prefix_dim=4)
        vectors = nested_vectors(1_000, 8)
        for start in range(0, 1_000, 100):
            store.upsert([f"r{i}" for i in range(start, start + 100)], vectors[start : start + 100])
        store.upsert([f"s{i}" for i in range(4)], vectors[:4])
        store.optimize()
        assert store.stats().segments == 1
        assert np.allclose(store.query(vectors[500], k=1, exact=True).scores, 1.0, atol=1e-3)
