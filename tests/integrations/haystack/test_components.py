"""Whole uses: Haystack's own components on the store, an indexing pipeline run twice, filters on ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("haystack", reason="needs the environment of make test-integrations")

from haystack import Document, Pipeline, component
from haystack.components.caching import CacheChecker
from haystack.components.preprocessors import DocumentSplitter, HierarchicalDocumentSplitter
from haystack.components.retrievers import AutoMergingRetriever, FilterRetriever, SentenceWindowRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

import mrlstore
from mrlstore.integrations.haystack import MrlDocumentStore, MrlEmbeddingRetriever

TEXT = " ".join(f"word{number}" for number in range(60))
DIM = 8


def embedding(text: str) -> list[float]:
    seed = sum(text.encode())
    row: list[float] = np.random.default_rng(seed).normal(size=DIM).tolist()
    return row


@component
class Embed:
    """Stands for an embedder."""

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        return {"documents": [replace(one, embedding=embedding(one.content or "")) for one in documents]}


@pytest.fixture
def store(path: Path) -> Iterator[MrlDocumentStore]:
    made = MrlDocumentStore(path, auto_maintain=False)
    yield made
    made.close()


@pytest.fixture
def filled(store: MrlDocumentStore) -> MrlDocumentStore:
    store.write_documents(
        [
            Document(
                id=f"d{n}", content=f"text {n}", meta={"n": n, "url": f"u{n}"}, embedding=embedding(f"{n}")
            )
            for n in range(10)
        ]
        + [Document(id="bare", content="no embedding", meta={"n": 99})]
    )
    return store


def test_an_indexing_pipeline_that_is_run_twice(store: MrlDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("split", DocumentSplitter(split_by="word", split_length=10, split_overlap=2))
    pipeline.add_component("embed", Embed())
    pipeline.add_component("write", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("split", "embed")
    pipeline.connect("embed", "write")
    counts = []
    for _ in range(2):
        done = pipeline.run(
            {"split": {"documents": [Document(id="whole", content=TEXT, meta={"source": "t"})]}}
        )
        counts.append((done["write"]["documents_written"], store.count_documents()))
    assert counts[0] == counts[1] and counts[0][0] == counts[0][1] > 3
    window = SentenceWindowRetriever(store, window_size=1)
    [second] = store.filter_documents({"field": "meta.split_id", "operator": "==", "value": 1})
    around = window.run(retrieved_documents=[second])["context_documents"]
    assert [document.meta["split_id"] for document in around] == [0, 1, 2]


async def test_auto_merging_finds_parents(store: MrlDocumentStore) -> None:
    splitter = HierarchicalDocumentSplitter(block_sizes={30, 10}, split_overlap=0, split_by="word")
    documents = splitter.run([Document(content=TEXT)])["documents"]
    leaves = [document for document in documents if not document.meta["__children_ids"]]
    store.write_documents(Embed().run(documents)["documents"])
    merging = AutoMergingRetriever(store, threshold=0.5)
    children = [leaf for leaf in leaves if leaf.meta["__parent_id"] == leaves[0].meta["__parent_id"]]
    for found in (merging.run(children), await merging.run_async(children)):
        assert [document.id for document in found["documents"]] == [leaves[0].meta["__parent_id"]]


@pytest.mark.parametrize(
    ("field", "items", "hits"),
    [
        ("id", ["d3", "nobody"], ["d3"]),
        ("meta.url", ["u4", "u44"], ["d4"]),
        ("content", ["text 5", ""], ["d5"]),
    ],
)
async def test_the_cache_checker(
    filled: MrlDocumentStore, field: str, items: list[str], hits: list[str]
) -> None:
    checker = CacheChecker(filled, cache_field=field)
    for found in (checker.run(items=items), await checker.run_async(items=items)):
        assert [document.id for document in found["hits"]] == hits
        assert found["misses"] == items[1:]


def condition(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def joined(operator: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"operator": operator, "conditions": list(conditions)}


FILTERS = [
    (condition("id", "==", "d1"), {"d1"}),
    (condition("id", "in", ["d1", "d2", "x"]), {"d1", "d2"}),
    (condition("id", "!=", "d1"), {f"d{n}" for n in range(10) if n != 1} | {"bare"}),
    (condition("id", "not in", [f"d{n}" for n in range(9)]), {"d9", "bare"}),
    (joined("AND", condition("id", "in", ["d1", "d2", "d8"]), condition("meta.n", ">", 1)), {"d2", "d8"}),
    (joined("OR", condition("id", "==", "d1"), condition("meta.n", ">", 8)), {"d1", "d9", "bare"}),
    (joined("NOT", condition("id", "==", "d1"), condition("meta.n", "==", 1)),
     {f"d{n}" for n in range(10) if n != 1} | {"bare"}),
    (joined("NOT", joined("OR", condition("id", "!=", "d1"), condition("meta.n", ">", 8))), {"d1"}),
    (joined("AND", condition("content", "in", ["text 3", "text 4"]), condition("id", "!=", "d3")), {"d4"}),
    (condition("id", "==", None), set()),
    (condition("id", "==", 5), set()),
]  # fmt: skip


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters_on_ids(filled: MrlDocumentStore, filters: dict[str, Any], expected: set[str]) -> None:
    assert {document.id for document in filled.filter_documents(filters)} == expected
    assert FilterRetriever(filled).run(filters)["documents"] == filled.filter_documents(filters)
    assert filled.count_documents_by_filter(filters) == len(expected)
    question = embedding("q")
    found = filled.embedding_retrieval(question, filters=filters, top_k=3)
    whole = filled.embedding_retrieval(question, top_k=100)
    same = [(document.id, document.score) for document in whole if document.id in expected][:3]
    assert [document.id for document in found] == [id for id, _ in same]
    assert [document.score for document in found] == pytest.approx([score for _, score in same], abs=1e-5)
    assert filled.update_by_filter(filters, {"seen": True}) == len(expected)
    assert filled.count_documents_by_filter(condition("meta.seen", "==", True)) == len(expected)
    assert filled.delete_by_filter(filters) == len(expected)
    assert filled.count_documents() == 11 - len(expected)


def test_the_retriever_with_a_filter_on_ids(filled: MrlDocumentStore) -> None:
    retriever = MrlEmbeddingRetriever(filled, filters=condition("id", "in", ["d1", "d7"]), top_k=5)
    found = retriever.run(embedding("7"), scale_score=True, return_embedding=True)["documents"]
    assert {document.id for document in found} == {"d1", "d7"} and found[0].id == "d7"
    assert found[0].score == pytest.approx(1, abs=1e-3) and len(found[0].embedding or []) == DIM
    assert not filled.embedding_retrieval(embedding("1"), condition("id", "==", "d7"), min_score=0.99)


@pytest.mark.parametrize(
    "filters",
    [
        condition("id", ">", "d1"), condition("id", "in", "d1"), condition("score", "==", 1),
        {"field": "id", "operator": "=="}, joined("XOR", condition("id", "==", "d1")),
    ],
)  # fmt: skip
def test_filters_that_mean_nothing(filled: MrlDocumentStore, filters: dict[str, Any]) -> None:
    for call in (filled.filter_documents, filled.delete_by_filter, filled.count_documents_by_filter):
        with pytest.raises(FilterError):
            call(filters)
    with pytest.raises(mrlstore.InvalidInput):
        filled.embedding_retrieval([0.0] * DIM, condition("id", "==", "d1"))
