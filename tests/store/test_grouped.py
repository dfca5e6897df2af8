"""Queries with group_by, against the oracle: at any skew of the groups, in every layout of the rows."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput, LimitExceeded
from tests.layouts import LAYOUTS, queries
from tests.oracle import TOLERANCE, Oracle, grouped, nested_vectors

CASES: tuple[tuple[str, int, int, Any], ...] = (
    ("colour", 2, 1, None),
    ("deep.a.b", 10, 3, {"n": {"$lt": 900}}),
    ("tags", 4, 2, None),
    ("n", 7, 1, {"colour": "red"}),
    ("maybe", 5, 40, None),
    ("nothing", 3, 1, None),
)


def assert_grouped(result: Any, expected: list[tuple[Any, list[tuple[str, float]]]]) -> None:
    """The groups and their rows are the oracle's, but for the order of equal scores."""
    assert [repr(group.value) for group in result.groups] == [repr(value) for value, _ in expected]
    for group, (_, rows) in zip(result.groups, expected, strict=True):
        assert len(group.hits) == len(rows)
        for hit, (_, score) in zip(group.hits, rows, strict=True):
            assert abs(hit.score - score) <= 2 * TOLERANCE
    assert set(result.ids) == {hit.id for group in result.groups for hit in group.hits}
    assert len(set(result.ids)) == len(result)
    assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_groups_are_those_of_the_oracle(library: Any, layout: str, case: tuple[str, int, int, Any]) -> None:
    store, oracle = library(layout)
    field, k, size, where = case
    (query,) = queries(1)
    options = {"k": k, "group_by": field, "group_size": size, "where": where}
    result = store.query(query, **options, exact=True, include=("metadata", "document", "vector"))
    assert_grouped(result, grouped(oracle, query, field, k, size, where))
    for hit in result:
        row = oracle.rows["", hit.id]
        assert (hit.metadata, hit.document) == (row.metadata, row.document)
        assert hit.vector is not None
    found = store.query(query, **options, target_recall=1.0, include=())
    assert [group.value for group in found.groups] == [group.value for group in result.groups]
    assert found.plan.grouping.field == field


def skewed(store: Any, oracle: Oracle, rows: int) -> np.ndarray[Any, Any]:
    """Nearly all rows, and those nearest to the query, are of one group; others are far away."""
    near, query = nested_vectors(rows, 16, seed=1), nested_vectors(1, 16, seed=2)[0]
    near = near + 20 * query / np.linalg.norm(query) * np.linalg.norm(near, axis=1, keepdims=True)
    metadatas: list[Any] = [{"doc": "big" if i % 3 else ["big", "bigger"], "n": i} for i in range(rows)]
    far = nested_vectors(60, 16, seed=3)
    others: list[Any] = [{"doc": i % 20 if i % 2 else [i % 20, {"x": 1}], "n": i} for i in range(60)]
    others[7], others[8], others[9] = {"doc": {"an": "object"}}, {"doc": []}, None
    for target in (store, oracle):
        target.upsert([f"near {i}" for i in range(rows)], near, metadatas)
        target.upsert([f"far {i}" for i in range(60)], far, others)
        target.upsert(["without"], None, [{"doc": "no vector"}])
    return query


@pytest.mark.parametrize("optimized", [False, True])
def test_any_skew_gives_the_right_groups(opened: Any, optimized: bool) -> None:
    store, oracle = opened(dim=16, prefix_dim=8), Oracle()
    query = skewed(store, oracle, 4300)
    if optimized:
        store.optimize()
    for k, size in ((1, 5), (5, 1), (30, 3), (10, 200)):
        for where in (None, {"n": {"$lt": 50}}):
            options: Any = {"k": k, "group_by": "doc", "group_size": size, "where": where}
            expected = grouped(oracle, query, "doc", k, size, where)
            result = store.query(query, exact=True, **options)
            assert_grouped(result, expected)
            assert result.plan.grouping.searches <= 2 * k + 2
            walked = store.query(query, **options)
            assert [repr(group.value) for group in walked.groups] == [repr(value) for value, _ in expected]


def test_min_score_ends_the_search_for_groups(opened: Any) -> None:
    store, oracle = opened(dim=16, prefix_dim=8), Oracle()
    query = skewed(store, oracle, 600)
    result = store.query(query, k=30, group_by="doc", group_size=2, min_score=0.6, exact=True)
    expected = grouped(oracle, query, "doc", 30, 2, None)
    kept = [(value, [row for row in rows if row[1] >= 0.6]) for value, rows in expected]
    assert_grouped(result, [(value, rows) for value, rows in kept if rows])


def test_examples_are_no_hits_of_groups(library: Any) -> None:
    store, oracle = library("mixed")
    examples = oracle.ids({"colour": "red"})[:3]
    result = store.query(positive=examples, k=3, group_by="colour", group_size=5, exact=True)
    assert not set(result.ids) & set(examples)
    assert [len(group.hits) for group in result.groups] == [5, 5, 5]


def test_the_usual_query_has_no_groups_and_async_gives_the_same(library: Any) -> None:
    store, _ = library("indexed")
    (query,) = queries(1)
    assert store.query(query).groups == []
    result = asyncio.run(store.aquery(query, k=2, group_by="colour", group_size=2))
    assert result.groups == store.query(query, k=2, group_by="colour", group_size=2).groups
    assert len(result) == 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"group_by": 3}, "group_by"),
        ({"group_by": "$or"}, "group_by"),
        ({"group_by": "x", "group_size": 0}, "group_size"),
        ({"group_size": 2}, "group_size"),
        ({"group_by": "x", "offset": 3}, "offset"),
        ({"group_by": "x", "diversity": 0.5}, "diversity"),
        ({"group_by": "x", "keywords": "word"}, "keywords"),
    ],
)
def test_bad_groups_are_refused(store: mrlstore.Store, options: Any, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        store.query(np.ones(8), **options)
    with pytest.raises(LimitExceeded, match="k \\* group_size"):
        store.query(np.ones(8), k=101, group_by="x", group_size=100)
