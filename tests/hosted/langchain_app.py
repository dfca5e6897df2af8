"""LangChain's own vector store for Pinecone, unmodified; nothing in it knows of mrlstore.

Run by the package's interpreter: `python langchain_app.py URL INDEX`, with PINECONE_CONTROLLER_HOST and
PINECONE_API_KEY set. Prints a line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_pinecone import PineconeVectorStore
from pinecone import Pinecone, ServerlessSpec

NAME = sys.argv[2]
DIM = 64
TEXTS = {
    "moon": "the moon causes the tides of the sea",
    "bees": "honey is made by bees in summer",
    "rain": "rain falls from clouds over the sea",
    "gold": "gold is a metal that does not rust",
    "iron": "iron is a metal that does rust in rain",
}


class WordVectors(Embeddings):
    """Sums of a random vector for each word: texts with words in common are near."""

    def embed_query(self, text: str) -> list[float]:
        total = [0.0] * DIM
        for word in text.split():
            source = random.Random(word)
            total = [number + source.gauss(0, 1) for number in total]
        return total

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def documents() -> list[Document]:
    return [
        Document(page_content=text, metadata={"topic": "metal" if "metal" in text else "nature", "n": n})
        for n, text in enumerate(TEXTS.values())
    ]


def synchronous(store: PineconeVectorStore) -> None:
    check("add", store.add_documents(documents(), ids=list(TEXTS)) == list(TEXTS))
    found = store.similarity_search("what causes tides", k=2)
    check("search", found[0].id == "moon" and found[0].page_content == TEXTS["moon"])
    check("metadata", found[0].metadata == {"topic": "nature", "n": 0.0})
    best, score = store.similarity_search_with_score(TEXTS["bees"], k=1)[0]
    check("score", best.id == "bees" and abs(score - 1) < 1e-3)
    metals = store.similarity_search("rust", k=5, filter={"topic": "metal"})
    check("filter", sorted(map(str, ids(metals))) == ["gold", "iron"])
    late = store.similarity_search("rust", k=5, filter={"n": {"$gte": 3}, "topic": {"$ne": "nature"}})
    check("filter by order", sorted(map(str, ids(late))) == ["gold", "iron"])
    relevant = store.similarity_search_with_relevance_scores(TEXTS["gold"], k=1)
    check("relevance", relevant[0][0].id == "gold" and relevant[0][1] > 0.99)
    diverse = store.max_marginal_relevance_search("metal that does rust", k=3, fetch_k=5)
    check("mmr", len({document.page_content for document in diverse}) == 3)
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"topic": "nature"}})
    check("retriever", ids(retriever.invoke("honey bees")) == ["bees"])
    store.add_texts(["honey is sold in jars"], ids=["bees"], metadatas=[{"topic": "trade"}])
    check("replace", store.similarity_search("honey jars", k=1)[0].metadata == {"topic": "trade"})
    store.delete(ids=["bees", "absent"])
    check("delete", "bees" not in ids(store.similarity_search("honey", k=9)))
    store.delete(filter={"topic": "metal"})
    check("delete by filter", sorted(map(str, ids(store.similarity_search("sea", k=9)))) == ["moon", "rain"])
    store.delete(delete_all=True)
    check("delete all", store.similarity_search("sea", k=9) == [])


async def asynchronous(store: PineconeVectorStore) -> None:
    await store.aadd_documents(documents(), ids=list(TEXTS))
    found = await store.asimilarity_search("what causes tides", k=1)
    check("async search", ids(found) == ["moon"])
    metals = await store.asimilarity_search_with_score("rust", k=5, filter={"topic": "metal"})
    check("async filter", len(metals) == 2)
    await store.adelete(ids=["moon"])
    check("async delete", "moon" not in ids(await store.asimilarity_search("tides", k=9)))


def main() -> None:
    client = Pinecone()
    client.create_index(NAME, dimension=DIM, spec=ServerlessSpec(cloud="aws", region="us-east-1"))
    index = client.Index(NAME)
    synchronous(PineconeVectorStore(index=index, embedding=WordVectors()))
    named = PineconeVectorStore(index_name=NAME, embedding=WordVectors(), namespace="other")
    asyncio.run(asynchronous(named))
    made = PineconeVectorStore.from_texts(
        list(TEXTS.values()), WordVectors(), index_name=NAME, namespace="third", ids=list(TEXTS)
    )
    check("from texts", ids(made.similarity_search("gold metal", k=1)) == ["gold"])
    again = PineconeVectorStore.from_existing_index(NAME, WordVectors(), namespace="third")
    check("from existing", ids(again.similarity_search("gold metal", k=1)) == ["gold"])
    client.delete_index(NAME)


main()
