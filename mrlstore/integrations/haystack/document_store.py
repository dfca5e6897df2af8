"""`MrlDocumentStore`: documents as rows of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from haystack import Document, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from mrlstore.api.aio import off_loop
from mrlstore.checks import check_count, check_number
from mrlstore.errors import IdExists, InvalidInput
from mrlstore.integrations.haystack.documents import REST, document_of, metadata_of
from mrlstore.integrations.haystack.filters import DocumentFilter, Filters, filter_of
from mrlstore.integrations.store_holder import StoreHolder
from mrlstore.types import LIMITS, Conflict, Hit, Include, Record

_WHOLE: tuple[Include, ...] = ("metadata", "document", "vector")


class _Scored(NamedTuple):
    row: Hit | Record
    score: float  # the cosine


class MrlDocumentStore(StoreHolder):
    """A Haystack document store in one directory on disk; writes are durable when they return.

    Every method has a twin `..._async`, which works off the event loop.
    """

    def to_dict(self) -> dict[str, Any]:
        """Where the store is and how it was opened; none of its content."""
        made: dict[str, Any] = default_to_dict(
            self, path_or_store=str(self._store.path), namespace=self._namespace, **self._options
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlDocumentStore:
        """Open the store that `to_dict` describes."""
        return cls(**data.get("init_parameters", {}))

    def count_documents(self) -> int:
        """How many documents there are, with an embedding or without."""
        return self._store.count(namespace=self._namespace)

    count_documents_async = off_loop(count_documents)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """All documents that match, in the order of their ids."""
        return [document_of(record) for record in self._matching(filter_of(filters), _WHOLE)]

    filter_documents_async = off_loop(filter_documents)

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Store documents, all or none; gives how many were written.

        Args:
            documents: with an embedding or without.
            policy: for ids that exist: OVERWRITE, SKIP or FAIL; NONE means FAIL.

        Raises:
            DuplicateDocumentError: under FAIL, an id exists or is given twice.
            InvalidInput (a ValueError): something that is not a document, or can't be stored.
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
        except IdExists as error:
            raise DuplicateDocumentError(f"{error}") from error

    write_documents_async = off_loop(write_documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents; missing ones are not an error."""
        self._store.delete(document_ids, namespace=self._namespace)

    delete_documents_async = off_loop(delete_documents)

    def delete_all_documents(self) -> None:
        """Remove every document of the namespace."""
        self._store.clear(self._namespace)

    delete_all_documents_async = off_loop(delete_all_documents)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that match; gives how many. An empty filter is refused."""
        chosen = filter_of(filters)
        if chosen.test is None:
            return self._store.delete(where=chosen.where, namespace=self._namespace)
        ids = [record.id for record in self._matching(chosen, ())]
        return self._store.delete(ids, namespace=self._namespace)

    delete_by_filter_async = off_loop(delete_by_filter)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Merge `meta` into the metadata of the documents that match; None removes a key. Gives how many."""
        chosen = filter_of(filters)
        if chosen.test is None:
            return self._store.update(where=chosen.where, metadatas=meta, namespace=self._namespace)
        ids = [record.id for record in self._matching(chosen, ())]
        return self._store.update(ids, [meta] * len(ids), namespace=self._namespace)

    update_by_filter_async = off_loop(update_by_filter)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """How many documents match."""
        chosen = filter_of(filters)
        if chosen.test is None:
            return self._store.count(chosen.where, namespace=self._namespace)
        return sum(1 for _ in self._matching(chosen, ()))

    count_documents_by_filter_async = off_loop(count_documents_by_filter)

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """How many distinct values each field has among the documents that match. Reads all of them."""
        names = [name.removeprefix("meta.") for name in metadata_fields]
        seen: dict[str, set[str]] = {name: set() for name in names}
        for meta in self._metas(filters):
            for name in names:
                if meta.get(name) is not None:
                    seen[name].add(_distinct(meta[name]))
        return {name: len(values) for name, values in seen.items()}

    count_unique_metadata_by_filter_async = off_loop(count_unique_metadata_by_filter)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The type of each metadata field: boolean, int, float or keyword. Reads all documents."""
        types = {bool: "boolean", int: "int", float: "float"}
        return {
            name: {"type": types.get(type(value), "keyword")}
            for meta in self._metas(None)
            for name, value in meta.items()
            if value is not None
        }

    get_metadata_fields_info_async = off_loop(get_metadata_fields_info)

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

    get_metadata_field_min_max_async = off_loop(get_metadata_field_min_max)

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
        part = (search_term or "").lower()
        found = (meta.get(name) for meta in self._metas(filters))
        unique = {
            (str(value), _distinct(value)): value
            for value in found
            if value is not None and part in str(value).lower()
        }
        return [unique[key] for key in sorted(unique)][from_ : from_ + size], len(unique)

    get_metadata_field_unique_values_async = off_loop(get_metadata_field_unique_values)

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        **options: Any,
    ) -> list[Document]:
        """The documents nearest to an embedding [dim], best first; `top_k` is 1 or more.

        `score` is the cosine similarity, or with `scale_score` (cosine + 1) / 2. `options` go to
        `Store.query`: `target_recall`, `exact`, `dim`, `ef`, `shortlist`, `min_score`. A filter on ids or
        contents is answered exactly, by the score of every document that matches.
        """
        check_count(top_k, "top_k", 1, LIMITS.k)
        chosen = filter_of(filters)
        if chosen.test is not None:
            scored = self._scored(chosen, query_embedding, top_k, options.get("min_score"))
        else:
            hits = self._store.query(
                query_embedding,
                top_k,
                where=chosen.where,
                namespace=self._namespace,
                include=_WHOLE if return_embedding else _WHOLE[:2],
                **options,
            )
            scored = [_Scored(hit, hit.score) for hit in hits]
        return [
            document_of(one.row, (one.score + 1) / 2 if scale_score else one.score, return_embedding)
            for one in scored
        ]

    embedding_retrieval_async = off_loop(embedding_retrieval)

    def _upsert(self, documents: list[Document], on_conflict: Conflict) -> int:
        return self._store.upsert(
            [document.id for document in documents],
            [document.embedding for document in documents],
            [metadata_of(document) for document in documents],
            [document.content for document in documents],
            namespace=self._namespace,
            on_conflict=on_conflict,
        )

    def _matching(self, chosen: DocumentFilter, include: Iterable[Include]) -> Iterator[Record]:
        """The rows that match, in the order of their ids."""
        if chosen.test is None:
            return self._store.scan(chosen.where, namespace=self._namespace, include=include)
        if chosen.ids is None:
            rows = self._store.scan(namespace=self._namespace, include=_WHOLE)
        else:
            rows = iter(self._store.get(sorted(set(chosen.ids)), namespace=self._namespace, include=_WHOLE))
        return filter(chosen.test, rows)

    def _scored(
        self, chosen: DocumentFilter, embedding: list[float], top_k: int, min_score: float | None
    ) -> list[_Scored]:
        """The best of the rows that match, by the cosine of their whole vectors."""
        query = np.asarray(embedding, dtype=np.float32)
        least = None if min_score is None else check_number(min_score, "min_score")
        if query.shape != (self._store.dim or len(query),) or not np.linalg.norm(query) > 0:
            raise InvalidInput(f"query_embedding: expected [{self._store.dim}] numbers, not all zero")
        rows = [record for record in self._matching(chosen, _WHOLE) if record.vector is not None]
        if not rows:
            return []
        vectors = np.stack([record.vector for record in rows if record.vector is not None])
        scores = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [_Scored(rows[n], float(scores[n])) for n in best if least is None or scores[n] >= least]

    def _metas(self, filters: Filters | None) -> Iterator[dict[str, Any]]:
        for record in self._matching(filter_of(filters), ("metadata",)):
            yield {name: value for name, value in (record.metadata or {}).items() if name != REST}


def _distinct(value: Any) -> str:
    """A text that differs if values or their types do: 1, 1.0, "1" and True are four different ones."""
    return repr(value)
