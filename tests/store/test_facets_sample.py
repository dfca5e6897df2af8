"""Facets and random rows, against the oracle."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest

from mrlstore import Facet, InvalidInput
from tests.layouts import LAYOUTS
from tests.oracle import Oracle, nested_vectors

FIELDS = ("tags", "deep.a.b", "a.dot", "price", "maybe", "odd", "deep")
WHERES: tuple[Any, ...] = (None, {"n": {"$lt": 500}}, {"colour": "red", "flag": True}, {"n": -1})


def facets_of(store: Any, *arguments: Any, **options: Any) -> list[tuple[Any, int]]:
    return [(facet.value, facet.count) for facet in store.facets(*arguments, **options)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", WHERES)
def test_facets_count_what_equality_filters_match(library: Any, layout: str, where: Any) -> None:
    store, oracle = library(layout)
    for field in FIELDS:
        found = store.facets(field, where=where)
        expected = oracle.facets(field, where)
        assert [(facet.value, facet.count) for facet in found] == expected, field
        truth = [isinstance(value, bool) for value, _ in expected]
        assert [isinstance(facet.value, bool) for facet in found] == truth, field
        assert store.facets(field, where=where, limit=2) == found[:2]
    for value, count in oracle.facets("tags", where)[:5]:
        assert store.count({"$and": [{"tags": value}, where or {"n": {"$exists": True}}]}) == count


def test_facets_of_values_that_columns_do_not_hold(opened: Any) -> None:
    """Long texts, large numbers, and fields beyond the 256 that have a column."""
    store, oracle = opened(dim=4, prefix_dim=2), Oracle()
    long, large = "x" * 300, 2**2100
    values = [long, large, -(2**70), 2.5, "é", [long, "é", [1], {"a": 1}], {"b": 1}, None, True, 1, 1.0, []]
    metadatas: list[Any] = [{"f": values[i % len(values)], f"own {i}": i % 3} for i in range(4200)]
    for target in (store, oracle):
        target.upsert([f"r{i}" for i in range(4200)], nested_vectors(4200, 4), metadatas)
    store.optimize()
    for target in (store, oracle):
        target.upsert([f"n{i}" for i in range(30)], None, metadatas[:30])
        target.upsert([f"t{i}" for i in range(30)], nested_vectors(30, 4), metadatas[:30])
    for field in ("f", "f.b", "own 0", "own 4199"):
        assert facets_of(store, field) == oracle.facets(field), field
        assert facets_of(store, field, where={"own 1": 1}) == oracle.facets(field, {"own 1": 1})


def test_facets_of_namespaces(store: Any) -> None:
    for space in ("", "a"):
        store.upsert(["x", "y"], np.ones((2, 8)), [{"c": space}, {"c": "both"}], namespace=space)
    store.upsert(["z"], None, [{"c": ["both", "both"]}], namespace="a")
    assert facets_of(store, "c") == [("", 1), ("both", 1)]
    assert facets_of(store, "c", namespace="a") == [("both", 2), ("a", 1)]
    assert facets_of(store, "c", namespace=None, limit=1) == [("both", 3)]
    assert facets_of(store, "c", namespace="nobody") == []
    assert asyncio.run(store.afacets("c", namespace="a", limit=1)) == [Facet("both", 2)]


@pytest.mark.parametrize(
    "options", [{"field": 3}, {"field": "$or"}, {"limit": 0}, {"where": 3}, {"namespace": 3}]
)
def test_bad_facets(store: Any, options: Any) -> None:
    with pytest.raises(InvalidInput):
        store.facets(**({"field": "x"} | options))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_is_of_the_rows_that_match(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    where = {"colour": "red"}
    matching = oracle.ids(where)
    found = store.sample(40, where=where, include=("metadata", "vector"))
    names = [record.id for record in found]
    assert len(set(names)) == 40
    assert set(names) <= set(matching)
    for record in found:
        row = oracle.rows["", record.id]
        assert record.metadata == row.metadata
        assert (record.vector is None) == (row.vector is None)
    assert sorted(record.id for record in store.sample(10**6, where=where)) == matching
    assert store.sample(0) == []


def test_a_seed_gives_the_same_rows_again(store: Any) -> None:
    ids = [f"r{i}" for i in range(50)]
    store.upsert(ids, nested_vectors(50, 8))
    store.upsert(["other"], nested_vectors(1, 8), namespace="a")
    first = store.sample(5, seed=1)
    assert asyncio.run(store.asample(5, seed=1)) == first != store.sample(5, seed=2)
    store.optimize()
    assert store.sample(5, seed=1) == first
    assert len({tuple(record.id for record in store.sample(5)) for _ in range(20)}) > 10
    assert "other" in [record.id for record in store.sample(51, namespace=None)]


def test_each_row_has_the_same_chance(store: Any) -> None:
    store.upsert([f"r{i}" for i in range(10)], [None, *nested_vectors(9, 8)])
    seen = Counter(record.id for seed in range(1000) for record in store.sample(3, seed=seed, include=()))
    assert len(seen) == 10
    assert min(seen.values()) > 230, seen  # 300 expected, its deviation is 14


@pytest.mark.parametrize("options", [{"n": -1}, {"n": "3"}, {"seed": 1.5}, {"where": 3}, {"include": ("x",)}])
def test_bad_samples(store: Any, options: Any) -> None:
    with pytest.raises(InvalidInput):
        store.sample(**({"n": 1} | options))
