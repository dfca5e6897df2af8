"""Queries over several namespaces: the best rows of all of them, and whose each is."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput
from tests.oracle import Oracle, assert_exact, nested_vectors

SPACES = ("", "a", "b", "c d", "é")
(QUERY,) = nested_vectors(1, 8, seed=9)
CHOICES: tuple[Any, ...] = (["a", ""], ["b"], ["nobody", "é"], ("a", "b", "c d", "a"), None, {"b", "é"})


@pytest.fixture(params=["tail", "segments", "mixed"])
def filled(opened: Any, request: pytest.FixtureRequest) -> tuple[Any, Oracle]:
    """Ids that occur in every namespace, with rows replaced and removed."""
    store, oracle = opened(dim=8, prefix_dim=4), Oracle()
    count = 60 if request.param == "tail" else 900
    for number, space in enumerate(SPACES):
        vectors: list[Any] = [*nested_vectors(count, 8, seed=number)]
        vectors[::10] = [None] * len(vectors[::10])
        ids = [f"r{i}" for i in range(count)]
        metadatas = [{"n": i, "space": space} for i in range(count)]
        documents = [f"word{i % 7} {space}" for i in range(count)]
        for target in (store, oracle):
            target.upsert(ids, vectors, metadatas, documents, namespace=space)
    if request.param != "tail":
        store.optimize()
    if request.param == "mixed":
        for target in (store, oracle):
            target.upsert([f"r{i}" for i in range(40)], nested_vectors(40, 8, seed=7), namespace="a")
            target.upsert(["new"], nested_vectors(1, 8, seed=8), namespace="late")
            target.delete([f"r{i}" for i in range(100, 200)], namespace="b")
            target.clear("c d")
    return store, oracle


def truth(oracle: Oracle, choice: Any, where: Any = None) -> list[tuple[str, float]]:
    """(namespace and id, score) of all rows of these namespaces, best first."""
    names = oracle.namespaces() if choice is None else sorted(set(choice))
    found = [
        (f"{name}/{id}", score)
        for name in names
        for id, score in oracle.scores(QUERY, where=where, namespace=name)
    ]
    return sorted(found, key=lambda row: -row[1])


class Named:
    """A hit whose id says its namespace too."""

    def __init__(self, hit: mrlstore.Hit) -> None:
        self.id, self.score = f"{hit.namespace}/{hit.id}", hit.score


@pytest.mark.parametrize("where", [None, {"n": {"$lt": 50}}])
def test_the_best_of_all_namespaces_are_found(filled: tuple[Any, Oracle], where: Any) -> None:
    store, oracle = filled
    for choice in CHOICES:
        expected = truth(oracle, choice, where)
        for include in ((), ("metadata", "document", "vector")):
            found = store.query(QUERY, k=25, namespace=choice, where=where, exact=True, include=include)
            assert_exact([Named(hit) for hit in found], expected, 25)
            for hit in found if include else ():
                row = oracle.rows[hit.namespace, hit.id]
                assert (hit.metadata, hit.document) == (row.metadata, row.document)
        walked = store.query(QUERY, k=25, namespace=choice, where=where, target_recall=1.0)
        assert_exact([Named(hit) for hit in walked], expected, 25)
        (batch,) = store.query_batch([QUERY], k=25, namespace=choice, where=where, exact=True, include=())
        assert_exact([Named(hit) for hit in batch], expected, 25)
        page = store.query(QUERY, k=9, offset=6, namespace=choice, where=where, exact=True)
        assert_exact([Named(hit) for hit in page], expected[6:], 9)


def test_groups_and_keywords_over_namespaces(filled: tuple[Any, Oracle]) -> None:
    store, oracle = filled
    spaces = {row.metadata["space"] for row in oracle.rows.values() if row.metadata}
    result = store.query(QUERY, k=9, namespace=None, group_by="space", group_size=2, exact=True)
    assert {group.value for group in result.groups} == spaces
    assert all(hit.namespace == group.value for group in result.groups for hit in group.hits)
    words = store.query(k=10_000, namespace=["a", "b"], keywords="word3")
    expected = {
        (space, id)
        for (space, id), row in oracle.rows.items()
        if space in ("a", "b") and row.document and "word3" in row.document
    }
    assert {(hit.namespace, hit.id) for hit in words} == expected
    everywhere = store.query(QUERY, k=50, namespace=None, keywords="word3")
    assert len({hit.namespace for hit in everywhere}) > 2


def test_a_hit_of_one_namespace_names_it(filled: tuple[Any, Oracle]) -> None:
    store, _ = filled
    for include in ((), ("metadata",)):
        for _ in range(2):  # the second time by the fast path
            assert {hit.namespace for hit in store.query(QUERY, namespace="a", include=include)} == {"a"}
    assert {hit.namespace for hit in store.query(QUERY, namespace="a", keywords="word1")} == {"a"}
    assert {hit.namespace for hit in asyncio.run(store.aquery(QUERY, namespace=["b", "é"]))} <= {"b", "é"}


@pytest.mark.parametrize("namespace", [[], [3], b"a", 3, {"a": 1}, ["a" * 300], [None], np.array(3)])
def test_bad_namespaces_are_refused(store: Any, namespace: Any) -> None:
    with pytest.raises(InvalidInput, match="namespace"):
        store.query(np.ones(8), namespace=namespace)


def test_ids_go_with_one_namespace(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    for options in ({"id": "a"}, {"positive": ["a"]}):
        with pytest.raises(InvalidInput, match="one namespace"):
            store.query(namespace=["", "b"], **options)
        assert store.query(namespace=[""], **options).plan.generation > 0
