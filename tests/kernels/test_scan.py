"""Scans of codes under masks of every shape, and the bits that they are read by."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore import codes
from mrlstore.group import Group
from mrlstore.kernels import dot
from mrlstore.kernels.jit import kernel
from mrlstore.ways import prepare
from tests.nested import nested
from tests.one_query import search_scan


@kernel("int64(int64, int64[::1])")
def set_places(address, places):
    bits, count = dot.nonzero_bytes(address), 0
    while bits != 0:
        places[count] = dot.lowest_bit(bits)
        bits &= bits - 1
        count += 1
    return count


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_places_of_bytes_that_are_not_zero(share):
    rng = np.random.default_rng(1)
    mask = np.where(rng.random(200) < share, rng.integers(1, 256, 200), 0).astype(np.uint8)
    places = np.zeros(64, np.int64)
    for start in range(0, 137):
        count = set_places(mask.ctypes.data + start, places)
        np.testing.assert_array_equal(places[:count], np.flatnonzero(mask[start : start + 64]))


def native(n):
    """A group without a graph; one row in 50 has no prefix."""
    rows = nested(n, 96, seed=n)
    rows[::50, :64] = 0
    packed, unprefixed = codes.native(rows, 64)
    stored = rows.astype(np.float16)
    inverse = (1 / np.linalg.norm(stored.astype(np.float64), axis=1)).astype(np.float32)
    keys = np.random.default_rng(n).permutation(n)
    return Group(stored, inverse, keys, codes.codes_only(64, packed, unprefixed))


def shortlist(group, query, length, allowed=None):
    """The rows that are re-ranked, in the order of their codes; then those without a prefix."""
    told = []

    def listen(rows, start, stop):
        told[:] = rows.tolist()

    search_scan(group, query, 1, length, allowed, advise=listen)
    return told


@pytest.mark.parametrize("n", [1, 3, 63, 64, 65, 127, 128, 129, 700])
def test_a_filter_leaves_the_order_of_the_codes_as_it_is(n):
    group, rng = native(n), np.random.default_rng(n)
    without = set(range(0, n, 50))
    masks = [rng.random(n) < share for share in (0, 0.01, 0.1, 0.5, 0.99)]
    masks += [np.arange(n) >= n - 1, np.arange(n) < 1, np.arange(n) % 64 == 63, np.ones(n, np.bool_)]
    for vector in nested(3, 96, seed=2):
        query = prepare(vector, 64)
        order = shortlist(group, query, n)
        assert sorted(order) == list(range(n))
        wide = group.vectors[:, :64].astype(np.float64)
        cosines = wide @ vector[:64] / np.maximum(np.linalg.norm(wide, axis=1), 1e-30)
        coded = [row for row in order if row not in without]
        assert np.abs(cosines[coded] - np.sort(cosines[coded])[::-1]).max(initial=0) < 0.05
        for allowed in masks:
            passing = [row for row in coded if allowed[row]]
            rest = [row for row in sorted(without) if allowed[row]]
            for length in (1, 10, n):
                found = shortlist(group, query, length, allowed)
                assert found == passing[:length] + rest
