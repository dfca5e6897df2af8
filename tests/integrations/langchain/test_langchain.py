"""What the standard suite leaves out: scores, filters, MMR, retrievers, constructors, async twins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="needs the environment of make test-integrations")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import mrlstore
from mrlstore.integrations.langchain import MrlVectorStore
from tests.integrations.pages import run_page

EMBEDDING = DeterministicFakeEmbedding(size=16)
TEXTS = [f"text {number}" for number in range(40)]
METADATAS = [{"number": number, "even": number % 2 == 0} for number in range(40)]
IDS = [f"id-{number}" for number in range(40)]


@pytest.fixture
def filled(path: Path) -> Iterator[Any]:
    made = MrlVectorStore.from_texts(
        TEXTS, EMBEDDING, METADATAS, ids=IDS, path_or_store=path, auto_maintain=False
    )
    yield made
    made.close()


def expected(query: str, rows: list[int]) -> list[tuple[str, float]]:
    """Ids and cosines, best first, by plain numpy."""
    vectors = np.array(EMBEDDING.embed_documents([TEXTS[row] for row in rows]))
    vector = np.array(EMBEDDING.embed_query(query))
    scores = vectors @ vector / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vector)
    return [(IDS[rows[place]], float(scores[place])) for place in np.argsort(-scores)]


def test_scores_are_cosines_best_first(filled: Any) -> None:
    wanted = expected("a question", list(range(40)))[:5]
    found = filled.similarity_search_with_score("a question", k=5)
    assert [document.id for document, _ in found] == [id for id, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=2e-3)
    by_vector = filled.similarity_search_by_vector(EMBEDDING.embed_query("a question"), k=5)
    assert by_vector == [document for document, _ in found]
    first = found[0][0]
    assert isinstance(first, Document)
    number = IDS.index(first.id)
    assert (first.page_content, first.metadata) == (TEXTS[number], METADATAS[number])


def test_filters_go_to_the_store(filled: Any) -> None:
    where = {"even": True, "number": {"$gte": 10}}
    wanted = expected("a question", list(range(10, 40, 2)))[:4]
    found = filled.similarity_search("a question", filter=where)
    assert [row.id for row in found] == [id for id, _ in wanted]
    with pytest.raises(mrlstore.InvalidInput, match="unknown operator"):
        filled.similarity_search("a question", filter={"number": {"$above": 1}})


async def test_async_searches_agree_with_plain_ones(filled: Any) -> None:
    vector = EMBEDDING.embed_query("q")
    where = {"even": False}
    assert await filled.asimilarity_search("q", 3, where) == filled.similarity_search("q", 3, where)
    assert await filled.asimilarity_search_with_score("q") == filled.similarity_search_with_score("q")
    assert await filled.asimilarity_search_by_vector(vector) == filled.similarity_search_by_vector(vector)
    for arguments in ({}, {"lambda_mult": 0.1}, {"filter": where, "fetch_k": 9}):
        plain = filled.max_marginal_relevance_search("q", **arguments)
        assert await filled.amax_marginal_relevance_search("q", **arguments) == plain
        by_vector = await filled.amax_marginal_relevance_search_by_vector(vector, **arguments)
        assert by_vector == filled.max_marginal_relevance_search_by_vector(vector, **arguments) == plain


@pytest.mark.parametrize("lambda_mult", [0.0, 0.5, 1.0])
def test_mmr_chooses_among_the_nearest_by_their_stored_vectors(filled: Any, lambda_mult: float) -> None:
    near = [id for id, _ in expected("q", list(range(40)))[:12]]
    vectors = EMBEDDING.embed_documents([TEXTS[IDS.index(id)] for id in near])
    query = np.array(EMBEDDING.embed_query("q"))
    chosen = maximal_marginal_relevance(query, vectors, lambda_mult=lambda_mult, k=4)
    found = filled.max_marginal_relevance_search("q", k=4, fetch_k=12, lambda_mult=lambda_mult)
    assert [row.id for row in found] == [near[place] for place in chosen]


def test_mmr_of_an_empty_store_is_empty(path: Path) -> None:
    made = MrlVectorStore(path, EMBEDDING)
    assert made.max_marginal_relevance_search("q") == []
    assert made.similarity_search("q") == []
    made.close()


async def test_retrievers(filled: Any) -> None:
    plain = filled.as_retriever(search_kwargs={"k": 3, "filter": {"even": True}})
    assert plain.invoke("q") == filled.similarity_search("q", 3, {"even": True})
    assert await plain.ainvoke("q") == plain.invoke("q")
    diverse = filled.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 10})
    assert diverse.invoke("q") == filled.max_marginal_relevance_search("q", 3, 10)
    limited = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6, "k": 40}
    )
    passing = [id for id, score in expected("q", list(range(40))) if (score + 1) / 2 >= 0.6]
    assert 0 < len(passing) < 40
    assert [row.id for row in limited.invoke("q")] == passing
    assert await limited.ainvoke("q") == limited.invoke("q")


def test_from_documents_and_ids_of_documents(path: Path) -> None:
    documents = [Document(page_content="one", id="a"), Document(page_content="two", metadata={"n": 2})]
    made = MrlVectorStore.from_documents(documents, EMBEDDING, path_or_store=path)
    first, second = made.similarity_search("one", k=2)
    assert (first.id, first.page_content) == ("a", "one")
    assert second.id and (second.page_content, second.metadata) == ("two", {"n": 2})
    made.close()
    again = MrlVectorStore(path, EMBEDDING)
    assert [row.page_content for row in again.get_by_ids(["a", "none"])] == ["one"]
    again.close()


async def test_afrom_documents(path: Path) -> None:
    documents = [Document(page_content="one", id="a")]
    made = await MrlVectorStore.afrom_documents(documents, EMBEDDING, path_or_store=path, namespace="there")
    assert await made.aget_by_ids(["a"]) == documents
    assert made.store.namespaces() == {"there": 1}
    made.close()


async def test_namespaces_and_an_open_store_are_shared(opened: Any) -> None:
    store = opened()
    first = MrlVectorStore(store, EMBEDDING, namespace="first")
    second = MrlVectorStore(store, EMBEDDING, namespace="second")
    first.add_texts(["one"], ids=["a"])
    await second.aadd_texts(["two", "three", "four"], [{"n": 1}, {"n": 2}, {"n": 3}], ids=["a", "b", "c"])
    assert [row.page_content for row in first.similarity_search("two")] == ["one"]
    assert second.delete(filter={"n": 1}) and await second.adelete(filter={"n": 2})
    assert [row.id for row in second.similarity_search("two")] == ["c"]
    assert await second.adelete()
    assert store.namespaces() == {"first": 1}
    first.delete()
    first.close()
    assert len(store) == 0, "a store that was given open stays open"
    with pytest.raises(mrlstore.InvalidInput, match="open already"):
        MrlVectorStore(store, EMBEDDING, dim=16)


def test_what_is_wrong_is_said(filled: Any) -> None:
    with pytest.raises(mrlstore.InvalidInput, match="1 for 2 texts"):
        filled.add_texts(["a", "b"], ids=["a"])
    with pytest.raises(mrlstore.InvalidInput, match="unknown arguments batch"):
        filled.add_texts(["a"], batch=7)


def test_the_guide_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("langchain", tmp_path, monkeypatch)
