"""Haystack: `MrlDocumentStore`, and `MrlEmbeddingRetriever` for pipelines. Needs the extra `haystack`.

A document's `content` is the row's document, its `meta` the row's metadata, its `embedding` the row's vector;
documents without an embedding are rows without a vector. What else a document can have, a blob and a sparse
embedding, is kept in the metadata under one reserved key, and counts towards their limit of 64 KiB.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator
from typing import Any

from mrlstore.errors import InvalidInput
from mrlstore.integrations.haystack_filters import where_of
from mrlstore.integrations.opening import opened
from mrlstore.store import Store
from mrlstore.types import Conflict, Hit, Include, Record

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream, SparseEmbedding
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
except ImportError as error:
    message = "mrlstore.integrations.haystack needs haystack-ai: pip install 'mrlstore[haystack]'"
    raise ImportError(message) from error

Filters = dict[str, Any]

_REST = "_haystack"  # the reserved key
_WHOLE: tuple[Include, ...] = ("metadata", "document", "vector")


class MrlDocumentStore:
    """A Haystack document store in one directory on disk; writes are durable when they return.

    Every method has a twin `..._async`, which works off the event loop.
    """

    def __init__(
        self, path_or_store: str | os.PathLike[str] | Store, *, namespace: str = "", **options: Any
    ) -> None:
        """Open or create the store.

        Args:
            path_or_store: a folder for `mrlstore.open`, or a store that is open already.
            namespace: the namespace all rows live in.
            options: what else `mrlstore.open` takes, for a path.
        """
        self._store, self._owned = opened(path_or_store, options)
        self._namespace, self._options = namespace, options

    @property
    def store(self) -> Store:
        """The store itself, for what Haystack has no words for."""
        return self._store

    def close(self) -> None:
        """Close the store if it was opened from a path here."""
        if self._owned:
            self._store.close()

    def to_dict(self) -> dict[str, Any]:
        """Where the store is and how it was opened; none of its content."""
        made: dict[str, Any] = default_to_dict(
            self, path_or_store=str(self._store.path), namespace=self._namespace, **self._options
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlDocumentStore:
        """Open the store that `to_dict` tells of."""
        return cls(**data.get("init_parameters", {}))

    def count_documents(self) -> int:
        """How many documents there are, with an embedding or without."""
        return self._store.count(namespace=self._namespace)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """All documents that match, in the order of their ids."""
        found = self._store.scan(where_of(filters), namespace=self._namespace, include=_WHOLE)
        return [_document(record) for record in found]

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Store documents, all or none; gives how many were written.

        Args:
            documents: with an embedding or without.
            policy: for ids that exist: OVERWRITE, SKIP or FAIL; NONE means FAIL.

        Raises:
            DuplicateDocumentError: under FAIL, an id exists or is given twice.
            InvalidInput (a ValueError): something that is no document, or can't be stored.
        """
        given: Any = documents
        if not isinstance(given, list) or not all(isinstance(item, Document) for item in given):
            raise InvalidInput("write_documents: expected a list of Documents")
        if policy == DuplicatePolicy.OVERWRITE:
            self._upsert(documents, "replace")
            return len(documents)
        chosen = list({document.id: document for document in reversed(documents)}.values())[::-1]
        if policy == DuplicatePolicy.SKIP:
            return self._upsert(chosen, "skip")
        if len(chosen) < len(documents):
            raise DuplicateDocumentError("an id is given twice; nothing was written")
        try:
            return self._upsert(chosen, "error")
        except InvalidInput as error:
            there = self._store.get([item.id for item in chosen], namespace=self._namespace, include=())
            if there:
                raise DuplicateDocumentError(f"{error}") from error
            raise

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents; missing ones are no error."""
        self._store.delete(document_ids, namespace=self._namespace)

    def delete_all_documents(self) -> None:
        """Remove every document of the namespace."""
        self._store.clear(self._namespace)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that match; gives how many. An empty filter is refused."""
        return self._store.delete(where=where_of(filters), namespace=self._namespace)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Merge `meta` into the metadata of the documents that match; None removes a key. Gives how many."""
        return self._store.update(where=where_of(filters), metadatas=meta, namespace=self._namespace)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """How many documents match."""
        return self._store.count(where_of(filters), namespace=self._namespace)

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """How many distinct values each field has among the documents that match. Reads all of them."""
        names = [name.removeprefix("meta.") for name in metadata_fields]
        seen: dict[str, set[str]] = {name: set() for name in names}
        for meta in self._metas(filters):
            for name in names:
                if meta.get(name) is not None:
                    seen[name].add(_distinct(meta[name]))
        return {name: len(values) for name, values in seen.items()}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The type of each metadata field: boolean, int, float or keyword. Reads all documents."""
        types = {bool: "boolean", int: "int", float: "float"}
        return {
            name: {"type": types.get(type(value), "keyword")}
            for meta in self._metas(None)
            for name, value in meta.items()
            if value is not None
        }

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value of a field: {"min": ..., "max": ...}. Reads all documents.

        Both are None where there are no values, or values of types that have no common order.
        """
        name = metadata_field.removeprefix("meta.")
        found = (meta.get(name) for meta in self._metas(None))
        values = [value for value in found if isinstance(value, int | float | str)]
        try:
            return {"min": min(values, default=None), "max": max(values, default=None)}
        except TypeError:
            return {"min": None, "max": None}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """One page of the distinct values of a field, and how many there are. Reads all that match.

        `search_term` keeps values that contain it, upper and lower case alike.
        """
        name = metadata_field.removeprefix("meta.")
        wanted = (search_term or "").lower()
        found = (meta.get(name) for meta in self._metas(filters))
        unique = {
            (str(value), _distinct(value)): value
            for value in found
            if value is not None and wanted in str(value).lower()
        }
        return [unique[key] for key in sorted(unique)][from_ : from_ + size], len(unique)

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        **options: Any,
    ) -> list[Document]:
        """The documents nearest to an embedding [dim], best first.

        `score` is the cosine similarity, or with `scale_score` (cosine + 1) / 2. `options` go to
        `Store.query`: `target_recall`, `exact`, `dim`, `ef`, `shortlist`, `min_score`.
        """
        if top_k == 0:
            return []
        hits = self._store.query(
            query_embedding,
            top_k,
            where=where_of(filters),
            namespace=self._namespace,
            include=_WHOLE if return_embedding else _WHOLE[:2],
            **options,
        )
        return [_document(hit, (hit.score + 1) / 2 if scale_score else hit.score) for hit in hits]

    async def count_documents_async(self) -> int:
        """`count_documents`, off the event loop."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: Filters | None = None) -> list[Document]:
        """`filter_documents`, off the event loop."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents`, off the event loop."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """`delete_documents`, off the event loop."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """`delete_all_documents`, off the event loop."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: Filters) -> int:
        """`delete_by_filter`, off the event loop."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: Filters, meta: dict[str, Any]) -> int:
        """`update_by_filter`, off the event loop."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: Filters) -> int:
        """`count_documents_by_filter`, off the event loop."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: Filters, metadata_fields: list[str]
    ) -> dict[str, int]:
        """`count_unique_metadata_by_filter`, off the event loop."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """`get_metadata_fields_info`, off the event loop."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """`get_metadata_field_min_max`, off the event loop."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """`get_metadata_field_unique_values`, off the event loop."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )

    async def embedding_retrieval_async(
        self, query_embedding: list[float], **arguments: Any
    ) -> list[Document]:
        """`embedding_retrieval`, off the event loop."""
        return await asyncio.to_thread(self.embedding_retrieval, query_embedding, **arguments)

    def _upsert(self, documents: list[Document], on_conflict: Conflict) -> int:
        return self._store.upsert(
            [document.id for document in documents],
            [document.embedding for document in documents],
            [_metadata(document) for document in documents],
            [document.content for document in documents],
            namespace=self._namespace,
            on_conflict=on_conflict,
        )

    def _metas(self, filters: Filters | None) -> Iterator[dict[str, Any]]:
        found = self._store.scan(where_of(filters), namespace=self._namespace, include=("metadata",))
        for record in found:
            yield {name: value for name, value in (record.metadata or {}).items() if name != _REST}


@component
class MrlEmbeddingRetriever:
    """Gives a pipeline the documents of an `MrlDocumentStore` that are nearest to an embedding."""

    def __init__(
        self,
        document_store: MrlDocumentStore,
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Set what a run uses unless it says otherwise.

        Args:
            document_store: where to search.
            filters: which documents count.
            top_k: how many, at least 1.
            scale_score: scores are (cosine + 1) / 2, from 0 to 1, instead of cosines.
            return_embedding: the documents carry their embeddings.
            filter_policy: a run's filters replace these, or are merged with them.
        """
        if not isinstance(document_store, MrlDocumentStore):
            raise InvalidInput("document_store: expected an MrlDocumentStore")
        if top_k <= 0:
            raise InvalidInput(f"top_k: expected at least 1, got {top_k}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.scale_score, self.return_embedding = scale_score, return_embedding
        self.filter_policy = (
            FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        )

    def to_dict(self) -> dict[str, Any]:
        """The component as plain data, for a pipeline's own."""
        made: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            scale_score=self.scale_score,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlEmbeddingRetriever:
        """The component that `to_dict` tells of."""
        made: MrlEmbeddingRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """The documents nearest to an embedding [dim], best first."""
        terms = self._terms(filters, top_k, scale_score, return_embedding)
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **terms)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """`run`, off the event loop."""
        terms = self._terms(filters, top_k, scale_score, return_embedding)
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, **terms)}

    def _terms(
        self,
        filters: Filters | None,
        top_k: int | None,
        scale_score: bool | None,
        return_embedding: bool | None,
    ) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "scale_score": self.scale_score if scale_score is None else scale_score,
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
        }


def _metadata(document: Document) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if document.blob is not None:
        data = base64.b64encode(document.blob.data).decode()
        rest["blob"] = {"data": data, "meta": document.blob.meta, "mime_type": document.blob.mime_type}
    if document.sparse_embedding is not None:
        rest["sparse_embedding"] = document.sparse_embedding.to_dict()
    if _REST in document.meta:
        raise InvalidInput(f"{document.id!r}: the metadata key {_REST!r} is reserved")
    return {**document.meta, _REST: rest} if rest else document.meta


def _document(row: Hit | Record, score: float | None = None) -> Document:
    meta = dict(row.metadata or {})
    rest = meta.pop(_REST, {})
    blob, sparse = rest.get("blob"), rest.get("sparse_embedding")
    return Document(
        id=row.id,
        content=row.document,
        blob=ByteStream(**{**blob, "data": base64.b64decode(blob["data"])}) if blob else None,
        meta=meta,
        score=score,
        embedding=None if row.vector is None else row.vector.tolist(),
        sparse_embedding=SparseEmbedding.from_dict(sparse) if sparse else None,
    )


def _distinct(value: Any) -> str:
    """A text that differs wherever values or their types do: 1, 1.0, "1" and True are four."""
    return repr(value)
