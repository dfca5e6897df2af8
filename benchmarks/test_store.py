"""Times of whole calls of the store: `make bench`."""

from __future__ import annotations

import numpy as np
import pytest

import mrlstore
from tests.nested import nested

ROWS, DIM = 20_000, 1_536


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with mrlstore.open(tmp_path_factory.mktemp("bench") / "s.mrl", dim=DIM, auto_maintain=False) as opened:
        rows = nested(ROWS, DIM)
        for start in range(0, ROWS, 5_000):
            ids = [str(i) for i in range(start, start + 5_000)]
            opened.upsert(ids, rows[start : start + 5_000], [{"n": i % 100} for i in range(5_000)])
        opened.optimize()
        yield opened


@pytest.fixture(scope="module")
def vectors():
    return nested(64, DIM, seed=2)


@pytest.mark.parametrize("include", [(), ("metadata",)], ids=["ids", "metadata"])
def test_query(benchmark, store, vectors, include):
    turn = iter(np.resize(np.arange(64), 10**7))
    result = benchmark(lambda: store.query(vectors[next(turn)], 10, include=include, ef=64, shortlist=48))
    assert len(result) == 10


def test_filtered_query(benchmark, store, vectors):
    where = {"n": {"$lt": 10}}
    result = benchmark(lambda: store.query(vectors[0], 10, include=(), where=where, ef=64, shortlist=48))
    assert len(result) == 10


def test_query_batch_of_64(benchmark, store, vectors):
    result = benchmark(lambda: store.query_batch(vectors, 10, include=(), ef=64, shortlist=48))
    assert len(result.ids) == 64


def test_upsert_1000_rows(benchmark, tmp_path):
    rows, turn = nested(1_000, DIM), iter(range(10**6))
    with mrlstore.open(tmp_path / "w.mrl", dim=DIM, auto_maintain=False) as opened:

        def upsert():
            start = next(turn) * 1_000
            return opened.upsert(
                [str(start + i) for i in range(1_000)], rows, [{"a": i} for i in range(1_000)]
            )

        assert benchmark.pedantic(upsert, rounds=5) == 1_000
