"""Queries: by vector and by id, exact and through the graph, filters, ties, what is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrlstore import InvalidInput, Result
from tests.layouts import DIM, LAYOUTS, PREFIX, queries
from tests.oracle import assert_exact, assert_same_vector, cosines, nested_vectors, recall, stored_row


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 10, 100, 10_000])
def test_exact_is_numpy(library: Any, layout: str, k: int) -> None:
    store, oracle = library(layout)
    for query in queries(5):
        assert_exact(store.query(query, k=k, exact=True), oracle.scores(query), k)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", [1, 2, PREFIX - 3, PREFIX, PREFIX + 1, DIM])
def test_dim_is_numpy_on_prefixes(library: Any, layout: str, dim: int) -> None:
    store, oracle = library(layout)
    for query in queries(4):
        assert_exact(store.query(query, k=20, dim=dim), oracle.scores(query, dim=dim), 20, 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_stages_find_the_neighbours(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    found = []
    for query in queries(20):
        result = store.query(query, k=10)
        truth = oracle.scores(query)
        scores = dict(truth)
        assert len(result) == 10
        assert all(abs(hit.score - scores[hit.id]) < 1e-5 for hit in result)
        assert list(result.scores) == sorted(result.scores, reverse=True)
        found.append(recall(result, truth, 10))
    assert np.mean(found) >= 0.95, np.mean(found)


def test_the_graph_is_walked(library: Any) -> None:
    store, _ = library("indexed")
    plan = store.query(queries(1)[0], k=10).plan
    assert [part.path for part in plan.segments if part.rows > 2000] == ["walk"]
    assert 0 < plan.visited < 2000, "a walk scores a fraction of the rows"
    assert 0 < plan.reranked < 1000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_score_of_a_row_is_the_same_by_every_way(library: Any, layout: str) -> None:
    store, _ = library(layout)
    for query in queries(5):
        exact = {hit.id: hit.score for hit in store.query(query, k=10_000, exact=True)}
        for options in ({}, {"shortlist": 500}, {"ef": 300}, {"where": {"flag": True}}, {"dim": DIM}):
            for hit in store.query(query, k=10, **options):
                tolerance = 2e-6 if "dim" in options else 0
                assert abs(hit.score - exact[hit.id]) <= tolerance, options


WHERES: list[dict[str, Any]] = [
    {"colour": "red"},
    {"n": 77},
    {"n": {"$lt": 30}},
    {"n": {"$gte": 100, "$lt": 500}},
    {"colour": {"$ne": "red"}},
    {"tags": "t3"},
    {"tags": {"$contains": 2}},
    {"tags": {"$any": ["red", 5]}},
    {"tags": {"$all": ["red", "t1"]}},
    {"deep.a.b": 2},
    {"a.dot": {"$in": [1, 2]}},
    {"maybe": None},
    {"maybe": {"$exists": True}},
    {"maybe": {"$exists": False}},
    {"odd": 1},
    {"odd": True},
    {"odd": "1"},
    {"odd": {"$gt": 0}},
    {"odd": {"$nin": [1, "1"]}},
    {"colour": {"$not": {"$in": ["red", "blue"]}}},
    {"colour": {"$not_contains": "e"}},
    {"colour": {"$contains": "ee"}},
    {"$or": [{"n": {"$lt": 5}}, {"price": {"$gt": 140.0}}]},
    {"$and": [{"flag": False}, {"colour": "blue"}], "n": {"$gt": 50}},
    {"nothing": 1},
    {"nothing": {"$ne": 1}},
    {"flag": True},
    {"price": {"$gte": 10, "$lte": 10}},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", WHERES, ids=str)
def test_filters_mean_what_the_table_says(library: Any, layout: str, where: dict[str, Any]) -> None:
    store, oracle = library(layout)
    assert store.count(where) == len(oracle.ids(where))
    assert [record.id for record in store.scan(where)] == oracle.ids(where)
    query = queries(1)[0]
    truth = oracle.scores(query, where=where)
    assert_exact(store.query(query, k=15, where=where, exact=True), truth, 15)
    found = store.query(query, k=15, where=where)
    assert len(found) == min(15, len(truth)), "if k rows match, k come back"
    assert set(found.ids) <= {name for name, _ in truth}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recall_under_filters(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    for where in ({"n": {"$lt": 600}}, {"colour": "red"}, {"flag": True}, {"tags": {"$contains": 3}}):
        found = [
            recall(store.query(query, k=10, where=where), oracle.scores(query, where=where), 10)
            for query in queries(5)
        ]
        assert np.mean(found) >= 0.95, (where, np.mean(found))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options", [{}, {"where": {"colour": "red"}}, {"exact": True}, {"ef": 10}, {"shortlist": 1}]
)
def test_k_rows_come_back_whenever_k_match(library: Any, layout: str, options: dict[str, Any]) -> None:
    store, oracle = library(layout)
    query = queries(1)[0]
    matching = len(oracle.scores(query, where=options.get("where")))
    for k in (1, 7, matching - 1, matching, matching + 1):
        assert len(store.query(query, k=k, **options)) == min(k, matching), (k, options)


def test_min_score_cuts_the_answer(library: Any) -> None:
    for layout in ("tail", "mixed"):
        store, oracle = library(layout)
        query = queries(1)[0]
        truth = oracle.scores(query)
        edge = (truth[6][1] + truth[7][1]) / 2
        for options in ({"exact": True}, {}):
            found = store.query(query, k=50, min_score=edge, **options)
            assert len(found) <= 7
            assert all(hit.score >= edge for hit in found)
        assert_exact(store.query(query, k=50, min_score=edge, exact=True), truth[:7], 50)
        assert store.query(query, min_score=1.0).ids == []
        assert len(store.query(query, k=20, min_score=-1.0)) == 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_query_by_id(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    name = oracle.ids()[11]
    vector = oracle.rows["", name].vector
    by_id = store.query(id=name, k=10, exact=True)
    truth = oracle.scores(stored_row(vector).astype(np.float32))
    assert len(by_id) == 10
    if name in by_id.ids:
        assert_exact(by_id, truth, 10, 1e-5)
    else:  # "like this one" without the row itself
        assert_exact(by_id, [pair for pair in truth if pair[0] != name], 10, 1e-5)


def test_query_by_an_id_that_is_missing_or_has_no_vector(store: Any) -> None:
    store.upsert(["a", "b"], [np.ones(8), None])
    with pytest.raises(InvalidInput, match="nobody"):
        store.query(id="nobody")
    with pytest.raises(InvalidInput, match="b"):
        store.query(id="b")
    with pytest.raises(InvalidInput, match="a"):
        store.query(id="a", namespace="elsewhere")


def test_exactly_one_thing_is_asked_for(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="vector"):
        store.query()
    with pytest.raises(InvalidInput, match="vector"):
        store.query(np.ones(8), id="a")


def test_text_needs_an_embedder(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="embedder"):
        store.query(text="hello")


@pytest.mark.parametrize("layout", ["tail", "bulk", "indexed"])
def test_ties_go_by_order_of_write(opened: Any, layout: str) -> None:
    store = opened(dim=8, prefix_dim=4)
    n = {"tail": 60, "bulk": 4200, "indexed": 2100}[layout]
    base = nested_vectors(n // 20, 8)
    ids = [f"r{i}" for i in range(n)]
    store.upsert(ids, np.repeat(base, 20, axis=0))
    if layout == "indexed":
        store.optimize()
    for row in (0, 1, n // 40, n // 20 - 1):
        same = ids[row * 20 : row * 20 + 20]
        for k in (1, 7, 20):
            assert store.query(base[row], k=k, exact=True).ids == same[:k]
            assert store.query(base[row], k=k).ids == same[:k]
            assert store.query(base[row], k=k, dim=3).ids[:1] != []
        assert len(set(store.query(base[row], k=20).scores.tolist())) == 1


def test_ties_between_segments_and_tail(opened: Any) -> None:
    store = opened(dim=4)
    rng = np.random.default_rng(0)
    store.upsert([f"far{i}" for i in range(4200)], rng.normal(size=(4200, 4)))
    same = np.array([[1, 2, 3, 4]], dtype=np.float32)
    order: list[str] = []
    for part in range(3):
        names = [f"same{part}-{i}" for i in range(5)]
        store.upsert(names, np.repeat(same, 5, axis=0))
        order += names
        if part < 2:
            store.optimize()
    assert store.query(same[0], k=15, exact=True).ids == order
    assert store.query(same[0], k=15).ids == order
    store.upsert([order[0]], same)
    assert store.query(same[0], k=15, exact=True).ids == [*order[1:], order[0]]


def test_the_answer_is_the_same_each_time_and_after_reopening(opened: Any) -> None:
    store = opened(dim=16, prefix_dim=8)
    vectors = nested_vectors(3000, 16)
    store.upsert([f"r{i}" for i in range(3000)], vectors)
    store.optimize()
    asked = queries(20, 16)
    first = [[(hit.id, hit.score) for hit in store.query(query)] for query in asked]
    assert [[(hit.id, hit.score) for hit in store.query(query)] for query in asked] == first
    store.close()
    store = opened()
    assert [[(hit.id, hit.score) for hit in store.query(query)] for query in asked] == first


def test_scores_survive_sealing(opened: Any) -> None:
    store = opened(dim=16)
    store.upsert([f"r{i}" for i in range(1500)], nested_vectors(1500, 16))
    asked = queries(10, 16)
    before = [[(hit.id, hit.score) for hit in store.query(query, exact=True)] for query in asked]
    store.optimize()
    assert store.stats().tail_rows == 0
    after = [[(hit.id, hit.score) for hit in store.query(query, exact=True)] for query in asked]
    assert after == before


def test_the_length_of_a_query_changes_nothing(library: Any) -> None:
    store, _ = library("mixed")
    query = queries(1)[0]
    plain = store.query(query, exact=True)
    for factor in (1e-20, 1e-3, 4.0, 1e10):
        scaled = store.query(query.astype(np.float64) * factor, exact=True)
        assert scaled.ids == plain.ids
        assert np.allclose(scaled.scores, plain.scores, atol=1e-6)


@pytest.mark.parametrize(
    "convert",
    [
        lambda row: row.tolist(),
        lambda row: tuple(row.tolist()),
        lambda row: row.astype(np.float64),
        lambda row: row.astype(">f4"),
        lambda row: np.repeat(row, 2)[::2],
        lambda row: row[np.newaxis],
    ],
)
def test_kinds_of_query_vectors(library: Any, convert: Any) -> None:
    store, _ = library("tail")
    query = queries(1)[0]
    given = convert(query)
    if isinstance(given, np.ndarray) and given.ndim == 2:
        with pytest.raises(InvalidInput, match="vector"):
            store.query(given)
        return
    assert store.query(given, exact=True).ids == store.query(query, exact=True).ids


def test_cosine_of_opposite_and_orthogonal_vectors(store: Any) -> None:
    rows = np.eye(8, dtype=np.float32)[:2]
    store.upsert(["same", "orthogonal", "opposite"], [rows[0] * 3, rows[1], -rows[0]])
    found = store.query(rows[0])
    assert found.ids == ["same", "orthogonal", "opposite"]
    assert found.scores.tolist() == [1.0, 0.0, -1.0]
    assert all(-1.0 <= hit.score <= 1.0 for hit in found)


def test_rows_whose_prefix_is_nothing_are_found(opened: Any) -> None:
    store = opened(dim=8, prefix_dim=4)
    rows = nested_vectors(2100, 8)
    hidden = np.zeros((5, 8), dtype=np.float32)
    hidden[:, 4:] = nested_vectors(5, 4, seed=1)
    store.upsert([f"r{i}" for i in range(2100)], rows)
    store.upsert([f"hidden{i}" for i in range(5)], hidden)
    for _ in range(2):
        for i, row in enumerate(hidden):
            assert store.query(row, k=1).ids == [f"hidden{i}"]
            assert store.query(row, k=1, exact=True).ids == [f"hidden{i}"]
        assert len(store.query(rows[0], k=3000)) == 2105
        store.optimize()


def test_at_dims_where_a_row_is_zero_nothing_breaks(opened: Any) -> None:
    store = opened(dim=8)
    rows = np.zeros((3, 8), dtype=np.float32)
    rows[0, 0], rows[1, 5], rows[2, 7] = 1, 1, 1
    store.upsert(["a", "b", "c"], rows)
    found = store.query(np.ones(8), k=3, dim=4)
    assert found.ids[0] == "a"
    assert np.isfinite(found.scores).all()


def test_a_query_that_is_zero_at_dim_is_refused_or_told(opened: Any) -> None:
    store = opened(dim=8)
    store.upsert(["a"], np.ones((1, 8)))
    query = np.zeros(8)
    query[7] = 1
    try:
        found = store.query(query, dim=4)
    except InvalidInput as error:
        assert "dim" in str(error) or "zero" in str(error)
    else:
        assert np.isfinite(found.scores).all()


def test_vector_of_a_hit(library: Any) -> None:
    for layout in LAYOUTS:
        store, oracle = library(layout)
        for hit in store.query(queries(1)[0], k=5, include=("vector", "document", "metadata")):
            row = oracle.rows["", hit.id]
            assert_same_vector(hit.vector, row.vector)
            assert (hit.metadata, hit.document) == (row.metadata, row.document)


def test_result_is_a_sequence(library: Any) -> None:
    store, _ = library("tail")
    result = store.query(queries(1)[0], k=5)
    assert isinstance(result, Result)
    assert len(result) == 5
    assert result[0] is next(iter(result))
    assert [hit.id for hit in result] == result.ids
    assert result[1:3] == list(result)[1:3]
    assert result[-1].id == result.ids[-1]
    assert result.scores.dtype == np.float32
    assert result.scores.tolist() == [hit.score for hit in result]
    assert result[0] in result
    assert result.plan.generation == store.stats().generation


def test_plan_tells_what_was_done(library: Any) -> None:
    store, oracle = library("mixed")
    query = queries(1)[0]
    assert store.query(query).plan.effort == "default"
    assert store.query(query, exact=True).plan.effort == "exact"
    explicit = store.query(query, ef=77, shortlist=33).plan
    assert explicit.effort == "explicit"
    graph, _ = library("indexed")
    walked = [part for part in graph.query(query, ef=77, shortlist=33).plan.segments if part.path == "walk"]
    assert walked
    assert all((part.ef, part.shortlist) == (77, 33) for part in walked)
    exact = store.query(query, exact=True).plan
    with_vector = len(oracle.scores(query))
    assert exact.reranked >= with_vector
    filtered = store.query(query, where={"colour": "red"}).plan
    assert filtered.matching is not None
    assert any(part.segment == "tail" for part in explicit.segments)


def test_an_explicit_shortlist_is_scored_whole(
    library: Any,
) -> None:
    store, _ = library("indexed")
    usual = []
    for query in queries(20):
        for shortlist in (10, 12, 20, 40, 100, 400):
            plan = store.query(query, k=10, shortlist=shortlist, ef=400).plan
            assert plan.reranked >= shortlist  # and copies, and rows without a prefix
        usual.append(store.query(query, k=10).plan.reranked)
    assert min(usual) < max(usual), "easy and hard questions are among them"


def test_a_larger_ef_visits_more(library: Any) -> None:
    store, _ = library("indexed")
    query = queries(1)[0]
    assert store.query(query, k=10, ef=400).plan.visited > store.query(query, k=10, ef=20).plan.visited


def test_a_large_shortlist_approaches_exact(library: Any) -> None:
    store, oracle = library("indexed")
    found = [recall(store.query(q, k=10, shortlist=1000, ef=1000), oracle.scores(q), 10) for q in queries(20)]
    assert np.mean(found) >= 0.999


BAD_QUERIES: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "k"),
    ({"k": -1}, "k"),
    ({"k": 1.5}, "k"),
    ({"k": "10"}, "k"),
    ({"k": True}, "k"),
    ({"k": None}, "k"),
    ({"k": 10_001}, "k.*10,?000"),
    ({"dim": 0}, "dim"),
    ({"dim": -1}, "dim"),
    ({"dim": 9}, "dim"),
    ({"dim": 2.0}, "dim"),
    ({"dim": "4"}, "dim"),
    ({"ef": 0}, "ef"),
    ({"ef": -5}, "ef"),
    ({"ef": "x"}, "ef"),
    ({"ef": 10**12}, "ef"),
    ({"shortlist": 0}, "shortlist"),
    ({"shortlist": 2.5}, "shortlist"),
    ({"shortlist": 10**12}, "shortlist"),
    ({"min_score": float("nan")}, "min_score"),
    ({"min_score": "high"}, "min_score"),
    ({"namespace": 5}, "namespace"),
    ({"namespace": "x" * 257}, "namespace"),
    ({"where": {"a": {"$near": 1}}}, r"\$near"),
    ({"where": {"$nor": [{"a": 1}]}}, r"\$nor"),
    ({"where": {"$and": []}}, r"\$and"),
    ({"where": {"$or": []}}, r"\$or"),
    ({"where": {"$or": {"a": 1}}}, r"\$or"),
    ({"where": {"a": {"$gt": [1]}}}, r"\$gt"),
    ({"where": {"a": {"$gt": None}}}, r"\$gt"),
    ({"where": {"a": {"$lt": True}}}, r"\$lt"),
    ({"where": {"a": {"$in": "abc"}}}, r"\$in"),
    ({"where": {"a": {"$in": 3}}}, r"\$in"),
    ({"where": {"a": {"$exists": 1}}}, r"\$exists"),
    ({"where": {"a": {"$exists": "yes"}}}, r"\$exists"),
    ({"where": {"a": float("nan")}}, "a"),
    ({"where": {"a": {"$gt": float("nan")}}}, "a"),
    ({"where": {"a": {"$in": [1, float("nan")]}}}, "a"),
    ({"where": {"a": {"$not": 3}}}, r"\$not"),
    ({"where": {"a": {"$eq": 1, "b": 2}}}, "a"),
    ({"where": {"a": object()}}, "a"),
    ({"where": {"a": {1, 2}}}, "a"),
    ({"where": {"a": b"bytes"}}, "a"),
    ({"where": {3: 1}}, "3"),
    ({"where": [{"a": 1}]}, "where"),
    ({"where": "a = 1"}, "where"),
    ({"where": 3}, "where"),
]


@pytest.mark.parametrize(
    ("options", "culprit"), BAD_QUERIES, ids=lambda value: str(value).split(" at 0x")[0][:40]
)
@pytest.mark.parametrize("verb", ["query", "query_batch"])
def test_bad_queries_name_the_culprit(opened: Any, options: dict[str, Any], culprit: str, verb: str) -> None:
    store = opened(dim=8)
    store.upsert(["a"], np.ones((1, 8)))
    asked = np.ones(8) if verb == "query" else np.ones((2, 8))
    with pytest.raises(InvalidInput, match=culprit):
        getattr(store, verb)(asked, **options)
    assert store.query(np.ones(8)).ids == ["a"]


def deep_filter(depth: int) -> dict[str, Any]:
    where: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        where = {"$and": [where]}
    return where


@pytest.mark.parametrize(
    "where", [deep_filter(100), deep_filter(100_000), {"$or": [{"a": i} for i in range(5000)]}]
)
def test_filters_too_deep_or_too_wide_are_refused(store: Any, where: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"a": 1}])
    for call in (
        lambda: store.query(np.ones(8), where=where),
        lambda: store.count(where),
        lambda: list(store.scan(where)),
        lambda: store.delete(where=where),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert len(store) == 1


BAD_VECTORS: dict[str, Any] = {
    "nan": [1, 2, 3, float("nan"), 5, 6, 7, 8],
    "inf": [1, 2, 3, float("inf"), 5, 6, 7, 8],
    "-inf": [float("-inf")] * 8,
    "zero": [0.0] * 8,
    "too long": [1.0] * 9,
    "too short": [1.0] * 7,
    "empty": [],
    "scalar": 3.0,
    "matrix": [[1.0] * 8] * 2,
    "text": "vector",
    "texts": ["1"] * 8,
    "ragged": [[1], [2, 3]],
    "complex": np.ones(8, dtype=complex),
    "bytes": b"12345678",
    "object": [object()] * 8,
    "none inside": [1.0] * 7 + [None],
    "dates": np.zeros(8, dtype="datetime64[s]"),
    "dict": {"a": 1},
    "float32 of a length beyond it": np.full(8, 2e38, dtype=np.float32),
}


@pytest.mark.parametrize("kind", BAD_VECTORS)
def test_bad_query_vectors(store: Any, kind: str) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    for options in ({}, {"exact": True}, {"dim": 4}):
        with pytest.raises(InvalidInput, match="vector"):
            store.query(BAD_VECTORS[kind], **options)
    with pytest.raises(InvalidInput, match="vector"):
        store.query_batch([np.ones(8), BAD_VECTORS[kind]])


def test_masked_query_vectors_are_refused(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="vector: some values are masked"):
        store.query(np.ma.masked_array(np.ones(8), mask=[True] + [False] * 7))
    assert store.query(np.ma.masked_array(np.ones(8))).ids == ["a"]


def test_a_long_query_vector_is_no_warning(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    assert store.query(np.full(8, 1e38, dtype=np.float32)).ids == ["a"]
    assert store.query_batch(np.full((2, 8), 1e38, dtype=np.float32)).ids == [["a"], ["a"]]


def test_dim_equals_cosine_by_hand(library: Any) -> None:
    store, oracle = library("bulk")
    query = queries(1)[0]
    found = store.query(query, k=3, dim=PREFIX, include=("vector",))
    for hit in found:
        expected = cosines(query, stored_row(oracle.rows["", hit.id].vector)[np.newaxis], PREFIX)[0]
        assert hit.score == pytest.approx(expected, abs=1e-5)
