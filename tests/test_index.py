"""Building graphs: everything is reached, nothing is too equal, builds can be stopped."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mrlstore.index import codes
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.index.verification import verify_index
from mrlstore.kernels.group_table import EMPTY
from mrlstore.search.queries import prepare
from mrlstore.system.job import Interrupted, Job
from tests.kernels import oracle
from tests.nested import nested
from tests.one_query import search_exact, search_graph


def build(rows, groups=None, **options):
    rows = np.ascontiguousarray(rows, dtype=np.float16)
    groups = np.array([0, len(rows)] if groups is None else groups)
    options = {"prefix_dim": min(64, rows.shape[1]), "m": 8, "ef_construction": 60} | options
    return (*build_index(rows, groups, **options), groups)


def check_reached(arrays, info, groups):
    assert verify_index(arrays, info, groups) == []
    for number, (start, stop) in enumerate(zip(groups[:-1], groups[1:], strict=True)):
        index = open_index(arrays, info, number, int(start), int(stop))
        if index.neighbours is not None:
            for entry in (index.entries[0], index.entries[-1]):
                assert len(oracle.reachable(index.neighbours, int(entry))) == stop - start - len(
                    index.unprefixed
                ) - len(index.copies.rows)


def test_every_row_is_reached_from_every_entry():
    check_reached(*build(nested(6_000, 128)))


@pytest.mark.parametrize("kind", ["all equal", "two points", "nearly equal", "half equal", "on a line"])
def test_thousands_of_equal_rows(kind):
    rng = np.random.default_rng(1)
    rows = np.repeat(rng.normal(size=(1, 32)), 4_000, axis=0)
    if kind == "two points":
        rows[::2] = rng.normal(size=32)
    elif kind == "nearly equal":
        rows += 1e-3 * rng.normal(size=rows.shape)
    elif kind == "half equal":
        rows[2_000:] = rng.normal(size=(2_000, 32))
    elif kind == "on a line":
        rows[:, 0] = np.linspace(0, 3 * np.linalg.norm(rows[0]), 4_000)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    arrays, info, groups = build(rows, prefix_dim=16)
    check_reached(arrays, info, groups)
    stored = rows.astype(np.float16)
    inverse = (1 / np.linalg.norm(stored.astype(np.float64), axis=1)).astype(np.float32)
    group = Group(stored, inverse, np.arange(4_000), open_index(arrays, info, 0, 0, 4_000))
    for row in (0, 1, 3_999):
        query = prepare(rows[row].astype(np.float32), 16)
        best = search_exact(group, query, 10)
        found = search_graph(group, query, 10, 100, 100)
        assert len(found.rows) == 10
        np.testing.assert_allclose(found.scores, best.scores, atol=2e-3)


@pytest.mark.parametrize(("vectors", "copies"), [(105, 20), (30, 100)])
def test_every_copy_of_a_row_is_found(vectors, copies):
    rng = np.random.default_rng(4)
    rows = np.repeat(rng.normal(size=(vectors, 8)), copies, axis=0).astype(np.float16)
    arrays, info, groups = build(rows, prefix_dim=4)
    check_reached(arrays, info, groups)
    inverse = (1 / np.linalg.norm(rows.astype(np.float64), axis=1)).astype(np.float32)
    group = Group(rows, inverse, np.arange(len(rows)), open_index(arrays, info, 0, 0, len(rows)))
    for vector in range(0, vectors, 7):
        query = prepare(rows[vector * copies].astype(np.float32), 4)
        found = search_graph(group, query, copies, 400, 400)
        assert sorted(found.rows.tolist()) == list(range(vector * copies, (vector + 1) * copies))


def test_groups_are_apart():
    """Two large groups, one small, one empty: each finds its own rows, local numbers, own entries."""
    rows = nested(5_300, 96)
    arrays, info, groups = build(rows, [0, 2_500, 2_800, 2_800, 5_300])
    check_reached(arrays, info, groups)
    starts = arrays["entry_starts"]
    assert starts.tolist()[1] > 0 and starts[1] == starts[2] == starts[3] < starts[4]
    assert (arrays["neighbours"][2_500:2_800] == EMPTY).all()
    stored = rows.astype(np.float16)
    inverse = np.ones(5_300, np.float32)
    index = open_index(arrays, info, 3, 2_800, 5_300)
    group = Group(stored[2_800:], inverse[2_800:], np.arange(2_500), index)
    hits = [
        search_graph(group, prepare(rows[2_800 + i], 64), 1, 40, 40).rows[0] == i for i in range(0, 2_500, 50)
    ]
    assert np.mean(hits) == 1.0


def test_small_parts_have_codes_only():
    arrays, info, groups = build(nested(300, 96))
    assert arrays["neighbours"].shape[0] == 0
    assert open_index(arrays, info, 0, 0, 300).neighbours is None
    assert verify_index(arrays, info, groups) == []


def test_progress_counts_up_and_a_build_can_be_stopped():
    told = []
    build(nested(3_000, 64), job=Job(lambda step: told.append((step.done, step.total))))
    assert [d for d, _ in told] == sorted(d for d, _ in told) and told[-1][0] == told[-1][1]
    started = time.monotonic()
    calls = []

    def stop():
        calls.append(time.monotonic() - started)
        return len(calls) > 3

    with pytest.raises(Interrupted):
        build(nested(3_000, 64), job=Job(should_stop=stop))
    assert len(calls) == 4


def test_rotation_is_taken_where_it_pays_only():
    rows = nested(4_000, 384)
    arrays, info, _ = build(rows, prefix_dim=384)
    assert info["code_dim"] < 384 and arrays["codes"].shape[1] == codes.stride_of(info["code_dim"])
    noise = np.random.default_rng(0).normal(size=(4_000, 384))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    arrays, info, _ = build(noise, prefix_dim=300)
    assert info["code_dim"] == 300 and arrays["rotation"].shape[0] == 0


@pytest.mark.parametrize("rotated", [False, True])
def test_codes_stand_for_cosines_of_prefixes(rotated):
    rows = nested(500, 256)
    prefixes, usable = codes.unit_prefixes(rows, 128)
    np.testing.assert_allclose(np.linalg.norm(prefixes, axis=1), 1, atol=1e-5)
    rotation = codes.fit_rotation(prefixes, 128) if rotated else None
    packed = codes.encode(prefixes, usable, rotation)
    scales = packed[:, :4].copy().view(np.float32)
    decoded = (packed[:, 4:132].astype(np.float32) - 128) * scales
    assert (packed[:, 132:] == 128).all()
    np.testing.assert_allclose(decoded @ decoded.T, prefixes @ prefixes.T, atol=0.02)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("neighbours", lambda a: a.__setitem__((5, 0), 70_000)),
        ("neighbours", lambda a: a.__setitem__(slice(None), EMPTY)),
        ("entries", lambda a: a.__setitem__(0, 70_000)),
        ("entry_codes", lambda a: a.__setitem__((0, 0), a[0, 0] ^ 1)),
        ("codes", lambda a: a.__setitem__((9, slice(4)), 255)),
        ("codes", lambda a: a.__setitem__((9, slice(4)), 0)),
        ("entry_starts", lambda a: a.__setitem__(1, 10**12)),
        ("unprefixed_starts", lambda a: a.__setitem__(0, -1)),
    ],
)
def test_verify_finds_damage(name, change):
    arrays, info, groups = build(nested(2_100, 64))
    change(arrays[name])
    assert verify_index(arrays, info, groups)


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros((10, 64), np.uint8)},
        {"neighbours": np.zeros((7, 16), np.uint32)},
        {"entry_codes": np.zeros((1, 64), np.uint8)},
        {"entry_starts": np.array([0, 5], np.int64)[:1]},
    ],
)
def test_nonsense_is_refused_at_open(change):
    arrays, info, _ = build(nested(2_100, 64))
    with pytest.raises(ValueError, match="."):
        open_index({**arrays, **change}, info, 0, 0, 2_100)
    with pytest.raises(ValueError, match="prefix_dim"):
        open_index(arrays, {**info, "prefix_dim": -3}, 0, 0, 2_100)
