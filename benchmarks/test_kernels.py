"""Times of the kernels on generated rows: `make bench`. No time is asserted."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.index.verification import verify_index
from mrlstore.planning.access_path import STOP_MARGIN
from mrlstore.search.queries import prepare
from tests.nested import nested
from tests.one_query import search_exact, search_graph, search_scan

ROWS, DIM, PREFIX = 20_000, 1_536, 768


@pytest.fixture(scope="module")
def group():
    rows = nested(ROWS, DIM).astype(np.float16)
    inverse = (1 / np.linalg.norm(rows.astype(np.float32), axis=1)).astype(np.float32)
    arrays, info = build_index(rows, np.array([0, ROWS]), prefix_dim=PREFIX)
    return Group(rows, inverse, np.arange(ROWS), open_index(arrays, info, 0, 0, ROWS))


@pytest.fixture(scope="module")
def queries():
    return [prepare(vector, PREFIX) for vector in nested(64, DIM, seed=2)]


def every(search, queries):
    return lambda: [search(query) for query in queries]


@pytest.mark.parametrize(("ef", "shortlist"), [(32, 24), (64, 48), (128, 64), (400, 100)])
def test_walk_and_rerank_64_queries(benchmark, group, queries, ef, shortlist):
    found = benchmark(every(lambda q: search_graph(group, q, 10, ef, shortlist), queries))
    assert all(len(f.rows) == 10 for f in found)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_filtered_walk_64_queries(benchmark, group, queries, share):
    allowed = np.random.default_rng(0).random(ROWS) < share
    found = benchmark(every(lambda q: search_graph(group, q, 10, 128, 64, allowed), queries))
    assert all(allowed[f.rows].all() for f in found)


@pytest.mark.parametrize("share", [1.0, 0.1, 0.01])
def test_scan_of_codes_64_queries(benchmark, group, queries, share):
    allowed = np.random.default_rng(0).random(ROWS) < share
    found = benchmark(
        every(lambda q: search_scan(group, q, 10, 64, allowed, stop_margin=STOP_MARGIN), queries)
    )
    assert all(len(f.rows) == 10 for f in found)


def test_exact_one_query(benchmark, group, queries):
    found = benchmark(lambda: search_exact(group, queries[0], 10))
    assert found.reranked == ROWS


def test_prepare(benchmark):
    vector = nested(1, DIM)[0]
    assert benchmark(lambda: prepare(vector, PREFIX)).prefix_norms[0] > 0


def test_build_5000_rows(benchmark):
    rows = nested(5_000, PREFIX).astype(np.float16)
    groups = np.array([0, 5_000])
    arrays, info = benchmark.pedantic(
        lambda: build_index(rows, groups, prefix_dim=PREFIX), rounds=2, warmup_rounds=1
    )
    assert verify_index(arrays, info, groups) == []
