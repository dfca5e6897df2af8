"""The results of the Pinecone SDK's calls, as plain dataclasses of the same fields, names and defaults.

Each is read by attribute or by key, as those of the SDK are: `match.id`, `match["id"]`, `match.get("id")`.
`usage` and `response_info` describe a server, and are always None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any


class KeyedResponse:
    """A response whose fields are read by key or by attribute."""

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in {each.name for each in fields(self)}  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return (each.name for each in fields(self))  # type: ignore[arg-type]

    def get(self, key: str, default: Any = None) -> Any:
        """The field, or the default where there is none of this name."""
        return getattr(self, key) if key in self else default

    def to_dict(self) -> dict[str, Any]:
        """All fields, those inside them too, as dicts."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]


class ListedPage(KeyedResponse):
    """A response that is a sequence too, of the items of its first field."""

    def __getitem__(self, key: int | str) -> Any:
        return self._items()[key] if isinstance(key, int) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) if isinstance(key, str) else key in self._items()

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def _items(self) -> list[Any]:
        return list(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, KeyedResponse):
        return value.to_dict()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


@dataclass
class Vector(KeyedResponse):
    """A stored vector; for `upsert` and from `fetch`."""

    id: str
    values: list[float] = field(default_factory=list)
    sparse_values: None = None
    metadata: dict[str, Any] | None = None


@dataclass(kw_only=True)
class ScoredVector(KeyedResponse):
    """A match. `score` is the cosine similarity."""

    id: str
    score: float
    values: list[float] = field(default_factory=list)
    sparse_values: None = None
    metadata: dict[str, Any] | None = None


@dataclass(kw_only=True)
class UpsertResponse(KeyedResponse):
    """How many vectors were written; the counts of batches are filled where a `batch_size` was given."""

    upserted_count: int
    response_info: None = None
    total_item_count: int = 0
    failed_item_count: int = 0
    total_batch_count: int = 0
    successful_batch_count: int = 0
    failed_batch_count: int = 0
    errors: list[Any] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Always False: a batch that cannot be stored raises, and nothing of it is stored."""
        return bool(self.errors)


@dataclass(kw_only=True)
class QueryResponse(KeyedResponse):
    """Matches, best first."""

    matches: list[ScoredVector] = field(default_factory=list)
    namespace: str | None = ""
    usage: None = None
    response_info: None = None


@dataclass(kw_only=True)
class FetchResponse(KeyedResponse):
    """Vectors by id; missing ones are not in it."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    namespace: str = ""
    usage: None = None
    response_info: None = None


@dataclass(kw_only=True)
class Pagination(KeyedResponse):
    """Where the next page begins."""

    next: str | None = None


@dataclass(kw_only=True)
class FetchByMetadataResponse(KeyedResponse):
    """One page of vectors by id; `pagination` is None on the last."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    namespace: str = ""
    usage: None = None
    pagination: Pagination | None = None
    response_info: None = None


@dataclass(kw_only=True)
class UpdateResponse(KeyedResponse):
    """How many records matched, where a filter chose them."""

    matched_records: int | None = None
    response_info: None = None


@dataclass(kw_only=True)
class NamespaceSummary(KeyedResponse):
    """A namespace in the statistics."""

    vector_count: int = 0


@dataclass(kw_only=True)
class DescribeIndexStatsResponse(KeyedResponse):
    """How much there is. The namespace "" goes by the name "__default__"."""

    namespaces: dict[str, NamespaceSummary] = field(default_factory=dict)
    dimension: int | None = None
    index_fullness: float = 0.0
    total_vector_count: int = 0
    metric: str | None = None
    vector_type: str | None = None
    memory_fullness: float | None = None
    storage_fullness: float | None = None
    response_info: None = None


@dataclass(kw_only=True)
class ListItem(KeyedResponse):
    """One id."""

    id: str | None = None


@dataclass(kw_only=True)
class ListResponse(ListedPage):
    """One page of ids, in order; `pagination` is None on the last."""

    vectors: list[ListItem] = field(default_factory=list)
    pagination: Pagination | None = None
    namespace: str = ""
    usage: None = None
    response_info: None = None


@dataclass(kw_only=True)
class NamespaceDescription(KeyedResponse):
    """A namespace and how many records it has."""

    name: str = ""
    record_count: int = 0
    schema: None = None
    indexed_fields: None = None
    size_bytes: int = 0


@dataclass(kw_only=True)
class ListNamespacesResponse(ListedPage):
    """One page of namespaces; `pagination` is None on the last."""

    namespaces: list[NamespaceDescription] = field(default_factory=list)
    pagination: Pagination | None = None
    total_count: int = 0
