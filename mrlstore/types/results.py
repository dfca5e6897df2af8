"""What comes out of a store: hits, results and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import NamedTuple, Protocol, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from mrlstore.types import html
from mrlstore.types.plans import Plan
from mrlstore.types.values import Metadata


class Written(int):
    """How many rows a write has stored, changed or removed: an int that also tells the generation.

    `generation` is the one that the write has committed. A reader that sees it, or a later one, sees the
    write: compare it with `Store.generation` of any process, or with `Result.plan.generation`.
    """

    generation: int

    def __new__(cls, rows: int, generation: int) -> Self:
        """Make one of a number of rows."""
        written = super().__new__(cls, rows)
        written.generation = generation
        return written

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.generation


class Hit(NamedTuple):
    """One row of an answer. `score` is the cosine similarity, higher is better.

    Of a query with keywords it is the fused score, or with keywords alone the BM25 score.
    """

    id: str
    score: float
    metadata: Metadata | None = None
    document: str | None = None
    vector: NDArray[np.float32] | None = None  # float32 [dim], of the original length
    namespace: str = ""


_new_hit = cast("Callable[[tuple[object, ...]], Hit]", partial(tuple.__new__, Hit))


def made_hits(
    ids: Iterable[str],
    scores: Iterable[float],
    metadata: Iterable[Metadata | None],
    documents: Iterable[str | None],
    vectors: Iterable[NDArray[np.float32] | None],
    namespaces: Iterable[str],
) -> list[Hit]:
    """Hits of these, each in its order; there may be more than ids. `Hit(...)` takes twice as long."""
    return list(map(_new_hit, zip(ids, scores, metadata, documents, vectors, namespaces, strict=False)))


class HitGroup(NamedTuple):
    """The hits of one group of a query with `group_by`: the value of the field, and the hits, best first."""

    value: None | bool | int | float | str
    hits: list[Hit]


class Result(Sequence[Hit]):
    """The answer to one query: hits, best first. What is not asked for is not made."""

    __slots__ = ("_groups", "_hits", "_ids", "_make_hits", "_namespaces", "_plan", "_scores")

    def __init__(
        self,
        ids: list[str],
        scores: NDArray[np.float32],
        plan: Plan | Callable[[], Plan],
        hits: list[Hit] | Callable[[], list[Hit]] | None = None,
        groups: list[HitGroup] | None = None,
        namespaces: str | list[str] = "",
    ) -> None:
        self._ids, self._scores, self._plan, self._groups = ids, scores, plan, groups
        self._hits = hits if isinstance(hits, list) else None
        self._make_hits = hits if callable(hits) else None
        self._namespaces = namespaces  # of hits that are still to be made; a string is that of all

    @property
    def ids(self) -> list[str]:
        """The hits' ids, best first."""
        return self._ids

    @property
    def hits(self) -> list[Hit]:
        """The hits, best first."""
        if self._hits is None:
            self._hits = self._plain_hits() if self._make_hits is None else self._make_hits()
        return self._hits

    def _plain_hits(self) -> list[Hit]:
        """Hits without metadata, documents and vectors."""
        none, names = repeat(None), self._namespaces
        return made_hits(
            self.ids,
            self._scores.tolist(),
            none,
            none,
            none,
            repeat(names) if isinstance(names, str) else names,
        )

    @property
    def plan(self) -> Plan:
        """What the query did."""
        if not isinstance(self._plan, Plan):
            self._plan = self._plan()
        return self._plan

    @property
    def scores(self) -> NDArray[np.float32]:
        """The scores, float32 [len(self)], best first."""
        return self._scores

    @property
    def groups(self) -> list[HitGroup]:
        """With `group_by` the groups, that with the best hit first; otherwise none."""
        return self._groups or []

    def __len__(self) -> int:
        return len(self._scores)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...

    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        return f"Result({self.hits!r})"

    def _repr_html_(self) -> str:
        """The hits as a table, in notebooks."""
        heads = ("rank", "score", "id", "namespace", "metadata", "document")
        rows = [
            (rank, hit.score, hit.id, hit.namespace, hit.metadata, hit.document)
            for rank, hit in enumerate(self.hits, 1)
        ]
        used = [place for place in range(len(heads)) if place < 3 or any(row[place] for row in rows)]
        title = f"{len(rows)} hit{'s' * (len(rows) != 1)}"
        return html.table(title, [heads[at] for at in used], [[row[at] for at in used] for row in rows])


class LazyHits(Protocol):
    """The answers to some of a batch's queries, in their order; made when they are asked for."""

    def ids(self) -> list[list[str]]:
        """For each query the hits' ids."""

    def scores(self) -> list[NDArray[np.float32]]:
        """For each query the hits' scores."""

    def results(self) -> list[Result]:
        """For each query its result."""


class BatchResult(Sequence[Result]):
    """The answers to a batch of queries, in their order. What is not asked for is not made."""

    __slots__ = ("_ids", "_results", "_runs", "k")

    def __init__(self, runs: Sequence[LazyHits], k: int) -> None:
        self._runs, self.k = runs, k
        self._ids: list[list[str]] | None = None
        self._results: list[Result] | None = None

    @property
    def ids(self) -> list[list[str]]:
        """One list of ids for each query, best first."""
        if self._ids is None:
            self._ids = [ids for run in self._runs for ids in run.ids()]
        return self._ids

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 [queries, k]; NaN where a query has fewer than k hits."""
        scores = [some for run in self._runs for some in run.scores()]
        padded = np.full((len(scores), self.k), np.nan, dtype=np.float32)
        for row, some in zip(padded, scores, strict=True):
            row[: len(some)] = some
        return padded

    @property
    def results(self) -> list[Result]:
        """One result for each query."""
        if self._results is None:
            self._results = [result for run in self._runs for result in run.results()]
        return self._results

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        return self.results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __repr__(self) -> str:
        return f"BatchResult({self.results!r})"


@dataclass(frozen=True, slots=True)
class Record:
    """One stored row, as `get` and `scan` give it. `cursor` goes into `scan(after=...)`."""

    id: str
    namespace: str
    metadata: Metadata | None = None
    document: str | None = None
    vector: NDArray[np.float32] | None = None  # float32 [dim], of the original length
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Facet:
    """A value of a metadata field, and how many rows have it, by itself or in a list."""

    value: None | bool | int | float | str
    count: int


class DuplicateGroup(NamedTuple):
    """Rows whose vectors are nearly equal, as `Store.duplicates` finds them.

    `representative` stands for the group: of its rows the first by (namespace, id). `duplicates` are the
    others, the most similar first; their `score` is the cosine similarity with the representative.
    """

    representative: Record
    duplicates: list[Hit]
