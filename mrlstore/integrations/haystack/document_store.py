"""The document store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from haystack import Document, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from mrlstore.api.aio import off_loop
from mrlstore.errors import IdExists, InvalidInput
from mrlstore.integrations.haystack.documents import REST, document_of, metadata_of
from mrlstore.integrations.haystack.filters import Filters, where_of
from mrlstore.integrations.store_holder import StoreHolder
from mrlstore.types import Conflict, Include

_WHOLE: tuple[Include, ...] = ("metadata", "document", "vector")


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
        """Open the store that `to_dict` tells of."""
        return cls(**data.get("init_parameters", {}))

    def count_documents(self) -> int:
        """How many documents there are, with an embedding or without."""
        return self._store.count(namespace=self._namespace)

    count_documents_async = off_loop(count_documents)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """All documents that match, in the order of their ids."""
        found = self._store.scan(where_of(filters), namespace=self._namespace, include=_WHOLE)
        return [document_of(record) for record in found]

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
        except IdExists as error:
            raise DuplicateDocumentError(f"{error}") from error

    write_documents_async = off_loop(write_documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents; missing ones are no error."""
        self._store.delete(document_ids, namespace=self._namespace)

    delete_documents_async = off_loop(delete_documents)

    def delete_all_documents(self) -> None:
        """Remove every document of the namespace."""
        self._store.clear(self._namespace)

    delete_all_documents_async = off_loop(delete_all_documents)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that match; gives how many. An empty filter is refused."""
        return self._store.delete(where=where_of(filters), namespace=self._namespace)

    delete_by_filter_async = off_loop(delete_by_filter)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Merge `meta` into the metadata of the documents that match; None removes a key. Gives how many."""
        return self._store.update(where=where_of(filters), metadatas=meta, namespace=self._namespace)

    update_by_filter_async = off_loop(update_by_filter)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """How many documents match."""
        return self._store.count(where_of(filters), namespace=self._namespace)

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
        wanted = (search_term or "").lower()
        found = (meta.get(name) for meta in self._metas(filters))
        unique = {
            (str(value), _distinct(value)): value
            for value in found
            if value is not None and wanted in str(value).lower()
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
        return [document_of(hit, (hit.score + 1) / 2 if scale_score else hit.score) for hit in hits]

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

    def _metas(self, filters: Filters | None) -> Iterator[dict[str, Any]]:
        found = self._store.scan(where_of(filters), namespace=self._namespace, include=("metadata",))
        for record in found:
            yield {name: value for name, value in (record.metadata or {}).items() if name != REST}


def _distinct(value: Any) -> str:
    """A text that differs wherever values or their types do: 1, 1.0, "1" and True are four."""
    return repr(value)
