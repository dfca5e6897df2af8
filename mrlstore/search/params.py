"""What a caller asks of a query, checked: which rows, how hard to look for them, and what hits carry."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

from mrlstore.types import Namespaces
from mrlstore.where import Node


class Projection(NamedTuple):
    """What a hit or a record carries beside its id and score."""

    metadata: bool = False
    document: bool = False
    vector: bool = False


NOTHING: Final = Projection()


class Selection(NamedTuple):
    """Which rows of a namespace a call is about: those that meet everything that is given."""

    ids: list[str] | None = None
    node: Node | None = None
    prefix: str | None = None  # of the ids
    limit: int | None = None  # the first so many
    after: tuple[str, str] | None = None  # those behind this (namespace, id)


class QueryParams(NamedTuple):
    """A checked query without its vector; passed whole from `Store.query` down to the searcher."""

    k: int
    namespace: Namespaces
    projection: Projection = NOTHING
    min_score: float | None = None  # hits with a lower cosine similarity are left out
    target_recall: float | None = None
    shortlist: int | None = None
    ef: int | None = None
    exact: bool = False
    dim: int | None = None  # score by the cosine of the first `dim` dimensions
    explain: bool = False
    where: Node | None = None  # the last field: see key

    def filtered(self, where: Node | None) -> QueryParams:
        """The same query under a filter. `_replace` takes twice the time."""
        return QueryParams._make((*self[:-1], where))

    @property
    def key(self) -> Hashable:
        """Equal for equal queries. A filter counts by its canonical text, which is hashed only once."""
        return self if self.where is None else (*self[:-1], self.where.key)

    @property
    def by_codes(self) -> bool:
        """Whether codes may choose the rows that are scored in full; if not, all rows are."""
        return not self.exact and self.dim is None
