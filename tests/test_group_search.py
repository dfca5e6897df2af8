"""Searching one group: exact, by codes and by walk, against plain numpy."""

from __future__ import annotations

import dataclasses
import mmap
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mrlstore.index import codes
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.search.group_search import Exact, Scan, Walk, search_group
from mrlstore.search.queries import prepare
from tests.kernels import oracle
from tests.nested import nested
from tests.one_query import answers, search_exact, search_graph, search_scan


def make(vectors, prefix_dim, *, m=8, keys=None, index=True, groups=None):
    """A group of these rows with codes, and a graph where it is large enough."""
    rows = vectors.astype(np.float16)
    inverse = (1 / np.linalg.norm(rows.astype(np.float64), axis=1)).astype(np.float32)
    keys = np.arange(len(rows), dtype=np.int64) if keys is None else keys
    if not index:
        return Group(rows, inverse, keys)
    arrays, info = build_index(rows, np.array([0, len(rows)]), prefix_dim=prefix_dim, m=m, ef_construction=80)
    return Group(rows, inverse, keys, open_index(arrays, info, 0, 0, len(rows)))


@pytest.fixture(scope="module")
def large():
    return make(nested(5_000, 384), 96)


@pytest.fixture(scope="module")
def queries():
    return nested(50, 384, seed=2)


def overlap(found, expected):
    return np.mean(
        [
            len(set(f.rows.tolist()) & set(e.tolist())) / max(len(e), 1)
            for f, e in zip(found, expected, strict=True)
        ]
    )


def expected_rows(group, vector, k, allowed=None, dim=None):
    scores = oracle.exact_scores(group.vectors, vector, dim or group.vectors.shape[1])
    if allowed is not None:
        scores[~allowed] = -np.inf
        k = min(k, int(allowed.sum()))
    return oracle.top(scores, group.keys, k)


@pytest.mark.parametrize("dim", [2, 3, 6, 65, 100, 769])
@pytest.mark.parametrize("n", [1, 2, 17, 300])
def test_exact_equals_numpy(dim, n):
    rng = np.random.default_rng(dim * n)
    group = make(rng.normal(size=(n, dim)), dim, index=False)
    for vector in rng.normal(size=(5, dim)).astype(np.float32):
        found = search_exact(group, prepare(vector, dim), 10)
        scores = oracle.exact_scores(group.vectors, vector, dim)
        assert len(found.rows) == min(10, n) == len(set(found.rows.tolist()))
        np.testing.assert_allclose(found.scores, scores[found.rows], atol=2e-6)
        np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:10], atol=2e-6)
        assert found.reranked == n


@pytest.mark.parametrize("dim", [2, 50, 96, 383])
def test_exact_at_fewer_dims(large, queries, dim):
    for vector in queries[:10]:
        found = search_exact(large, prepare(vector, 96), 10, dim=dim)
        scores = oracle.exact_scores(large.vectors, vector, dim)
        np.testing.assert_allclose(found.scores, scores[found.rows], atol=5e-6)
        np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:10], atol=5e-6)


def test_a_row_has_the_same_score_everywhere(large, queries):
    for vector in queries[:20]:
        query = prepare(vector, 96)
        by_row = dict(
            zip(
                *[a.tolist() for a in (lambda f: (f.rows, f.scores))(search_exact(large, query, 5000))],
                strict=True,
            )
        )
        single = Group(large.vectors[7:8], large.inv_norms[7:8], large.keys[7:8])
        assert search_exact(single, query, 1).scores[0] == np.float32(by_row[7])
        for found in (search_graph(large, query, 50, 80, 80), search_scan(large, query, 50, 80)):
            assert all(
                by_row[row] == score
                for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            )


def test_walk_and_scan_find_the_true_top_ten(large, queries):
    expected = [expected_rows(large, vector, 10) for vector in queries]
    prepared = [prepare(vector, 96) for vector in queries]
    assert overlap([search_graph(large, q, 10, 200, 200) for q in prepared], expected) >= 0.98
    assert overlap([search_scan(large, q, 10, 200) for q in prepared], expected) >= 0.98


def test_many_queries_are_answered_as_each_alone(large, queries):
    nowhere = np.zeros(384, np.float32)
    nowhere[200] = 1  # its prefix says nothing: such a one is answered by itself
    searches: tuple[tuple[Any, tuple[int, ...], dict[str, float]], ...] = (
        (Walk, (10, 80, 60), {"beam_ratio": 0.2, "stop_margin": 3.5}),
        (Scan, (10, 60), {"stop_margin": 3.5}),
        (Exact, (10,), {}),
    )
    for vectors in (queries[:7], [*queries[:3], nowhere, queries[3]]):
        prepared = prepare(np.stack(vectors), 96)
        for search, effort, options in searches:
            together = answers(search_group(search(large, *effort, **options), prepared))
            for vector, found in zip(vectors, together, strict=True):
                (expected,) = answers(search_group(search(large, *effort, **options), prepare(vector, 96)))
                np.testing.assert_array_equal(found.rows, expected.rows)
                np.testing.assert_array_equal(found.scores, expected.scores)
                assert (found.visited, found.reranked) == (expected.visited, expected.reranked)


def test_slack_ends_walks_and_more_of_it_finds_more(large, queries):
    prepared = [prepare(vector, 96) for vector in queries]
    expected = [search_exact(large, query, 10).rows for query in prepared]
    runs = {
        beam_ratio: [search_graph(large, query, 10, 400, 40, beam_ratio=beam_ratio) for query in prepared]
        for beam_ratio in (0.01, 0.1, 0.3, 0.0)
    }
    visited = [sum(found.visited for found in run) for run in runs.values()]
    assert visited == sorted(visited) and visited[0] < 0.7 * visited[-1]
    found = [overlap(run, expected) for run in runs.values()]
    assert found[0] <= found[1] + 0.01 <= found[2] + 0.02
    assert found[2] >= found[3] - 0.01  # where a walk goes on to the end
    assert all(len(one.rows) == 10 for run in runs.values() for one in run)


def test_slack_does_not_lead_a_walk_for_one_row_astray(large, queries):
    rows = [large.vectors[i].astype(np.float32) for i in range(0, 5_000, 25)]
    for number, vector in enumerate(rows):
        found = search_graph(large, prepare(vector, 96), 1, 400, 40, beam_ratio=0.1, stop_margin=3.5)
        assert found.rows.tolist() == [25 * number]
    nearest = [search_graph(large, prepare(vector, 96), 1, 400, 40, beam_ratio=0.1) for vector in queries]
    assert overlap(nearest, [search_exact(large, prepare(vector, 96), 1).rows for vector in queries]) >= 0.96


@pytest.mark.parametrize("search", [search_graph, search_scan])
def test_a_re_rank_may_end_early(large, queries, search):
    """What it gives is the exact best of as many rows of the shortlist as it says that it scored."""
    effort = (10, 200, 200) if search is search_graph else (10, 200)
    fewer = 0
    for vector in queries:
        query = prepare(vector, 96)
        listed: list[np.ndarray] = []
        whole = search(large, query, *effort)
        assert whole.reranked == 200
        far = search(large, query, *effort, stop_margin=1_000.0)
        np.testing.assert_array_equal(far.rows, whole.rows)
        found = search(
            large,
            query,
            *effort,
            stop_margin=2.0,
            before_rerank=lambda *told, into=listed: into.append(told[0].copy()),
        )
        assert 12 <= found.reranked <= 200
        fewer += found.reranked < 100
        tried = listed[0][: found.reranked]
        scores = oracle.exact_scores(large.vectors, vector, 384)[tried]
        best = tried[np.lexsort((large.keys[tried], -scores))[:10]]
        assert set(found.rows.tolist()) == set(best.tolist())
        fused = search(large, query, *effort, stop_margin=2.0)
        np.testing.assert_array_equal(fused.rows, found.rows)
        assert fused.reranked == found.reranked
    assert fewer > len(queries) / 2


def test_a_query_may_be_read_only_strided_or_unaligned(queries):
    expected = prepare(queries[0], 96)
    held = np.frombuffer(b"." + queries[0].tobytes(), np.float32, offset=1)
    strided = np.repeat(queries[0], 2)[::2]
    fixed = queries[0].copy()
    fixed.setflags(write=False)
    for vector in (held, strided, fixed):
        found = prepare(vector, 96)
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        assert found.prefix_norms == expected.prefix_norms
    np.testing.assert_array_equal(fixed, queries[0])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e38])
def test_a_vector_without_a_direction_is_refused(value):
    with pytest.raises(ValueError, match="direction"):
        prepare(np.full(96, value, np.float32), 24)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001, 0.0])
def test_filters_keep_only_what_is_allowed_and_give_k(large, queries, share):
    allowed = np.random.default_rng(3).random(5_000) < share
    expected = [expected_rows(large, vector, 10, allowed) for vector in queries]
    for search in (
        lambda q: search_graph(large, q, 10, 200, 200, allowed),
        lambda q: search_scan(large, q, 10, 200, allowed),
        lambda q: search_exact(large, q, 10, allowed),
    ):
        found = [search(prepare(vector, 96)) for vector in queries]
        assert all(allowed[f.rows].all() and len(f.rows) == min(10, allowed.sum()) for f in found)
        assert overlap(found, expected) >= (0.97 if allowed.any() else 0.0)


def test_filters_far_from_the_query(large, queries):
    """Only the rows least like the query are allowed."""
    for vector in queries[:10]:
        allowed = oracle.exact_scores(large.vectors, vector, 384) < 0.02
        found = search_graph(large, prepare(vector, 96), 10, 100, 100, allowed)
        assert len(found.rows) == 10 and allowed[found.rows].all()


def test_a_walk_finds_its_way_where_a_filter_shuts_out_what_lies_around(large, queries):
    """Of half of the rows, those least like the query; codes tell little of them, to scans as well."""
    behind = []
    for vector in queries:
        distant = oracle.exact_scores(large.vectors, vector, 384)
        far, query = distant < np.median(distant), prepare(vector, 96)
        found = search_graph(large, query, 10, 384, 60, far, beam_ratio=0.2)
        assert found.visited < far.sum() and far[found.rows].all() and len(found.rows) == 10
        behind.append(np.mean(search_scan(large, query, 10, 60, far).scores - found.scores))
    assert np.mean(behind) < 0.005


@pytest.mark.parametrize(
    ("k", "ef", "shortlist"), [(1, 1, 1), (50, 10, 10), (10, 1, 500), (6_000, 10, 10), (5_000, 9, 9)]
)
def test_odd_sizes_of_k_and_ef(large, queries, k, ef, shortlist):
    query = prepare(queries[0], 96)
    for found in (search_graph(large, query, k, ef, shortlist), search_scan(large, query, k, shortlist)):
        assert len(found.rows) == min(k, 5_000) == len(set(found.rows.tolist()))
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("n", [1, 2, 10, 1_999])
@pytest.mark.parametrize(("dim", "prefix"), [(2, 1), (2, 2), (6, 6), (6, 3), (100, 65), (100, 100)])
def test_small_groups_and_odd_dims(n, dim, prefix):
    rng = np.random.default_rng(n)
    group = make(rng.normal(size=(n, dim)), prefix)
    vector = rng.normal(size=dim).astype(np.float32)
    everything = search_graph(group, prepare(vector, prefix), n, n, n)
    np.testing.assert_array_equal(everything.rows, search_exact(group, prepare(vector, prefix), n).rows)


def test_equal_scores_go_by_key():
    vectors = np.repeat(np.eye(4, 16), 50, axis=0)
    keys = np.random.default_rng(0).permutation(200).astype(np.int64)
    group = make(vectors, 8, keys=keys)
    query = prepare(np.eye(4, 16, dtype=np.float32)[1], 8)
    for found in (
        search_exact(group, query, 7),
        search_scan(group, query, 7, 20),
        search_graph(group, query, 7, 20, 20),
    ):
        assert keys[found.rows].tolist() == sorted(keys[50:100])[:7]


@pytest.mark.parametrize("n", [500, 4_000])
def test_rows_without_a_prefix_are_always_reranked(n):
    vectors = nested(n, 128)
    vectors[::100, :32] = 0
    group = make(vectors, 32)
    for row in (0, 100, 300):
        found = search_graph(group, prepare(vectors[row] + 0.01, 32), 1, 20, 20)
        assert found.rows.tolist() == [row]
        allowed = np.ones(n, np.bool_)
        allowed[row] = False
        assert row not in search_graph(group, prepare(vectors[row] + 0.01, 32), 10, 20, 20, allowed).rows


def test_a_query_without_a_prefix_is_answered_exactly(large):
    vector = np.zeros(384, np.float32)
    vector[200] = 1
    found = search_graph(large, prepare(vector, 96), 10, 20, 20)
    np.testing.assert_array_equal(found.rows, search_exact(large, prepare(vector, 96), 10).rows)


def test_all_rows_without_a_prefix():
    vectors = np.random.default_rng(0).normal(size=(2_500, 64))
    vectors[:, :8] = 0
    group = make(vectors, 8)
    query = prepare(np.ones(64, np.float32), 8)
    np.testing.assert_array_equal(
        search_graph(group, query, 10, 20, 20).rows, search_exact(group, query, 10).rows
    )


def test_slices_at_odd_offsets_and_read_only_maps(large, queries, tmp_path):
    """The same answers from a read-only map in which nothing is aligned."""
    index = large.index
    assert index is not None
    names = ("codes", "neighbours", "entries", "entry_codes", "unprefixed", "rotation", "rotation_scales")
    path = tmp_path / "arrays"
    parts = {"vectors": large.vectors, "inv_norms": large.inv_norms, "keys": large.keys}
    parts |= {name: getattr(index, name) for name in names if getattr(index, name) is not None}
    with open(path, "wb") as file:
        places = {}
        for name, array in parts.items():
            file.write(b"x" * (1 + file.tell() % 2))
            places[name] = file.tell()
            file.write(array.tobytes())
    with open(path, "rb") as written:
        mapped = mmap.mmap(written.fileno(), 0, prot=mmap.PROT_READ)

    def view(name):
        array = parts[name]
        return np.frombuffer(mapped, array.dtype, array.size, places[name]).reshape(array.shape)

    fields = {name: view(name) for name in parts}
    own = {name: fields.pop(name, None) for name in names}
    twin = Group(**fields, index=type(index)(prefix_dim=index.prefix_dim, **own))
    for vector in queries[:10]:
        query = prepare(vector, 96)
        for a, b in (
            (search_graph(large, query, 10, 40, 40), search_graph(twin, query, 10, 40, 40)),
            (search_exact(large, query, 10), search_exact(twin, query, 10)),
        ):
            np.testing.assert_array_equal(a.rows, b.rows)
            np.testing.assert_array_equal(a.scores, b.scores)


@pytest.mark.parametrize("search", [search_graph, search_scan])
def test_rows_are_announced_before_they_are_read(large, queries, search):
    effort = (10, 40, 40) if search is search_graph else (10, 40)
    told: list[np.ndarray] = []

    def before_rerank(rows, start, stop):
        told.append(rows[start:stop].copy())

    query = prepare(queries[0], 96)
    found = search(large, query, *effort, before_rerank=before_rerank)
    assert len(told) == 1 and len(told[0]) == 40
    assert set(found.rows.tolist()) <= set(told[0].tolist())
    np.testing.assert_array_equal(found.rows, search(large, query, *effort).rows)


@pytest.mark.parametrize("search", [search_graph, search_scan])
@pytest.mark.parametrize("k", [1, 10, 40, 150])
def test_a_re_rank_that_ends_early_has_few_rows_announced(large, queries, search, k):
    effort = (k, 200, 200) if search is search_graph else (k, 200)
    waves = set()
    for vector in queries:
        query = prepare(vector, 96)
        told: list[int] = []
        ranges: list[tuple[int, int]] = []

        def before_rerank(rows, start, stop, told=told, ranges=ranges):
            told.extend(rows[start:stop].tolist())
            ranges.append((start, stop))

        found = search(large, query, *effort, stop_margin=3.5, before_rerank=before_rerank)
        expected = search(large, query, *effort, stop_margin=3.5)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert found.reranked == expected.reranked
        assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
        assert len(told) == len(set(told)) >= found.reranked
        assert len(told) <= max(32, 2 * k, found.reranked * 3 // 2)
        waves.add(len(ranges))
    assert k >= 100 or len(waves) > 1


@pytest.mark.parametrize(
    "allowed", [np.ones(4_999, np.bool_), np.ones(10_000, np.bool_)[::2], np.ones(5_000, np.int64)]
)
def test_masks_of_the_wrong_kind_are_refused(large, queries, allowed):
    with pytest.raises(ValueError, match="allowed"):
        search_exact(large, prepare(queries[0], 96), 10, allowed)


def test_ids_are_fetched_by_row_and_change_nothing(large, queries):
    starts, text = np.arange(5_001), np.zeros(5_000, np.uint8)
    named = dataclasses.replace(large, id_starts=starts, id_text=text)
    query = prepare(queries[0], 96)
    found, expected = search_graph(named, query, 10, 40, 40), search_graph(large, query, 10, 40, 40)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    for wrong in (starts[1:], starts.astype(np.int32), np.arange(10_002)[::2]):
        with pytest.raises(ValueError, match="of a group"):
            _ = dataclasses.replace(large, id_starts=wrong, id_text=text).table


DAMAGE = """
import sys, numpy as np
from mrlstore.index.group import Group, GroupIndex
from mrlstore.search.queries import prepare
from tests.one_query import answers, search_exact, search_graph, search_scan
import dataclasses, pickle
group = pickle.load(open(sys.argv[1], "rb"))
rng = np.random.default_rng(int(sys.argv[2]))
NAMES = ("codes", "neighbours", "entries", "entry_codes", "unprefixed", "rotation", "rotation_scales")
query = prepare(rng.normal(size=group.vectors.shape[1]).astype(np.float32), group.index.prefix_dim)
allowed = rng.random(len(group.keys)) < 0.4
for round in range(40):
    changed = {}
    for name in NAMES:
        array = getattr(group.index, name)
        if array is None or array.size == 0: continue
        bytes_ = bytearray(array.tobytes())
        if round % 4 == 0:
            bytes_[:] = rng.integers(0, 256, len(bytes_)).astype(np.uint8).tobytes()
        else:
            for at in rng.integers(0, len(bytes_), max(len(bytes_) // 50, 1)): bytes_[at] = rng.integers(256)
        changed[name] = np.frombuffer(bytes(bytes_), array.dtype).reshape(array.shape)
    vectors = group.vectors
    if round % 3 == 0: vectors = rng.integers(0, 2**16, vectors.shape).astype(np.uint16).view(np.float16)
    index, starts = dataclasses.replace(group.index, **changed), rng.integers(-2**63, 2**63, len(vectors) + 1)
    damaged = Group(vectors, group.inv_norms, group.keys, index, starts, np.zeros(1, np.uint8))
    for mask in (None, allowed):
        for found in (
            search_graph(damaged, query, 10, 60, 60, mask),
            search_graph(damaged, query, 10, 60, 60, mask, beam_ratio=0.2, stop_margin=3.5, lost_ratio=40),
            search_scan(damaged, query, 10, 60, mask),
            search_scan(damaged, query, 10, 60, mask, stop_margin=3.5),
            search_exact(damaged, query, 10, mask),
        ):
            assert len(found.rows) == len(set(found.rows.tolist())) <= 10
            assert ((0 <= found.rows) & (found.rows < len(group.keys))).all()
            assert (np.abs(found.scores) <= 1).all()
print("survived")
"""


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_cost_recall_never_the_process(large, tmp_path, seed):
    import pickle

    path = tmp_path / "group.pickle"
    rows = large.vectors.copy()
    path.write_bytes(pickle.dumps(Group(rows, large.inv_norms, large.keys, large.index)))
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(path), str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0 and "survived" in done.stdout, done.stderr


def test_native_codes_of_a_tail():
    rows = nested(700, 256)
    rows[5, :64] = 0
    packed, unprefixed = codes.encoded(rows, 64)
    stored = rows.astype(np.float16)
    inverse = (1 / np.linalg.norm(stored.astype(np.float64), axis=1)).astype(np.float32)
    tail = Group(stored, inverse, np.arange(700), codes.codes_only(64, packed, unprefixed))
    for vector in nested(20, 256, seed=2):
        query = prepare(vector, 64)
        np.testing.assert_array_equal(
            search_scan(tail, query, 10, 200).rows, search_exact(tail, query, 10).rows
        )
    assert search_scan(tail, prepare(rows[5] + 0.001, 64), 1, 10).rows.tolist() == [5]
