"""The heap and the beam against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.kernels import topk
from mrlstore.kernels.jit import kernel


@kernel("int64(float32[::1], int64, float32[::1], int64[::1], int64)")
def keep(offers, k, scores, rows, keys):
    size = 0
    for row in range(offers.size):
        size = topk.offer(scores, rows, size, k, offers[row], row, keys)
    topk.best_first(scores, rows, size, keys)
    return size


@kernel("int64(float32[::1], int64, float32[::1], int32[::1])")
def beam(offers, limit, scores, rows):
    size = 0
    for row in range(offers.size):
        if topk.insert(scores, rows, size, limit, offers[row], row) < limit:
            size = min(size + 1, limit)
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
    offers = np.random.default_rng(limit).integers(0, 60, 300).astype(np.float32)
    scores, rows = np.zeros(limit + 1, np.float32), np.zeros(limit + 1, np.int32)
    size = beam(offers, limit, scores, rows)
    expected = np.lexsort((np.arange(300), -offers))[:limit]
    np.testing.assert_array_equal(rows[:size], expected)
