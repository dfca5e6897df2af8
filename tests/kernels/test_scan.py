"""Scans of codes: under masks of every shape, by leads and whole, in both layouts; and the bits they read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mrlstore.index import codes
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.kernels import bits
from mrlstore.search.queries import prepare
from tests.kernels.kinds import kernel
from tests.nested import nested
from tests.one_query import search_graph, search_scan


@kernel("int64(int64, int64[::1])")
def set_places(address, places):
    left, count = bits.nonzero_bytes(address), 0
    while left != 0:
        places[count] = bits.lowest_bit(left)
        left &= left - 1
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


@kernel("int64(int64, float32)")
def kept(numbers, least):
    return bits.not_below(numbers, least)


def test_numbers_that_are_not_below():
    numbers = np.random.default_rng(1).integers(-3, 4, 200).astype(np.float32)
    numbers[[3, 77]] = np.nan
    for start in range(184):
        for least in (-4, -1, 0, 3, 4, np.nan):
            bits = kept(numbers[start:].ctypes.data, np.float32(least))
            expected = np.flatnonzero(~(numbers[start : start + 16] < least))
            assert [place for place in range(64) if bits >> place & 1] == expected.tolist()


def group_of(rows, index, keys=None):
    """A group of these rows as they are stored: in float16, with the inverse of each row's length."""
    stored = rows.astype(np.float16)
    inv_norms = (1 / np.linalg.norm(stored.astype(np.float64), axis=1)).astype(np.float32)
    return Group(stored, inv_norms, np.arange(len(rows)) if keys is None else keys, index)


def native(n):
    """A group without a graph; one row in 50 has no prefix."""
    rows = nested(n, 96, seed=n)
    rows[::50, :64] = 0
    keys = np.random.default_rng(n).permutation(n)
    return group_of(rows, codes.codes_only(64, *codes.encoded(rows, 64)), keys)


def shortlist(group, query, length, allowed=None):
    """The rows that are re-ranked, in the order of their codes; then those without a prefix."""
    listed: list[int] = []

    def before_rerank(rows, start, stop):
        listed[:] = rows.tolist()

    search_scan(group, query, 1, length, allowed, before_rerank=before_rerank)
    return listed


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


def misleading(rows, queries, how):
    """Rows like these in an order, or with company, that could mislead what is learned on the way."""
    rows = rows.copy()
    if how == "nearest last":
        return rows[np.argsort(rows @ queries[0])]
    if how == "equal first":
        rows[: len(rows) // 10] = rows[0]
    if how == "half a lead":
        rows[: len(rows) // 2, 124:256] = 0
    if how == "near ones":  # as far from what others are like as it gets: each query has 100 around it
        rng, unit = np.random.default_rng(1), queries / np.linalg.norm(queries, axis=1)[:, None]
        near = np.repeat(unit, 100, axis=0)
        noise = rng.standard_normal(near.shape).astype(np.float32) / np.sqrt(near.shape[1])
        share = rng.uniform(0.5, 0.9, (len(near), 1)).astype(np.float32)
        rows = rng.permutation(np.concatenate([rows, share * near + np.sqrt(1 - share**2) * noise]))
    return rows


@pytest.mark.parametrize("how", ["as they come", "nearest last", "equal first", "half a lead", "near ones"])
@pytest.mark.parametrize("share", [1, 0.3, 0.02])
@pytest.mark.parametrize("kind", ["nested", "alike in all dims"])
def test_leads_leave_out_what_would_not_be_kept(how, share, kind):
    queries = nested(40, 768, seed=2, hard=True)
    others = nested(8_000, 768, hard=True)
    if kind == "alike in all dims":
        rng = np.random.default_rng(2)
        queries, others = (rng.standard_normal((n, 768), np.float32) for n in (40, 8_000))
    rows = misleading(others, queries, how)
    group = group_of(rows, codes.codes_only(512, *codes.encoded(rows, 512)))
    allowed = np.random.default_rng(3).random(len(rows)) < share
    shares = []
    for vector in queries:
        query = prepare(vector, 512)
        whole = search_scan(group, query, 10, 60, allowed)
        found = search_scan(group, query, 10, 60, allowed, stop_margin=3.5)
        assert found.visited == whole.visited == np.count_nonzero(allowed)
        shares.append(len(set(found.rows) & set(whole.rows)) / 10)
    assert np.mean(shares) >= 0.985 and np.min(shares) >= 0.7


def as_before(codes_now):
    """Code rows in the layout of older versions: the scale in the last four bytes."""
    return np.concatenate([codes_now[:, 4:], codes_now[:, :4]], axis=1)


@pytest.mark.parametrize("rotated", [False, True])
def test_codes_of_older_versions_give_the_same_scores(rotated):
    rows, prefix = nested(3_000, 512), 512 if rotated else 120
    arrays, info = build_index(rows.astype(np.float16), np.array([0, len(rows)]), prefix_dim=prefix, m=8)
    index = open_index(arrays, info, 0, 0, len(rows))
    group = group_of(rows, index)
    assert (index.rotation is not None) == rotated
    older = dataclasses.replace(
        index,
        codes=as_before(index.codes),
        entry_codes=as_before(index.entry_codes),
        scale_at=index.codes.shape[1] - 4,
    )
    before = dataclasses.replace(group, index=older)
    allowed = np.random.default_rng(1).random(len(rows)) < 0.3
    for vector in nested(20, 512, seed=2):
        query = prepare(vector, index.prefix_dim)
        assert shortlist(group, query, 80) == shortlist(before, query, 80)
        for mask in (None, allowed):
            one, other = (
                search_graph(some, query, 10, 64, 60, mask, beam_ratio=0.1) for some in (group, before)
            )
            assert one.rows.tolist() == other.rows.tolist() and one.visited == other.visited
            np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("scale", [np.inf, np.nan, -np.inf, 1e30])
def test_a_damaged_scale_costs_no_other_row_its_place(scale):
    rows = nested(3_000, 512)
    packed, unprefixed = codes.encoded(rows, 256)
    group = group_of(rows, codes.codes_only(256, packed, unprefixed))
    query = prepare(nested(1, 512, seed=2)[0], 256)
    before = search_scan(group, query, 10, 60, stop_margin=3.5).rows.tolist()
    wrong = next(row for row in range(len(rows)) if row not in before)
    packed[wrong, :4] = np.frombuffer(np.float32(scale).tobytes(), np.uint8)
    assert search_scan(group, query, 10, 60, stop_margin=3.5).rows.tolist() == before
