"""Whole uses: LangChain's indexing API run twice, with each kind of cleanup; texts without a known word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs the environment of make test-integrations")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index

import mrlstore
from mrlstore.embedders.local import NoKnownWord
from mrlstore.integrations.langchain import MrlVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=16)


def documents(*numbers: int, version: int = 0) -> list[Document]:
    return [
        Document(page_content=f"text {n} v{version}", metadata={"source": f"s{n % 3}", "n": n})
        for n in numbers
    ]


class WordsOnly:
    """Like a `LocalEmbedder`, which needs scikit-learn: some words are known, and nothing is asynchronous."""

    known = ("alpha", "beta", "delta")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows = [[float(word in text) for word in self.known] for text in texts]
        unknown = [number for number, row in enumerate(rows) if not any(row)]
        if unknown:
            raise NoKnownWord(f"text {unknown[0]} has no word that the model learned", unknown)
        return rows

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture
def vectors(path: Path) -> Iterator[Any]:
    made = MrlVectorStore(path, EMBEDDING, auto_maintain=False)
    yield made
    made.close()


@pytest.fixture
def manager() -> Any:
    made = InMemoryRecordManager("test")
    made.create_schema()
    return made


OPTIONS: dict[str, Any] = {"batch_size": 50, "source_id_key": "source", "key_encoder": "sha256"}


@pytest.mark.parametrize("cleanup", [None, "incremental", "full", "scoped_full"])
async def test_indexing_twice(vectors: Any, manager: Any, cleanup: Any) -> None:
    options = {**OPTIONS, "cleanup": cleanup}
    first = index(documents(*range(10)), manager, vectors, **options)
    assert (first["num_added"], len(vectors.store)) == (10, 10)
    again = await aindex(documents(*range(10)), manager, vectors, **options)
    assert (again["num_added"], again["num_skipped"], len(vectors.store)) == (0, 10, 10)
    changed = await aindex(documents(*range(5), version=1), manager, vectors, **options)
    assert changed["num_added"] == 5
    expected = {None: 15, "incremental": 5, "full": 5, "scoped_full": 5}[cleanup]
    assert len(vectors.store) == expected, changed
    found = vectors.similarity_search("text 1 v1", k=20)
    assert len(found) == expected and found[0].metadata == {"source": "s1", "n": 1}


def test_a_batch_size_cuts_what_is_stored_at_once(vectors: Any) -> None:
    before = vectors.store.stats().generation
    ids = vectors.add_texts([f"text {n}" for n in range(10)], batch_size=3)
    assert len(ids) == len(vectors.store) == 10
    assert vectors.store.stats().generation - before >= 4
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(mrlstore.InvalidInput, match="batch_size"):
            vectors.add_texts(["a"], batch_size=wrong)
    assert vectors.add_texts([]) == []


async def test_a_text_without_a_known_word_is_stored_without_a_vector(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MrlVectorStore(path, WordsOnly(), auto_maintain=False)
    with caplog.at_level("WARNING", logger="mrlstore"):
        store.add_texts(["alpha beta", "zzzz", "delta"], ids=["a", "b", "c"])
    assert "without a vector: b" in caplog.text
    await store.aadd_texts(["qqqq", "beta"], ids=["d", "e"])
    await store.aadd_texts(["qqqq"], ids=["f"])
    assert [row.id for row in store.get_by_ids(list("abcdef"))] == list("abcdef")
    assert {row.id for row in store.similarity_search("beta", k=10)} == {"a", "c", "e"}
    assert {row.id for row in await store.asimilarity_search("beta", k=10)} == {"a", "c", "e"}
    with pytest.raises(mrlstore.EmbedError):
        store.similarity_search("zzzz")
    store.close()


@pytest.mark.parametrize("k", [0, -1])
async def test_no_results_are_no_question(vectors: Any, k: int) -> None:
    vectors.add_texts(["one", "two"])
    for search in (vectors.similarity_search, vectors.max_marginal_relevance_search):
        with pytest.raises(mrlstore.InvalidInput, match="k: "):
            search("one", k=k)
    with pytest.raises(mrlstore.InvalidInput, match="k: "):
        await vectors.amax_marginal_relevance_search("one", k=k)


def test_ids_and_metadata_go_by_position(vectors: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"id": ["a", "b"], "text": ["one", "two"], "metadata": [{"n": 1}, {"n": 2}]})[::-1]
    vectors.add_texts(frame["text"], frame["metadata"], ids=frame["id"])
    assert [(row.page_content, row.metadata) for row in vectors.get_by_ids(["a", "b"])] == [
        ("one", {"n": 1}),
        ("two", {"n": 2}),
    ]
