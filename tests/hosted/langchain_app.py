"""LangChain's own vector stores for Pinecone, Qdrant and Chroma, unmodified; nothing in it knows of mrlstore.

Run by the packages' interpreter: `python langchain_app.py URL INDEX`, with PINECONE_CONTROLLER_HOST and the
keys in PINECONE_API_KEY, QDRANT_API_KEY and CHROMA_API_KEY. Prints a line for each check that holds; an
exception is a failure.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
import uuid
from typing import Any

import chromadb
from chromadb.config import Settings
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_pinecone import PineconeVectorStore
from langchain_qdrant import QdrantVectorStore
from pinecone import Pinecone, ServerlessSpec
from qdrant_client import QdrantClient, models

URL, NAME = sys.argv[1:]
DIM = 64
TEXTS = [
    "the moon causes the tides of the sea",
    "honey is made by bees in summer",
    "rain falls from clouds over the sea",
    "gold is a metal that does not rust",
    "iron is a metal that does rust in rain",
]
IDS = [str(uuid.UUID(int=n)) for n in range(5)]


class WordVectors(Embeddings):
    """Sums of a random vector for each word: texts with words in common are near."""

    def embed_query(self, text: str) -> list[float]:
        total = [0.0] * DIM
        for word in text.split():
            source = random.Random(word)
            total = [number + source.gauss(0, 1) for number in total]
        length = math.sqrt(sum(number * number for number in total))
        return [number / length for number in total]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def documents() -> list[Document]:
    return [
        Document(page_content=text, metadata={"topic": "metal" if "metal" in text else "nature", "n": n})
        for n, text in enumerate(TEXTS)
    ]


def common(name: str, store: Any, metal: Any) -> None:
    """What all of LangChain's vector stores do; `metal` is the store's own filter for that topic."""
    check(f"{name}: add", store.add_documents(documents(), ids=list(IDS)) == IDS)
    found = store.similarity_search("what causes tides", k=2)
    check(f"{name}: search", found[0].page_content == TEXTS[0] and found[0].metadata["topic"] == "nature")
    check(f"{name}: filter", sorted(texts(store.similarity_search("rust", k=5, filter=metal))) == TEXTS[3:])
    relevant = store.similarity_search_with_relevance_scores(TEXTS[3], k=1)
    check(f"{name}: relevance", relevant[0][0].page_content == TEXTS[3] and relevant[0][1] > 0.99)
    diverse = store.max_marginal_relevance_search("metal that does rust", k=3, fetch_k=5)
    check(f"{name}: mmr", len(set(texts(diverse))) == 3)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    check(f"{name}: retriever", texts(retriever.invoke("honey bees")) == [TEXTS[1]])
    store.add_texts(["honey is sold in jars"], ids=[IDS[1]], metadatas=[{"topic": "trade", "n": 9}])
    changed = store.similarity_search("honey jars", k=1)[0]
    check(f"{name}: replace", changed.metadata["topic"] == "trade" and "jars" in changed.page_content)
    store.delete([IDS[1]])
    check(f"{name}: delete", len(store.similarity_search("honey", k=9)) == 4)


def over_pinecone(store: PineconeVectorStore) -> None:
    common("pinecone", store, {"topic": "metal"})
    late = store.similarity_search("rust", k=5, filter={"n": {"$gte": 3}, "topic": {"$ne": "nature"}})
    check("filter by order", sorted(texts(late)) == TEXTS[3:])
    best, score = store.similarity_search_with_score(TEXTS[4], k=1)[0]
    check("score", best.id == IDS[4] and abs(score - 1) < 1e-3)
    store.delete(filter={"topic": "metal"})
    check("delete by filter", sorted(texts(store.similarity_search("sea", k=9))) == [TEXTS[2], TEXTS[0]])
    store.delete(delete_all=True)
    check("delete all", store.similarity_search("sea", k=9) == [])


def over_qdrant(url: str, key: str) -> None:
    client = QdrantClient(url=f"{url}/qdrant", api_key=key)
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection(f"{NAME}-qdrant", vectors_config=params)
    store = QdrantVectorStore(client=client, collection_name=f"{NAME}-qdrant", embedding=WordVectors())
    topic = models.FieldCondition(key="metadata.topic", match=models.MatchValue(value="metal"))
    common("qdrant", store, models.Filter(must=[topic]))
    check("qdrant: by id", texts(list(store.get_by_ids([IDS[0]]))) == [TEXTS[0]])
    client.delete_collection(f"{NAME}-qdrant")


def over_chroma(url: str, key: str) -> None:
    settings = Settings(anonymized_telemetry=False)
    client = chromadb.HttpClient(host=url, headers={"X-Chroma-Token": key}, settings=settings)
    store = Chroma(client=client, collection_name=f"{NAME}-chroma", embedding_function=WordVectors())
    common("chroma", store, {"topic": "metal"})
    check("chroma: by id", texts(list(store.get_by_ids([IDS[0]]))) == [TEXTS[0]])
    store.update_document(IDS[0], Document(page_content="snow and ice", metadata={"topic": "cold"}))
    check("chroma: update", store.get(where={"topic": "cold"})["documents"] == ["snow and ice"])
    store.delete_collection()


async def asynchronous(store: PineconeVectorStore) -> None:
    await store.aadd_documents(documents(), ids=list(IDS))
    found = await store.asimilarity_search("what causes tides", k=1)
    check("async search", texts(found) == [TEXTS[0]])
    metals = await store.asimilarity_search_with_score("rust", k=5, filter={"topic": "metal"})
    check("async filter", len(metals) == 2)
    await store.adelete(ids=[IDS[0]])
    check("async delete", TEXTS[0] not in texts(await store.asimilarity_search("tides", k=9)))


def main() -> None:
    client = Pinecone()
    client.create_index(NAME, dimension=DIM, spec=ServerlessSpec(cloud="aws", region="us-east-1"))
    over_pinecone(PineconeVectorStore(index=client.Index(NAME), embedding=WordVectors()))
    named = PineconeVectorStore(index_name=NAME, embedding=WordVectors(), namespace="other")
    asyncio.run(asynchronous(named))
    made = PineconeVectorStore.from_texts(
        TEXTS, WordVectors(), index_name=NAME, namespace="third", ids=list(IDS)
    )
    check("from texts", texts(made.similarity_search("gold metal", k=1)) == [TEXTS[3]])
    again = PineconeVectorStore.from_existing_index(NAME, WordVectors(), namespace="third")
    check("from existing", texts(again.similarity_search("gold metal", k=1)) == [TEXTS[3]])
    client.delete_index(NAME)
    over_qdrant(URL, os.environ["QDRANT_API_KEY"])
    over_chroma(URL, os.environ["CHROMA_API_KEY"])


main()
