"""Pages, diverse hits and queries by examples, against the oracle."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput
from tests.layouts import LAYOUTS, queries
from tests.oracle import assert_exact, diverse, stored_row

WHERE = {"colour": "red", "n": {"$lt": 900}}
ALL = ("metadata", "document", "vector")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", [None, WHERE])
def test_pages_are_cut_from_one_list(library: Any, layout: str, where: Any) -> None:
    store, oracle = library(layout)
    (query,) = queries(1)
    expected = oracle.scores(query, where=where)
    for offset in (0, 7, 250):
        page = store.query(query, k=7, offset=offset, where=where, exact=True, include=ALL)
        assert_exact(page, expected[offset:], 7)
        for hit in page:
            row = oracle.rows["", hit.id]
            assert (hit.metadata, hit.document, hit.vector is None) == (row.metadata, row.document, False)
    assert store.query(query, k=7, offset=9_000, where=where).ids == []
    whole = store.query(query, k=40, where=where, target_recall=1.0).ids
    pages = [
        store.query(query, k=10, offset=at, where=where, target_recall=1.0).ids for at in (0, 10, 20, 30)
    ]
    assert sum(pages, []) == whole


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_diverse_hits_are_those_of_the_definition(library: Any, layout: str, diversity: float) -> None:
    store, oracle = library(layout)
    (query,) = queries(1)
    for where, candidates, among in ((None, None, 100), (WHERE, 30, 30)):
        best = oracle.scores(query, where=where)[:among]
        units = np.array([oracle.rows["", name].unit for name, _ in best])
        picked = diverse(units, [score for _, score in best], 8, diversity)
        result = store.query(
            query, k=8, diversity=diversity, candidates=candidates, where=where, exact=True, include=ALL
        )
        assert result.ids == [best[place][0] for place in picked]
        assert [hit.score for hit in result] == pytest.approx([best[place][1] for place in picked], abs=2e-6)
        page = store.query(
            query, k=3, offset=5, diversity=diversity, candidates=candidates, where=where, exact=True
        )
        assert page.ids == result.ids[5:]
    if diversity == 0.0:
        assert store.query(query, k=8, diversity=0, exact=True).ids == store.query(query, k=8, exact=True).ids


def test_diversity_avoids_copies_of_a_row(store: Any) -> None:
    base = np.array([3, 1, 0, 0, 0, 0, 0, 0.0])
    store.upsert(["a", "a2", "a3", "b"], [base, base, base + 0.001, [1, 3, 0, 0, 0, 0, 0, 0]])
    question = np.array([3, 1.2, 0, 0, 0, 0, 0, 0.0])
    assert "b" not in store.query(question, k=2).ids
    assert "b" in store.query(question, k=2, diversity=0.8).ids
    assert len(set(store.query(question, k=4, diversity=0.8).ids)) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_examples_are_averaged_by_direction_and_left_out(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    ids = [name for name in oracle.ids({"colour": "red"}) if oracle.rows["", name].vector is not None]
    towards, away = ids[3:6], ids[10:12]
    vector = queries(1)[0] * 40
    units = {name: np.float64(oracle.rows["", name].unit) for name in (*towards, *away)}
    mean = np.mean([*(units[name] for name in towards), np.float64(stored_row(vector))], axis=0)
    for negative in ([], away):
        asked = mean if not negative else 2 * mean - np.mean([units[name] for name in away], axis=0)
        expected = [row for row in oracle.scores(asked, where=WHERE) if row[0] not in (*towards, *negative)]
        options: Any = {"positive": [*towards, vector], "negative": negative, "where": WHERE}
        result = store.query(**options, k=9, exact=True)
        assert_exact(result, expected, 9, 5e-4)  # the oracle's vector is rounded to float16
        page = store.query(**options, k=4, offset=5, exact=True)
        assert page.ids == result.ids[5:]
        assert asyncio.run(store.aquery(**options, k=9, exact=True)).ids == result.ids


def test_examples_that_are_vectors_alone_leave_nothing_out(library: Any) -> None:
    store, _ = library("indexed")
    matrix = queries(3)
    mean = np.mean(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), axis=0)
    assert store.query(positive=matrix, exact=True).ids == store.query(mean, exact=True).ids
    assert store.query(positive=list(matrix), exact=True).ids == store.query(mean, exact=True).ids


def test_examples_in_a_namespace(store: Any) -> None:
    for space in ("", "a"):
        store.upsert([f"{space}1", f"{space}2", "same"], np.eye(3, 8), namespace=space)
    assert store.query(positive=["a1", "a2"], namespace="a").ids == ["same"]
    with pytest.raises(InvalidInput, match="positive\\[0\\]: 'a1' is not in the unnamed namespace"):
        store.query(positive=["a1"])


def test_pages_and_examples_with_keywords(store: Any) -> None:
    rng = np.random.default_rng(3)
    ids = [f"r{i}" for i in range(40)]
    store.upsert(ids, rng.normal(size=(40, 8)), None, [f"word{i % 3} text" for i in range(40)])
    whole = store.query(np.ones(8), k=30, keywords="word1 word2")
    page = store.query(np.ones(8), k=10, offset=10, keywords="word1 word2")
    assert page.ids == whole.ids[10:20]
    assert [rank.id for rank in page.plan.keywords.hits] == page.ids
    assert store.query(k=5, offset=5, keywords="word1").ids == store.query(k=10, keywords="word1").ids[5:]
    alike = store.query(positive=["r1", "r2"], k=40, keywords="word1")
    assert not {"r1", "r2"} & set(alike.ids)


def test_what_is_picked_is_explained_and_has_a_least_score(library: Any) -> None:
    store, _ = library("indexed")
    (query,) = queries(1)
    result = store.query(query, k=5, offset=5, explain=True)
    assert [rank.id for rank in result.plan.explanation.hits][5:] == result.ids
    scores = store.query(query, k=20, exact=True).scores
    page = store.query(query, k=10, offset=5, min_score=float(scores[8]), exact=True)
    assert len(page) == 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"offset": -1}, "offset"),
        ({"offset": 1.5}, "offset"),
        ({"offset": 9_999}, "offset"),
        ({"diversity": 1.5}, "diversity"),
        ({"diversity": "much"}, "diversity"),
        ({"diversity": 0.5, "k": 1001}, "diversity"),
        ({"diversity": 0.5, "candidates": 5}, "diversity"),
        ({"diversity": 0.5, "candidates": 1001}, "candidates"),
        ({"candidates": 50}, "candidates"),
        ({"diversity": 0.5, "keywords": "word"}, "keywords"),
        ({"positive": ["a"]}, "exactly one"),
        ({"vector": None, "negative": ["a"]}, "negative"),
        ({"vector": None, "positive": []}, "positive"),
        ({"vector": None, "positive": "a"}, "positive"),
        ({"vector": None, "positive": ["nobody"]}, "nobody"),
        ({"vector": None, "positive": ["bare"]}, "no vector"),
        ({"vector": None, "positive": ["a", [1.0, 2.0]]}, "positive\\[1\\]"),
        ({"vector": None, "positive": [1.0, 2.0]}, "positive\\[0\\]"),
        ({"vector": None, "positive": ["a", [-1.0] * 8]}, "cancel"),
        ({"vector": None, "positive": ["a"] * 1001}, "1001"),
    ],
)
def test_bad_picks_are_refused(store: mrlstore.Store, options: Any, word: str) -> None:
    store.upsert(["a", "bare"], [np.ones(8), None])
    with pytest.raises(InvalidInput, match=word):
        store.query(**({"vector": np.ones(8)} | options))
