"""`Index`: the methods of the data plane of Pinecone's SDK, on a store."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from mrlstore.api.store import Store
from mrlstore.checks import check_count
from mrlstore.errors import InvalidInput
from mrlstore.integrations.pinecone.filters import where_of
from mrlstore.integrations.pinecone.responses import (
    DescribeIndexStatsResponse,
    FetchByMetadataResponse,
    FetchResponse,
    ListItem,
    ListNamespacesResponse,
    ListResponse,
    NamespaceDescription,
    NamespaceSummary,
    Pagination,
    QueryResponse,
    ScoredVector,
    UpdateResponse,
    UpsertResponse,
    Vector,
)
from mrlstore.integrations.store_holder import StoreHolder
from mrlstore.types import LIMITS, Hit, Include, Record

_DEFAULT = "__default__"  # Pinecone's other name of the namespace ""
_PAGE = 100
_PANDAS_EMPTY = ("NAType", "NaTType")
_KEYS = {"id", "values", "sparse_values", "metadata"}
_ROW: tuple[Include, ...] = ("metadata", "vector")


class Index(StoreHolder):
    """A store behind the methods of a Pinecone index; the metric is cosine.

    `timeout`, `scan_factor`, `max_candidates`, `show_progress` and `max_concurrency` are accepted and not
    used. `namespace=None` is the namespace without a name. Wrong arguments raise InvalidInput, a ValueError;
    sparse vectors are refused.
    """

    def __init__(self, path_or_store: str | os.PathLike[str] | Store, **options: Any) -> None:
        """Open or create the store; `options` are what else `mrlstore.open` takes, for a path."""
        self._open(path_or_store, options)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def upsert(
        self,
        *,
        vectors: Sequence[Any],
        namespace: str | None = "",
        batch_size: int | None = None,
        show_progress: bool = True,
        max_concurrency: int = 8,
        timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> UpsertResponse:
        """Store vectors, replacing those whose id exists; all or nothing, durable when this returns.

        Each is a `Vector` (ours or the SDK's), a tuple (id, values) or (id, values, metadata), or a dict with
        these keys. `batch_size` only fills in the counts of batches.
        """
        rows = [_row(each) for each in vectors]
        ids, values, metadatas = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
        self._store.upsert(ids, values, metadatas, namespace=_space(namespace))
        if batch_size is None:
            return UpsertResponse(upserted_count=len(rows))
        if batch_size < 1:
            raise InvalidInput(f"batch_size: expected at least 1, got {batch_size}")
        batches = -(-len(rows) // batch_size)
        return UpsertResponse(
            upserted_count=len(rows),
            total_item_count=len(rows),
            total_batch_count=batches,
            successful_batch_count=batches,
        )

    def upsert_from_dataframe(
        self,
        df: Any,
        namespace: str | None = None,
        batch_size: int = 500,
        show_progress: bool = True,
        timeout: float | None = None,
        *,
        max_concurrency: int | None = None,
        total_timeout: float | None = None,
        on_error: Literal["raise", "collect"] | None = None,
    ) -> UpsertResponse:
        """Store the rows of a pandas data frame with the columns id, values and, if there, metadata.

        An empty cell of metadata (None or NaN) is a vector without; other columns are left out.
        """
        if not hasattr(df, "to_dict") or not hasattr(df, "columns"):
            raise InvalidInput(f"df: expected a pandas data frame, got {type(df).__name__}")
        missing = sorted({"id", "values"} - set(df.columns))
        if missing:
            raise InvalidInput(f"df: no column {missing[0]!r}")
        rows = df[[name for name in df.columns if name in _KEYS]].to_dict(orient="records")
        vectors = [{name: cell for name, cell in row.items() if not _is_empty(cell)} for row in rows]
        return self.upsert(vectors=vectors, namespace=namespace, batch_size=batch_size)

    def query(
        self,
        *,
        top_k: int,
        vector: Sequence[float] | None = None,
        id: str | None = None,
        namespace: str | None = "",
        filter: Mapping[str, Any] | None = None,
        include_values: bool = False,
        include_metadata: bool = False,
        sparse_vector: Any = None,
        scan_factor: float | None = None,
        max_candidates: int | None = None,
        timeout: float | None = None,
    ) -> QueryResponse:
        """The `top_k` nearest vectors to a vector, or to that of a stored id; scores are cosines.

        An id that is not stored has no matches.
        """
        _refuse_sparse(sparse_vector)
        if (vector is None) == (id is None):
            raise InvalidInput("query: give either vector or id")
        check_count(top_k, "top_k", 1, LIMITS.k)
        space, where = _space(namespace), where_of(filter)
        if id is not None:
            found = self._store.get([id], namespace=space, include=("vector",))
            if not found or found[0].vector is None:
                return QueryResponse(namespace=namespace or "")
            vector = found[0].vector.tolist()
        include: list[Include] = ["metadata"] if include_metadata else []
        if include_values:
            include.append("vector")
        hits = self._store.query(vector, top_k, where=where, namespace=space, include=include)
        return QueryResponse(matches=[_match(hit) for hit in hits], namespace=namespace or "")

    def fetch(
        self, *, ids: Sequence[str], namespace: str | None = "", timeout: float | None = None
    ) -> FetchResponse:
        """Vectors by id, with values and metadata; missing ones are left out."""
        rows = self._store.get(ids, namespace=_space(namespace), include=_ROW)
        return FetchResponse(vectors={row.id: _vector(row) for row in rows}, namespace=namespace or "")

    def fetch_by_metadata(
        self,
        *,
        filter: Mapping[str, Any],
        namespace: str | None = "",
        limit: int | None = None,
        pagination_token: str | None = None,
        timeout: float | None = None,
    ) -> FetchByMetadataResponse:
        """One page of the vectors that match, 100 unless `limit` says otherwise, in the order of ids."""
        rows, next_page = self._page(where_of(_some(filter)), namespace, None, limit, pagination_token, _ROW)
        found = {row.id: _vector(row) for row in rows}
        return FetchByMetadataResponse(vectors=found, namespace=namespace or "", pagination=next_page)

    def update(
        self,
        *,
        id: str | None = None,
        values: Sequence[float] | None = None,
        sparse_values: Any = None,
        set_metadata: Mapping[str, Any] | None = None,
        namespace: str | None = "",
        filter: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> UpdateResponse:
        """Change one vector's values and metadata by id, or the metadata of all that match a filter.

        Metadata are merged. Missing ids are skipped. With `dry_run` matches are counted and nothing changes.
        New values are written in a step of their own: a change by somebody else just then may be overwritten.
        """
        _refuse_sparse(sparse_values)
        if (id is None) == (filter is None):
            raise InvalidInput("update: give either id or filter")
        space, changes = _space(namespace), _without_nulls(set_metadata)
        if id is None:
            if values is not None:
                raise InvalidInput("update: values go by id, not by filter")
            where = where_of(_some(filter))
            if dry_run or not changes:
                return UpdateResponse(matched_records=self._store.count(where, namespace=space))
            count = self._store.update(where=where, metadatas=changes, namespace=space)
            return UpdateResponse(matched_records=count)
        if values is not None and not dry_run:
            for row in self._store.get([id], namespace=space):
                merged = {**(row.metadata or {}), **changes}
                self._store.upsert([id], [values], [merged], [row.document], namespace=space)
        elif changes and not dry_run:
            self._store.update([id], [changes], namespace=space)
        return UpdateResponse()

    def delete(
        self,
        *,
        ids: Sequence[str] | None = None,
        delete_all: bool = False,
        filter: Mapping[str, Any] | None = None,
        namespace: str | None = "",
        timeout: float | None = None,
    ) -> None:
        """Remove vectors by id, by filter, or all of a namespace; exactly one of the three."""
        if (ids is not None) + bool(delete_all) + (filter is not None) != 1:
            raise InvalidInput("delete: give exactly one of ids, delete_all and filter")
        space = _space(namespace)
        if delete_all:
            self._store.clear(space)
        elif ids is not None:
            self._store.delete(ids, namespace=space)
        else:
            self._store.delete(where=where_of(_some(filter)), namespace=space)

    def list_paginated(
        self,
        *,
        prefix: str | None = None,
        limit: int | None = None,
        pagination_token: str | None = None,
        namespace: str | None = "",
        timeout: float | None = None,
    ) -> ListResponse:
        """One page of ids, 100 unless `limit` says otherwise, in order."""
        rows, next_page = self._page(None, namespace, prefix, limit, pagination_token, ())
        return ListResponse(
            vectors=[ListItem(id=row.id) for row in rows], pagination=next_page, namespace=namespace or ""
        )

    def list(
        self,
        *,
        prefix: str | None = None,
        limit: int | None = None,
        namespace: str | None = "",
        timeout: float | None = None,
    ) -> Iterator[ListResponse]:
        """All pages of ids."""
        token: str | None = None
        while True:
            page = self.list_paginated(
                prefix=prefix, limit=limit, pagination_token=token, namespace=namespace
            )
            if page.vectors:
                yield page
            if page.pagination is None:
                return
            token = page.pagination.next

    def describe_index_stats(
        self, *, filter: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> DescribeIndexStatsResponse:
        """How many vectors there are, or match, in all and in each namespace."""
        counts, where = self._store.namespaces(), where_of(filter)
        if where is not None:
            counts = {name: self._store.count(where, namespace=name) for name in counts}
        return DescribeIndexStatsResponse(
            namespaces={
                name or _DEFAULT: NamespaceSummary(vector_count=count) for name, count in counts.items()
            },
            dimension=self._store.dim,
            total_vector_count=sum(counts.values()),
            metric="cosine",
            vector_type="dense",
        )

    def list_namespaces_paginated(
        self, *, prefix: str | None = None, limit: int | None = None, pagination_token: str | None = None
    ) -> ListNamespacesResponse:
        """One page of the namespaces, 100 unless `limit` says otherwise, in the order of their names."""
        counts = {name or _DEFAULT: count for name, count in self._store.namespaces().items()}
        names = sorted(name for name in counts if name.startswith(prefix or ""))
        behind = [name for name in names if pagination_token is None or name > pagination_token]
        page = behind[: _limit(limit)]
        return ListNamespacesResponse(
            namespaces=[NamespaceDescription(name=name, record_count=counts[name]) for name in page],
            pagination=Pagination(next=page[-1]) if len(page) < len(behind) else None,
            total_count=len(names),
        )

    def list_namespaces(
        self, *, prefix: str | None = None, limit: int | None = None
    ) -> Iterator[ListNamespacesResponse]:
        """All pages of the namespaces."""
        token: str | None = None
        while True:
            page = self.list_namespaces_paginated(prefix=prefix, limit=limit, pagination_token=token)
            if page.namespaces:
                yield page
            if page.pagination is None:
                return
            token = page.pagination.next

    def describe_namespace(self, *, name: str | None = None, **kwargs: str) -> NamespaceDescription:
        """A namespace; InvalidInput if nothing is in it."""
        name = _named(name, kwargs)
        count = self._store.count(namespace=_space(name))
        if not count:
            raise InvalidInput(f"describe_namespace: there is no namespace {name!r}")
        return NamespaceDescription(name=name or _DEFAULT, record_count=count)

    def delete_namespace(
        self, *, name: str | None = None, timeout: float | None = None, **kwargs: str
    ) -> None:
        """Remove a namespace and all that is in it."""
        self._store.clear(_space(_named(name, kwargs)))

    def _page(
        self,
        where: dict[str, Any] | None,
        namespace: str | None,
        prefix: str | None,
        limit: int | None,
        token: str | None,
        include: tuple[Include, ...],
    ) -> tuple[builtins.list[Record], Pagination | None]:
        size, space = _limit(limit), _space(namespace)
        found = self._store.scan(
            where, namespace=space, prefix=prefix, include=include, limit=size + 1, after=token
        )
        rows = builtins.list(found)
        more = Pagination(next=rows[size - 1].cursor) if len(rows) > size else None
        return rows[:size], more


def _space(namespace: str | None) -> str:
    """The store's name of a namespace: None and "__default__" are the one without a name."""
    return "" if namespace is None or namespace == _DEFAULT else namespace


def _limit(limit: int | None) -> int:
    if limit is not None and limit < 1:
        raise InvalidInput(f"limit: expected at least 1, got {limit}")
    return _PAGE if limit is None else limit


def _some(filter: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if not filter:
        raise InvalidInput("filter: an empty one would choose every vector; give conditions")
    return filter


def _named(name: str | None, others: dict[str, str]) -> str:
    """`namespace` is the older name of the argument `name`."""
    older = others.pop("namespace", None)
    if others:
        raise TypeError(f"unexpected keyword arguments: {sorted(others)}")
    if (name is None) == (older is None):
        raise InvalidInput("give name")
    return name if name is not None else str(older)


def _refuse_sparse(sparse: Any) -> None:
    if sparse is not None:
        raise InvalidInput("sparse vectors are not supported")


def _is_empty(cell: Any) -> bool:
    """Whether a cell of a frame has no value: None, NaN, or NA and NaT of pandas."""
    return cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ in _PANDAS_EMPTY


def _without_nulls(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """As Pinecone does, null values are dropped."""
    return {key: value for key, value in (metadata or {}).items() if value is not None}


def _row(item: Any) -> tuple[str, Any, dict[str, Any]]:
    """(id, values, metadata) of any of the three forms."""
    if isinstance(item, tuple):
        if len(item) not in (2, 3):
            raise InvalidInput(f"vectors: a tuple is (id, values) or (id, values, metadata), got {len(item)}")
        return item[0], item[1], _without_nulls(item[2] if len(item) == 3 else None)
    if not isinstance(item, Mapping):
        item = {name: getattr(item, name, None) for name in _KEYS}
    elif not item.keys() <= _KEYS:
        raise InvalidInput(f"vectors: unknown keys in {sorted(item)}")
    _refuse_sparse(item.get("sparse_values"))
    id, values = item.get("id"), item.get("values")
    if not isinstance(id, str) or values is None:
        raise InvalidInput(f"vectors: expected a Vector, tuple or dict with id and values, got {item!r:.80}")
    return id, values, _without_nulls(item.get("metadata"))


def _vector(row: Record) -> Vector:
    values = [] if row.vector is None else row.vector.tolist()
    return Vector(id=row.id, values=values, metadata=row.metadata or None)


def _match(hit: Hit) -> ScoredVector:
    values = [] if hit.vector is None else hit.vector.tolist()
    return ScoredVector(id=hit.id, score=hit.score, values=values, metadata=hit.metadata or None)
