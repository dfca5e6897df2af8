"""The heap and the beam against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.kernels import topk
from tests.kernels.kinds import kernel


@kernel("int64(float32[::1], int64, float32[::1], int64[::1], int64)")
def keep(offers, k, scores, rows, keys):
    size = 0
    for row in range(offers.size):
        size = topk.offer(scores, rows, size, k, offers[row], row, keys)
    topk.best_first(scores, rows, size, keys)
    return size


@kernel("int64(float32[::1], int64, int64[::1], int64[::1], float32[::1])")
def beam(offers, limit, entries, rows, scores):
    size = 0
    for row in range(offers.size):
        if topk.insert(entries, size, limit, topk.pack(offers[row], row)) < limit:
            size = min(size + 1, limit)
    for i in range(size):
        rows[i], scores[i] = topk.packed_row(entries[i] | 1), topk.packed_score(entries[i])
    return size


@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 10), (100, 1), (1000, 10), (1000, 999), (3000, 2000)])
def test_heap_keeps_the_best_with_ties_by_key(n, k, levels):
    rng = np.random.default_rng(n + k)
    offers = rng.integers(0, levels, n).astype(np.float32)
    keys = rng.permutation(n).astype(np.int64)
    scores, rows = np.zeros(k, np.float32), np.zeros(k, np.int64)
    size = keep(offers, k, scores, rows, keys.__array_interface__["data"][0])
    expected = np.lexsort((keys, -offers))[:k]
    np.testing.assert_array_equal(rows[:size], expected)
    np.testing.assert_array_equal(scores[:size], offers[expected])


@pytest.mark.parametrize("limit", [1, 2, 16, 100])
def test_beam_keeps_the_best_in_order(limit):
    offers = np.random.default_rng(limit).integers(-30, 30, 300).astype(np.float32) / 7
    entries, rows, scores = (
        np.zeros(limit + 16, np.int64),
        np.zeros(limit, np.int64),
        np.zeros(limit, np.float32),
    )
    size = beam(offers, limit, entries, rows, scores)
    expected = np.lexsort((np.arange(300), -offers))[:limit]
    np.testing.assert_array_equal(rows[:size], expected)
    np.testing.assert_array_equal(scores[:size], offers[expected])
