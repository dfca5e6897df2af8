"""LangChain: `MrlVectorStore`, a `VectorStore` on a store. Needs the extra `langchain`.

A document's `page_content` is the row's document, its `metadata` the row's metadata (JSON values), its `id`
the row's id. The asynchronous methods embed and search off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrlstore.api.store import Store
from mrlstore.checks import as_list, check_count, check_optional_count
from mrlstore.embedders.local import NoKnownWord
from mrlstore.errors import InvalidInput
from mrlstore.integrations.store_holder import StoreHolder
from mrlstore.types import LIMITS, Hit, Record, Where

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    message = "mrlstore.integrations.langchain needs langchain-core: pip install 'mrlstore[langchain]'"
    raise ImportError(message) from error

_LOG = logging.getLogger("mrlstore")


class MrlVectorStore(StoreHolder, VectorStore):
    """A LangChain vector store in one directory on disk.

    Searches take `k`, `filter=` (a dict, see docs/filters.md) and whatever else `Store.query` takes:
    `target_recall`, `exact`, `dim`, `ef`, `shortlist`, `min_score`. Scores are cosine similarities, higher is
    better. Writes are durable when they return.
    """

    def __init__(
        self,
        path_or_store: str | os.PathLike[str] | Store,
        embedding: Embeddings,
        *,
        namespace: str = "",
        **options: Any,
    ) -> None:
        """Open or create the store.

        Args:
            path_or_store: a folder for `mrlstore.open`, or a store that is open already.
            embedding: turns texts into vectors.
            namespace: the namespace all rows live in.
            options: what else `mrlstore.open` takes, for a path.
        """
        StoreHolder.__init__(self, path_or_store, namespace=namespace, **options)
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        """What turns texts into vectors."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path_or_store: str | os.PathLike[str] | Store,
        **options: Any,
    ) -> MrlVectorStore:
        """A vector store with these texts in it; the other arguments are those of the class."""
        made = cls(path_or_store, embedding, **options)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path_or_store: str | os.PathLike[str] | Store,
        **options: Any,
    ) -> MrlVectorStore:
        """`from_texts`, off the event loop."""
        made = cls(path_or_store, embedding, **options)
        await made.aadd_texts(texts, metadatas, ids=ids)
        return made

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and store texts, replacing those whose id exists; gives the ids, random where none is given.

        With `batch_size` so many texts are embedded and stored at once, each batch whole or not at all. A
        text without a word that a `LocalEmbedder` knows is stored without a vector, and logged.
        """
        batches = _batches(texts, metadatas, ids, kwargs)
        for batch in batches:
            try:
                vectors: Any = self._embedding.embed_documents(batch.texts)
            except NoKnownWord as error:
                kept = _known(batch, error)
                known = self._embedding.embed_documents(kept.texts) if kept.texts else []
                vectors = kept.vectors(known)
            self._store.upsert(batch.ids, vectors, batch.metadatas, batch.texts, namespace=self._namespace)
        return [id for batch in batches for id in batch.ids]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """`add_texts`, off the event loop."""
        batches = _batches(texts, metadatas, ids, kwargs)
        for batch in batches:
            try:
                vectors: Any = await self._embed_off_loop(batch.texts)
            except NoKnownWord as error:
                kept = _known(batch, error)
                known = await self._embed_off_loop(kept.texts) if kept.texts else []
                vectors = kept.vectors(known)
            await self._store.aupsert(
                batch.ids, vectors, batch.metadatas, batch.texts, namespace=self._namespace
            )
        return [id for batch in batches for id in batch.ids]

    async def _embed_off_loop(self, texts: list[str]) -> Any:
        """An embedder of mrlstore's own has no async methods: it embeds in a thread."""
        if hasattr(self._embedding, "aembed_documents"):
            return await self._embedding.aembed_documents(texts)
        return await asyncio.to_thread(self._embedding.embed_documents, texts)

    def delete(self, ids: list[str] | None = None, *, filter: Where | None = None, **_: Any) -> bool:
        """Remove documents by id, by filter, or both at once; without either all of the namespace."""
        if ids is None and filter is None:
            self._store.clear(self._namespace)
        else:
            self._store.delete(ids, where=filter, namespace=self._namespace)
        return True

    async def adelete(self, ids: list[str] | None = None, *, filter: Where | None = None, **_: Any) -> bool:
        """`delete`, off the event loop."""
        if ids is None and filter is None:
            await asyncio.to_thread(self._store.clear, self._namespace)
        else:
            await self._store.adelete(ids, where=filter, namespace=self._namespace)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; missing ones are skipped."""
        return [_document(record) for record in self._store.get(ids, namespace=self._namespace)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids`, off the event loop."""
        return [_document(record) for record in await self._store.aget(ids, namespace=self._namespace)]

    def similarity_search(
        self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents nearest to a text."""
        return _documents(self.similarity_search_with_score(query, k, filter, **kwargs))

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[Document]:
        """`similarity_search`, off the event loop."""
        return _documents(await self.asimilarity_search_with_score(query, k, filter, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k documents nearest to a text, and their cosine similarities."""
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, filter, **kwargs)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score`, off the event loop."""
        vector = await self._embed_query_off_loop(query)
        return await self.asimilarity_search_with_score_by_vector(vector, k, filter, **kwargs)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents nearest to a vector [dim]."""
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[Document]:
        """`similarity_search_by_vector`, off the event loop."""
        return _documents(await self.asimilarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k documents nearest to a vector [dim], and their cosine similarities."""
        return _scored(self._store.query(embedding, k, **self._query_options(filter, kwargs)))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector`, off the event loop."""
        return _scored(await self._store.aquery(embedding, k, **self._query_options(filter, kwargs)))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Of the `fetch_k` nearest documents, k that are near the query and unlike each other.

        `lambda_mult` goes from 0, the most diverse, to 1, the nearest.
        """
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`max_marginal_relevance_search`, off the event loop."""
        vector = await self._embed_query_off_loop(query)
        return await self.amax_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`max_marginal_relevance_search`, for a vector [dim]."""
        check_count(k, "k", 1, LIMITS.k)
        near = self._store.query(
            embedding, max(k, fetch_k), **self._query_options(filter, kwargs, vectors=True)
        )
        return _diverse(embedding, near, k, lambda_mult)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector`, off the event loop."""
        check_count(k, "k", 1, LIMITS.k)
        near = await self._store.aquery(
            embedding, max(k, fetch_k), **self._query_options(filter, kwargs, vectors=True)
        )
        return _diverse(embedding, near, k, lambda_mult)

    async def _embed_query_off_loop(self, query: str) -> Any:
        if hasattr(self._embedding, "aembed_query"):
            return await self._embedding.aembed_query(query)
        return await asyncio.to_thread(self._embedding.embed_query, query)

    def _query_options(
        self, filter: Where | None, others: dict[str, Any], vectors: bool = False
    ) -> dict[str, Any]:
        include = ("metadata", "document", "vector") if vectors else ("metadata", "document")
        return {"where": filter, "namespace": self._namespace, "include": include, **others}

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance


def _relevance(score: float) -> float:
    """From 0 to 1, as LangChain defines relevance."""
    return (score + 1) / 2


@dataclass(frozen=True)
class _TextBatch:
    """Texts that are embedded and stored together."""

    texts: list[str]
    metadatas: list[Any] | None
    ids: list[str]


@dataclass(frozen=True)
class _KnownTexts:
    """The texts of a batch that can be embedded, and which of all they are."""

    texts: list[str]
    is_known: list[bool]

    def vectors(self, known: Sequence[Any]) -> list[Any]:
        """A vector for each text of the batch, None for those that have none."""
        left = iter(known)
        return [next(left) if is_known else None for is_known in self.is_known]


def _batches(
    texts: Iterable[str], metadatas: Any, ids: Sequence[str | None] | None, others: dict[str, Any]
) -> list[_TextBatch]:
    """The texts in batches, with an id for each."""
    size = check_optional_count(others.pop("batch_size", None), "batch_size", 1)
    if others:
        raise InvalidInput(f"add_texts: unknown arguments {', '.join(others)}")
    documents = list(texts)
    names = [None] * len(documents) if ids is None else as_list(ids, "ids")
    for what, values in (("ids", names), ("metadatas", metadatas)):
        if values is not None and len(values) != len(documents):
            raise InvalidInput(f"{what}: {len(values)} for {len(documents)} texts")
    given = None if metadatas is None else as_list(metadatas, "metadatas")
    named = [str(uuid.uuid4()) if name is None else name for name in names]
    return [
        _TextBatch(
            documents[start : start + (size or len(documents))],
            None if given is None else given[start : start + (size or len(documents))],
            named[start : start + (size or len(documents))],
        )
        for start in range(0, len(documents), size or max(len(documents), 1))
    ]


def _known(batch: _TextBatch, error: NoKnownWord) -> _KnownTexts:
    unknown = set(error.items)
    is_known = [number not in unknown for number in range(len(batch.texts))]
    _LOG.warning("stored without a vector: %s", ", ".join(batch.ids[number] for number in sorted(unknown)))
    return _KnownTexts([text for text, known in zip(batch.texts, is_known, strict=True) if known], is_known)


def _document(row: Hit | Record) -> Document:
    return Document(page_content=row.document or "", metadata=row.metadata or {}, id=row.id)


def _documents(scored: list[tuple[Document, float]]) -> list[Document]:
    return [document for document, _ in scored]


def _scored(hits: Iterable[Hit]) -> list[tuple[Document, float]]:
    return [(_document(hit), hit.score) for hit in hits]


def _diverse(embedding: list[float], near: Sequence[Hit], k: int, lambda_mult: float) -> list[Document]:
    if not near:
        return []
    vectors = [hit.vector for hit in near]
    query = np.asarray(embedding, dtype=np.float32)
    chosen = maximal_marginal_relevance(query, vectors, lambda_mult=lambda_mult, k=k)
    return [_document(near[position]) for position in chosen]
