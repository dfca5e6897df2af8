"""The Pinecone shim at work; it needs no SDK, so this runs everywhere. See test_sdk.py for the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrlstore
from mrlstore import InvalidInput
from mrlstore.integrations.pinecone import Index, Vector
from mrlstore.integrations.pinecone.filters import where_of
from mrlstore.where import parse
from tests.integrations import rows
from tests.integrations.rows import QUERY, VECTORS


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    with Index(path, auto_maintain=False) as made:
        rows = [(f"a#{row:02}", VECTORS[row].tolist(), {"n": row, "even": row % 2 == 0}) for row in range(30)]
        assert made.upsert(vectors=rows).upserted_count == 30
        yield made


def nearest(*asked: Any) -> list[str]:
    return [f"a#{name}" for name in rows.nearest(*asked)]


def test_upsert_takes_all_three_forms(path: Path) -> None:
    with Index(path) as made:
        answer = made.upsert(
            vectors=[
                Vector("a", [1.0, 0.0], metadata={"n": 1}),
                SimpleNamespace(id="b", values=[0.0, 1.0], metadata=None, sparse_values=None),
                ("c", [1.0, 1.0]),
                ("d", np.array([1.0, 2.0]), {"n": 4, "nothing": None}),
                {"id": "e", "values": [2.0, 1.0]},
                {"id": "f", "values": (3.0, 1.0), "metadata": {"tags": ["x"]}},
            ],
            batch_size=4,
            show_progress=False,
        )
        assert (answer.upserted_count, answer["total_batch_count"], answer.has_errors) == (6, 2, False)
        found = made.fetch(ids=["f", "d", "none", "a"]).vectors
        assert list(found) == ["f", "d", "a"]
        assert found["d"].metadata == {"n": 4}, "null values are dropped"
        assert found["f"]["values"] == pytest.approx([3.0, 1.0], abs=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        ("a",),
        ("a", [1.0], {}, 1),
        {"id": "a"},
        {"id": "a", "values": [1.0, 2.0], "text": "?"},
        {"id": "a", "values": [1.0, 2.0], "sparse_values": {"indices": [1], "values": [1.0]}},
        7,
    ],
)
def test_other_forms_are_refused(index: Index, wrong: Any) -> None:
    with pytest.raises(mrlstore.InvalidInput):
        index.upsert(vectors=[wrong])


def test_query(index: Index) -> None:
    answer = index.query(top_k=5, vector=QUERY, include_metadata=True)
    assert [match.id for match in answer.matches] == nearest(range(30), 5)
    first = answer["matches"][0]
    row = int(first.id[2:])
    assert first.metadata == {"n": row, "even": row % 2 == 0} and first.values == []
    cosine = VECTORS[row] @ QUERY / np.linalg.norm(VECTORS[row]) / np.linalg.norm(QUERY)
    assert first.score == pytest.approx(cosine, abs=2e-3)
    [bare] = index.query(top_k=1, vector=QUERY, include_values=True).matches
    assert bare.metadata is None and bare.values == pytest.approx(VECTORS[row].tolist(), abs=1e-2)
    answer = index.query(top_k=4, vector=QUERY, filter={"even": {"$ne": True}, "n": {"$lt": 20}})
    assert [match.id for match in answer.matches] == nearest(range(1, 20, 2), 4)


def test_query_by_id(index: Index) -> None:
    answer = index.query(top_k=3, id="a#07")
    assert [match.id for match in answer.matches] == nearest(range(30), 3, VECTORS[7])
    assert index.query(top_k=3, id="none").matches == []
    assert index.query(top_k=3, vector=QUERY, namespace="none").matches == []
    wrong: dict[str, Any]
    for wrong in ({}, {"id": "a", "vector": QUERY}, {"vector": QUERY, "sparse_vector": {}}):
        with pytest.raises(mrlstore.InvalidInput):
            index.query(top_k=3, **wrong)


def test_update(index: Index) -> None:
    index.update(id="a#01", set_metadata={"n": 100, "new": "x", "even": None})
    assert index.fetch(ids=["a#01"]).vectors["a#01"].metadata == {"n": 100, "new": "x", "even": False}
    index.update(id="a#01", values=[1.0] * 12, set_metadata={"n": 101})
    changed = index.fetch(ids=["a#01"]).vectors["a#01"]
    assert changed.values == pytest.approx([1.0] * 12, abs=1e-2)
    assert changed.metadata == {"n": 101, "new": "x", "even": False}
    index.update(id="none", values=[1.0] * 12)
    assert index.fetch(ids=["none"]).vectors == {}
    assert index.update(filter={"even": True}, set_metadata={"seen": 1}, dry_run=True).matched_records == 15
    assert index.describe_index_stats(filter={"seen": 1}).total_vector_count == 0
    assert index.update(filter={"even": True}, set_metadata={"seen": 1}).matched_records == 15
    assert index.describe_index_stats(filter={"seen": 1}).total_vector_count == 15
    wrong: dict[str, Any]
    for wrong in ({}, {"id": "a", "filter": {"n": 1}}, {"filter": {}}, {"filter": {"n": 1}, "values": QUERY}):
        with pytest.raises(mrlstore.InvalidInput):
            index.update(**wrong)


def test_delete(index: Index) -> None:
    index.delete(ids=["a#00", "none"])
    index.delete(filter={"n": {"$gte": 5}})
    assert [item.id for page in index.list() for item in page] == ["a#01", "a#02", "a#03", "a#04"]
    index.delete(delete_all=True)
    assert index.describe_index_stats().namespaces == {}
    wrong: dict[str, Any]
    for wrong in ({}, {"filter": {}}, {"ids": ["a"], "delete_all": True}):
        with pytest.raises(mrlstore.InvalidInput):
            index.delete(**wrong)


def test_pages(index: Index) -> None:
    index.upsert(vectors=[("b#1", QUERY)])
    pages = list(index.list(prefix="a#", limit=8))
    assert [len(page) for page in pages] == [8, 8, 8, 6]
    assert [item.id for page in pages for item in page.vectors] == [f"a#{row:02}" for row in range(30)]
    assert pages[-1].pagination is None
    assert pages[0][1].id == "a#01" and pages[0][1] in pages[0] and "vectors" in pages[0]
    page = index.list_paginated(limit=31)
    assert len(page) == 31 and page.pagination is None
    seen: list[str] = []
    token = None
    while True:
        found = index.fetch_by_metadata(filter={"even": True}, limit=7, pagination_token=token)
        seen += found.vectors
        if found.pagination is None:
            break
        token = found.pagination.next
    assert seen == [f"a#{row:02}" for row in range(0, 30, 2)]
    with pytest.raises(mrlstore.InvalidInput):
        index.fetch_by_metadata(filter={})
    with pytest.raises(mrlstore.InvalidInput):
        index.list_paginated(limit=0)


def test_namespaces(index: Index) -> None:
    for name in ("x", "y", "xy"):
        index.upsert(vectors=[("one", QUERY)], namespace=name)
    stats = index.describe_index_stats()
    counts = {name: summary.vector_count for name, summary in stats.namespaces.items()}
    assert counts == {"__default__": 30, "x": 1, "y": 1, "xy": 1}
    assert (stats.dimension, stats.total_vector_count, stats["metric"]) == (12, 33, "cosine")
    assert len(index.fetch(ids=["a#00"], namespace="__default__").vectors) == 1
    pages = list(index.list_namespaces(limit=3))
    assert [[each.name for each in page.namespaces] for page in pages] == [["__default__", "x", "xy"], ["y"]]
    assert index.list_namespaces_paginated(prefix="x").total_count == 2
    assert index.describe_namespace(name="y").record_count == 1
    index.delete_namespace(namespace="y")
    with pytest.raises(mrlstore.InvalidInput):
        index.describe_namespace(name="y")
    with pytest.raises(TypeError):
        index.delete_namespace(named="y")


METAS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(st.integers(-2, 2), st.sampled_from(["x", "y"]), st.booleans()),
        "b": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    },
)
VALUES = st.one_of(st.integers(-2, 2), st.sampled_from(["x", "y"]), st.booleans())
NUMBERS = st.integers(-2, 2)
KEYS = st.sampled_from(["a", "b", "none"])
CONDITIONS = st.one_of(
    VALUES,
    st.fixed_dictionaries({"$eq": VALUES}),
    st.fixed_dictionaries({"$ne": VALUES}),
    st.fixed_dictionaries({"$in": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$gt": NUMBERS, "$lte": NUMBERS}),
    st.fixed_dictionaries({"$gte": NUMBERS, "$ne": NUMBERS}),
    st.fixed_dictionaries({"$ne": NUMBERS, "$exists": st.booleans()}),
)
FILTERS = st.recursive(
    st.dictionaries(KEYS, CONDITIONS, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=5,
)


def same(stored: Any, wanted: Any) -> bool:
    if isinstance(stored, list):
        return any(same(member, wanted) for member in stored)
    return isinstance(stored, bool) == isinstance(wanted, bool) and stored == wanted


def holds(meta: dict[str, Any], key: str, operator: str, operand: Any) -> bool:
    if operator == "$exists":
        return (key in meta) == operand
    if key not in meta:
        return False
    stored = meta[key]
    if operator in ("$eq", "$ne"):
        return same(stored, operand) == (operator == "$eq")
    if operator in ("$in", "$nin"):
        return any(same(stored, each) for each in operand) == (operator == "$in")
    if isinstance(stored, bool) or not isinstance(stored, int):
        return False
    return {"$gt": stored > operand, "$gte": stored >= operand, "$lte": stored <= operand}[operator]


def expected(meta: dict[str, Any], filter: dict[str, Any]) -> bool:
    """Pinecone's meaning, written down anew: a key that is missing matches `$exists: false` alone."""
    return all(
        all(expected(meta, each) for each in value)
        if key == "$and"
        else any(expected(meta, each) for each in value)
        if key == "$or"
        else all(holds(meta, key, operator, operand) for operator, operand in value.items())
        if isinstance(value, dict)
        else holds(meta, key, "$eq", value)
        for key, value in filter.items()
    )


@given(FILTERS, st.lists(METAS, min_size=1, max_size=6))
@settings(max_examples=300)
def test_filters_have_pinecones_meaning(filter: dict[str, Any], metas: list[dict[str, Any]]) -> None:
    node = parse(where_of(filter))
    assert node is not None
    for meta in metas:
        assert node.matches(meta) == expected(meta, filter), meta


@pytest.mark.parametrize(
    "filter",
    [
        {"a": {"$contains": "x"}},
        {"$not": {"a": 1}},
        {"a": {"$gt": "x"}},
        {"a": {"$gt": True}},
        {"$and": []},
        {"$or": {"a": 1}},
        {"$or": [1]},
        {"$or": [{}]},
        {"a": {}, "even": True},
        {"a": [1]},
    ],
)
def test_what_pinecone_has_not_is_refused(index: Index, filter: dict[str, Any]) -> None:
    with pytest.raises(mrlstore.InvalidInput):
        index.query(top_k=1, vector=QUERY, filter=filter)


def test_a_data_frame(path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rows = [{"id": "a", "values": [1.0, 2.0]}, {"id": "b", "values": [2.0, 1.0], "metadata": {"n": 1}}]
    with Index(path) as made:
        assert made.upsert_from_dataframe(pd.DataFrame(rows), "there").upserted_count == 2
        assert made.store.namespaces() == {"there": 2}


def test_no_namespace_is_the_one_without_a_name(index: Index) -> None:
    index.upsert(vectors=[("n", -VECTORS[3], {"own": 1})], namespace=None)
    assert index.fetch(ids=["n"], namespace=None).vectors["n"].metadata == {"own": 1}
    assert index.query(vector=QUERY, top_k=1, namespace=None).namespace == ""
    assert index.query(id="n", top_k=1, namespace=None).matches[0].id == "n"
    assert index.fetch_by_metadata(filter={"own": 1}, namespace=None).vectors.keys() == {"n"}
    index.update(id="n", set_metadata={"n": 2}, namespace=None)
    assert [item.id for page in index.list(namespace=None, prefix="n") for item in page] == ["n"]
    index.delete(ids=["n"], namespace=None)
    assert not index.fetch(ids=["n"]).vectors


def test_frames_with_empty_cells_and_other_columns(index: Index) -> None:
    pd = pytest.importorskip("pandas")
    index.delete(delete_all=True)
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "values": [VECTORS[0]] * 3,
            "metadata": [{"n": 1}, None, float("nan")],
            "sparse_values": [None, float("nan"), pd.NA],
            "remark": ["not", "for", "it"],
        },
        index=[3, 1, 2],
    )
    assert index.upsert_from_dataframe(frame, batch_size=2).upserted_count == 3
    found = index.fetch(ids=["a", "b", "c"]).vectors
    assert [found[id].metadata for id in "abc"] == [{"n": 1}, None, None]
    for wrong in (frame.drop(columns="id"), frame.drop(columns="values"), [{"id": "a"}]):
        with pytest.raises(InvalidInput, match="df"):
            index.upsert_from_dataframe(wrong)


def test_numbers_of_numpy_in_filters(index: Index) -> None:
    index.delete(delete_all=True)
    index.upsert(vectors=[(f"r{n}", VECTORS[n], {"n": n, "half": n / 2}) for n in range(6)])

    def ids(filter: Any) -> list[str]:
        found = index.query(vector=QUERY, top_k=10, filter=filter)
        return sorted(match.id for match in found.matches)

    assert ids({"n": np.int64(3)}) == ids({"n": {"$eq": np.int32(3)}}) == ["r3"]
    assert ids({"half": {"$gt": np.float32(1.5)}}) == ["r4", "r5"]
    assert ids({"n": {"$in": np.array([1, 2])}}) == ids({"n": {"$in": [np.int8(1), 2]}}) == ["r1", "r2"]
    assert ids({"$and": [{"n": {"$lt": np.uint8(2)}}, {"n": {"$ne": np.int64(0)}}]}) == ["r1"]
    assert index.describe_index_stats(filter={"n": {"$gte": np.float64(4)}}).total_vector_count == 2
    with pytest.raises(InvalidInput):
        ids({"n": {"$gt": np.bool_(True)}})


@pytest.mark.parametrize("top_k", [0, -1])
def test_no_results_are_no_question(index: Index, top_k: int) -> None:
    for question in ({"vector": [1, 0, 0, 0]}, {"id": "nobody"}):
        with pytest.raises(InvalidInput, match="top_k"):
            index.query(top_k=top_k, **question)
