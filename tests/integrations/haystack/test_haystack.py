"""What the standard suites leave out: retrieval, pipelines, policies, blobs, filters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("haystack", reason="needs the environment of make test-integrations")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

import mrlstore
from mrlstore.integrations.haystack import MrlDocumentStore, MrlEmbeddingRetriever
from mrlstore.integrations.haystack.filters import where_of
from mrlstore.where import parse
from tests.integrations.pages import run_page
from tests.integrations.rows import QUERY, VECTORS, nearest

EVEN = {"field": "meta.even", "operator": "==", "value": True}
SMALL = {"field": "meta.number", "operator": "<", "value": 10}


@pytest.fixture
def filled(path: Path) -> Iterator[MrlDocumentStore]:
    made = MrlDocumentStore(path, auto_maintain=False)
    made.write_documents(
        [
            Document(
                id=f"{row:02}",
                content=f"text {row}",
                meta={"number": row, "even": row % 2 == 0},
                embedding=VECTORS[row].tolist(),
            )
            for row in range(30)
        ]
    )
    made.write_documents([Document(id="bare", content="no embedding", meta={"even": True})])
    yield made
    made.close()


async def test_retrieval(filled: MrlDocumentStore) -> None:
    found = filled.embedding_retrieval(QUERY, top_k=5)
    assert [item.id for item in found] == nearest(range(30), 5)
    first = VECTORS[int(found[0].id)]
    cosine = first @ QUERY / np.linalg.norm(first) / np.linalg.norm(QUERY)
    assert found[0].score == pytest.approx(cosine, abs=2e-3) and found[0].embedding is None
    [scaled] = filled.embedding_retrieval(QUERY, top_k=1, scale_score=True, return_embedding=True)
    assert scaled.score == pytest.approx((found[0].score + 1) / 2)
    assert scaled.embedding == pytest.approx(first.tolist(), abs=1e-2)
    even = await filled.embedding_retrieval_async(QUERY, filters=EVEN, top_k=4)
    assert [item.id for item in even] == nearest(range(0, 30, 2), 4)
    assert len(filled.embedding_retrieval(QUERY, filters=EVEN, top_k=100)) == 15, "the bare one has no score"
    for filters in (None, {"field": "id", "operator": "==", "value": "03"}):
        with pytest.raises(mrlstore.InvalidInput, match="top_k: 0"):
            filled.embedding_retrieval(QUERY, filters=filters, top_k=0)


async def test_the_retriever_uses_its_own_terms_and_those_of_a_run(filled: MrlDocumentStore) -> None:
    retriever = MrlEmbeddingRetriever(filled, filters=EVEN, top_k=3)
    ids = [item.id for item in retriever.run(QUERY)["documents"]]
    assert ids == nearest(range(0, 30, 2), 3)
    ids = [item.id for item in (await retriever.run_async(QUERY, filters=SMALL, top_k=2))["documents"]]
    assert ids == nearest(range(10), 2)
    merging = MrlEmbeddingRetriever(filled, filters=EVEN, top_k=3, filter_policy="merge")
    ids = [item.id for item in merging.run(QUERY, filters=SMALL)["documents"]]
    assert ids == nearest(range(0, 10, 2), 3)
    with pytest.raises(ValueError, match="top_k"):
        MrlEmbeddingRetriever(filled, top_k=0)
    with pytest.raises(ValueError, match="document_store"):
        MrlEmbeddingRetriever("elsewhere")  # type: ignore[arg-type]


def test_a_pipeline_survives_serialisation(filled: MrlDocumentStore) -> None:
    pipeline = Pipeline()
    retriever = MrlEmbeddingRetriever(filled, EVEN, top_k=3, scale_score=True, filter_policy="merge")
    pipeline.add_component("retriever", retriever)
    question = {"retriever": {"query_embedding": QUERY, "filters": SMALL}}
    answer = pipeline.run(question)
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["mrlstore.integrations.haystack"])
    assert again.run(question) == answer
    assert again.get_component("retriever").to_dict() == retriever.to_dict()
    again.get_component("retriever").document_store.close()


def test_a_store_survives_serialisation(tmp_path: Path) -> None:
    made = MrlDocumentStore(tmp_path / "a.mrl", namespace="there", dim=12, prefix_dim=4)
    made.write_documents([Document(id="a", content="one", embedding=QUERY)])
    data = made.to_dict()
    assert data["init_parameters"] == {
        "path_or_store": str(tmp_path / "a.mrl"),
        "namespace": "there",
        "dim": 12,
        "prefix_dim": 4,
    }
    again = MrlDocumentStore.from_dict(data)
    assert [item.content for item in again.filter_documents()] == ["one"]
    assert again.store.prefix_dim == 4
    again.close()
    made.close()


def test_policies_count_repeated_ids_as_haystack_does(path: Path) -> None:
    made = MrlDocumentStore(path)
    twice = [Document(id="a", content="first"), Document(id="a", content="second")]
    with pytest.raises(DuplicateDocumentError):
        made.write_documents(twice)
    assert made.count_documents() == 0
    assert made.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert made.filter_documents()[0].content == "first"
    assert made.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert made.filter_documents()[0].content == "second"
    with pytest.raises(mrlstore.InvalidInput, match="NaN|finite"):
        made.write_documents([Document(id="b", embedding=[float("nan"), 1.0])])
    made.close()


def test_blobs_and_sparse_embeddings_come_back(path: Path) -> None:
    made = MrlDocumentStore(path)
    document = Document(
        id="a",
        blob=ByteStream(bytes(range(256)), meta={"from": "there"}, mime_type="image/png"),
        meta={"kept": 1},
        sparse_embedding=SparseEmbedding(indices=[1, 5], values=[0.5, 0.25]),
    )
    made.write_documents([document])
    assert made.filter_documents() == [document]
    assert made.get_metadata_fields_info() == {"kept": {"type": "int"}}
    with pytest.raises(mrlstore.InvalidInput, match="reserved"):
        made.write_documents([Document(id="b", meta={"_haystack": 1})])
    made.close()


SCALARS = st.one_of(st.none(), st.sampled_from([0, 1, 2, 1.5, -3, "x", "y", ""]))
NUMBERS = st.one_of(st.none(), st.sampled_from([0, 1, 2, 1.5, -3]))
LOGIC = st.sampled_from(["AND", "OR", "NOT"])
METAS = st.fixed_dictionaries(
    {}, optional={"a": NUMBERS, "b": SCALARS, "c": st.one_of(SCALARS, st.fixed_dictionaries({"d": SCALARS}))}
)
COMPARISONS = st.one_of(
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["meta.a", "meta.b", "meta.c.d", "a"]),
            "operator": st.sampled_from(["==", "!="]),
            "value": SCALARS,
        }
    ),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["meta.a", "meta.b", "meta.c.d", "b"]),
            "operator": st.sampled_from(["in", "not in"]),
            "value": st.lists(SCALARS, max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["meta.a", "a", "meta.z"]),
            "operator": st.sampled_from([">", ">=", "<", "<="]),
            "value": NUMBERS,
        }
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"operator": LOGIC, "conditions": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=6,
)


@given(FILTERS, st.lists(METAS, min_size=1, max_size=8))
@settings(max_examples=400)
def test_filters_mean_what_they_mean_to_haystack(filters: Any, metas: Any) -> None:
    node = parse(where_of(filters))
    assert node is not None
    for meta in metas:
        assert node.matches(meta) == document_matches_filter(filters, Document(content="", meta=meta)), meta


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.a", "operator": "~", "value": 1},
        {"field": "blob", "operator": "==", "value": "x"},
        {"field": "meta.a", "operator": "==", "value": {"b": 1}},
        {"field": "meta.a", "operator": ">", "value": True},
        {"field": 7, "operator": "==", "value": 1},
        {"operator": "XOR", "conditions": [EVEN]},
        {"operator": "AND", "conditions": []},
        {"operator": "AND", "conditions": ["even"]},
    ],
)
def test_what_means_nothing_is_a_filter_error(filled: MrlDocumentStore, filters: dict[str, Any]) -> None:
    with pytest.raises(FilterError):
        filled.filter_documents(filters)


def test_an_open_store_is_shared_and_stays_open(opened: Any) -> None:
    store = opened()
    made = MrlDocumentStore(store, namespace="there")
    made.write_documents([Document(id="a", content="one")])
    made.close()
    assert store.namespaces() == {"there": 1}
    with pytest.raises(mrlstore.InvalidInput, match="open already"):
        MrlDocumentStore(store, dim=4)


def test_the_guide_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("haystack", tmp_path, monkeypatch)


def test_a_time_with_a_zone_in_a_filter_is_compared_in_utc() -> None:
    """02:30 in Berlin is before 02:15 in Lisbon, though it comes later as a text."""
    berlin, lisbon = (datetime.fromisoformat(f"2024-07-01T02:{t}") for t in ("30+02:00", "15+01:00"))
    stored = {"at": lisbon.astimezone(UTC).isoformat()}
    for operator, value, found in ((">", berlin, True), ("<", berlin, False), ("==", lisbon, True)):
        node = parse(where_of({"field": "meta.at", "operator": operator, "value": value}))
        assert node is not None and node.matches(stored) is found
