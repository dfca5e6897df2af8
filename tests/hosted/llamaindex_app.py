"""LlamaIndex's own vector store for Pinecone, unmodified; nothing in it knows of mrlstore.

Run by the package's interpreter: `python llamaindex_app.py URL INDEX`, with PINECONE_CONTROLLER_HOST and
PINECONE_API_KEY set. Prints a line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.pinecone import PineconeVectorStore
from pinecone import Pinecone, ServerlessSpec

NAME = sys.argv[2]
DIM = 64
TEXTS = [
    "the moon causes the tides of the sea",
    "honey is made by bees in summer",
    "rain falls from clouds over the sea",
    "gold is a metal that does not rust",
    "iron is a metal that does rust in rain",
]


def word_vector(text: str) -> list[float]:
    """The sum of a random vector for each word: texts with words in common are near."""
    total = [0.0] * DIM
    for word in text.split():
        source = random.Random(word)
        total = [number + source.gauss(0, 1) for number in total]
    return total


class WordVectors(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return word_vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return word_vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return word_vector(query)


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def equal(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def nodes() -> list[TextNode]:
    made = []
    for n, text in enumerate(TEXTS):
        source = RelatedNodeInfo(node_id=f"book{n % 2}")
        metadata = {"topic": "metal" if "metal" in text else "nature", "n": n}
        node = TextNode(id_=f"node{n}", text=text, metadata=metadata, embedding=word_vector(text))
        node.relationships[NodeRelationship.SOURCE] = source
        made.append(node)
    return made


def by_hand(store: PineconeVectorStore) -> None:
    def ask(text: str, k: int = 9, filters: MetadataFilters | None = None) -> list[str]:
        query = VectorStoreQuery(query_embedding=word_vector(text), similarity_top_k=k, filters=filters)
        return [node.node_id for node in store.query(query).nodes or []]

    added = store.add(nodes())
    check("add", added[0] == "book0#node0" and len(added) == 5)
    check("query", ask("what causes tides", 1) == ["node0"])
    result = store.query(VectorStoreQuery(query_embedding=word_vector(TEXTS[1]), similarity_top_k=1))
    node = (result.nodes or [])[0]
    check("node", node.get_content() == TEXTS[1] and node.metadata["topic"] == "nature")
    check("score", abs((result.similarities or [0])[0] - 1) < 1e-3 and len(node.embedding or []) == DIM)
    check("equal", sorted(ask("x", filters=equal("topic", "metal"))) == ["node3", "node4"])
    check("greater", sorted(ask("x", filters=equal("n", 2, FilterOperator.GT))) == ["node3", "node4"])
    check("in", sorted(ask("x", filters=equal("n", [0, 4], FilterOperator.IN))) == ["node0", "node4"])
    either = MetadataFilters(
        filters=[*equal("n", 0).filters, *equal("topic", "metal").filters], condition=FilterCondition.OR
    )
    check("or", sorted(ask("x", filters=either)) == ["node0", "node3", "node4"])
    found = store.get_nodes(filters=equal("topic", "metal"), include_values=True)
    check("get nodes", sorted(node.node_id for node in found) == ["node3", "node4"])
    store.delete("book1")
    check("delete", sorted(ask("x")) == ["node0", "node2", "node4"])
    store.delete_nodes(node_ids=["book0#node0"])
    store.delete_nodes(filters=equal("topic", "metal"))
    check("delete nodes", ask("x") == ["node2"])
    store.clear()
    check("clear", ask("x") == [])


def as_an_index(store: PineconeVectorStore) -> None:
    context, embedder = StorageContext.from_defaults(vector_store=store), WordVectors()
    documents = [Document(text=text, id_=f"text{n}") for n, text in enumerate(TEXTS)]
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedder)
    found = index.as_retriever(similarity_top_k=2).retrieve("bees and honey")
    check("retrieve", found[0].node.get_content() == TEXTS[1])
    index.delete_ref_doc("text1")
    again = VectorStoreIndex.from_vector_store(store, embed_model=embedder)
    found = again.as_retriever(similarity_top_k=5).retrieve("bees and honey")
    check("delete document", len(found) == 4 and TEXTS[1] not in [one.node.get_content() for one in found])


def main() -> None:
    client = Pinecone()
    client.create_index(
        name=NAME, dimension=DIM, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1")
    )
    by_hand(PineconeVectorStore(pinecone_index=client.Index(NAME)))
    as_an_index(PineconeVectorStore(pinecone_index=client.Index(NAME), namespace="books"))
    client.delete_index(NAME)


main()
