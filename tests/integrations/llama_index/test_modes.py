"""The query modes that search by words, through retrievers; and an ingestion pipeline that is run twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs the environment of make test-integrations")

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import AutoMergingRetriever
from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import mrlstore
from mrlstore.integrations.llama_index import MrlVectorStore

TEXTS = ["apples and pears", "pears and plums", "trains and stations", "plums", "apples"]
VECTORS = [[1.0, 0.0, 0.1], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.1, 0.9, 0.3], [0.0, 0.2, 1.0]]


@pytest.fixture
def vectors(path: Path) -> Iterator[Any]:
    made = MrlVectorStore(path, auto_maintain=False)
    nodes = [
        TextNode(id_=f"n{number}", text=text, embedding=vector, metadata={"n": number})
        for number, (text, vector) in enumerate(zip(TEXTS, VECTORS, strict=True))
    ]
    made.add(nodes)
    yield made
    made.close()


def ask(store: Any, mode: str, words: str | None = "plums", k: int = 3, **options: Any) -> Any:
    return store.query(
        VectorStoreQuery(
            query_embedding=options.pop("embedding", [1.0, 0.0, 0.0]),
            query_str=words,
            similarity_top_k=k,
            mode=VectorStoreQueryMode(mode),
            **options,
        )
    )


def test_hybrid_is_the_stores_own(vectors: Any) -> None:
    own = vectors.client.query([1.0, 0.0, 0.0], 3, keywords="plums")
    found = ask(vectors, "hybrid")
    assert (found.ids, found.similarities) == (own.ids, [hit.score for hit in own])
    weighted = vectors.client.query([1.0, 0.0, 0.0], 3, keywords="plums", weights=(0.2, 0.8))
    assert ask(vectors, "hybrid", alpha=0.2).ids == weighted.ids
    assert ask(vectors, "hybrid", alpha=1.0).ids == ask(vectors, "default").ids
    assert set(ask(vectors, "hybrid", alpha=0.0, k=2).ids) == {"n1", "n3"}
    assert len(ask(vectors, "hybrid", hybrid_top_k=1).ids) == 1


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_words_alone(vectors: Any, mode: str) -> None:
    found = ask(vectors, mode, embedding=None)
    assert set(found.ids) == {"n1", "n3"} and found.similarities[0] >= found.similarities[1] > 0
    assert len(ask(vectors, mode, sparse_top_k=1).ids) == 1
    assert ask(vectors, mode, node_ids=["n3"]).ids == ["n3"]


@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid", "text_search", "sparse"])
def test_no_results_are_no_question(vectors: Any, mode: str) -> None:
    with pytest.raises(mrlstore.InvalidInput, match="similarity_top_k: 0"):
        ask(vectors, mode, k=0)


def test_what_is_missing_is_said(vectors: Any) -> None:
    for mode in ("hybrid", "text_search", "sparse"):
        with pytest.raises(mrlstore.InvalidInput, match="query_str"):
            ask(vectors, mode, words=None)
    for mode in ("default", "mmr", "hybrid"):
        with pytest.raises(mrlstore.InvalidInput, match="query_embedding"):
            ask(vectors, mode, embedding=None)
    with pytest.raises(mrlstore.InvalidInput, match="svm"):
        ask(vectors, "svm")


async def test_retrievers_of_every_mode(vectors: Any) -> None:
    index = VectorStoreIndex.from_vector_store(vectors, embed_model=MockEmbedding(embed_dim=3))
    for mode in ("default", "mmr", "hybrid", "text_search", "sparse"):
        retriever = index.as_retriever(similarity_top_k=2, vector_store_query_mode=mode)
        found = retriever.retrieve("plums")
        assert len(found) == 2, mode
        assert [node.node_id for node in await retriever.aretrieve("plums")] == [one.node_id for one in found]
    assert AutoMergingRetriever  # needs a docstore of its own: nothing of it reaches the vector store


def test_an_ingestion_pipeline_that_is_run_twice(path: Path) -> None:
    store = MrlVectorStore(path, auto_maintain=False)
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=20, chunk_overlap=0), MockEmbedding(embed_dim=4)],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    text = " ".join(f"Sentence number {n}." for n in range(20))
    first = pipeline.run(documents=[Document(doc_id="a", text=text), Document(doc_id="b", text="short")])
    assert len(store.client) == len(first) > 3
    assert not pipeline.run(documents=[Document(doc_id="a", text=text), Document(doc_id="b", text="short")])
    pipeline.run(documents=[Document(doc_id="a", text="new"), Document(doc_id="b", text="short")])
    assert sorted(node.get_content() for node in store.get_nodes()) == ["new", "short"]
    store.close()
