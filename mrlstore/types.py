"""The plain data that goes in and out of the public API, and the limits on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

Metadata = dict[str, Any]
Where = Mapping[str, Any]
Include = Literal["metadata", "document", "vector"]
Conflict = Literal["replace", "skip", "error"]
Tokenizer = Literal["unicode61", "porter", "trigram"]


@dataclass(frozen=True)
class Limits:
    """What one row, one query and one store may hold at most."""

    min_dim: int = 2
    max_dim: int = 8192
    id_bytes: int = 1024
    namespace_bytes: int = 256
    metadata_bytes: int = 64 * 1024
    metadata_depth: int = 32
    document_bytes: int = 16 * 1024 * 1024
    k: int = 10_000
    keywords: int = 1_000  # different words and phrases of one query


LIMITS: Final = Limits()


@dataclass(frozen=True)
class Settings:
    """What a store was created with; kept in its catalogue."""

    store_uuid: str
    format_version: int
    dim: int | None
    prefix_dim: int | None
    m: int
    ef_construction: int
    tokenizer: Tokenizer | None  # how documents are cut into words; None: a store of before keywords


class Hit(NamedTuple):
    """One row of an answer. `score` is the cosine similarity, higher is better.

    Of a query with keywords it is the fused score, or with keywords alone the BM25 score.
    """

    id: str
    score: float
    metadata: Metadata | None = None
    document: str | None = None
    vector: NDArray[np.float32] | None = None  # float32 [dim], of the original length


@dataclass(frozen=True)
class SegmentPlan:
    """How one segment, or the tail, was searched."""

    segment: str  # the part's name, or "tail"
    rows: int  # rows of the namespace there, dead ones included
    way: Literal["walk", "filtered walk", "scan", "exact"]
    ef: int
    shortlist: int
    visited: int  # rows whose code was looked at
    reranked: int  # rows scored on their full vector
    code_bytes: int = 0  # bytes of a row's code, which a walk or scan reads; 0 for an exact scan


@dataclass(frozen=True)
class Expected:
    """The recall that calibration measured at an effort, with its 95% interval."""

    recall: float
    low: float
    high: float
    queries: int
    source: str  # "stored rows" or "queries"
    k: int  # the k it was measured at


@dataclass(frozen=True)
class HitRanks:
    """Where a hit stood by its prefix, and where by its whole vector. Ranks begin at 1."""

    id: str
    rank: int  # by the whole vector: its place in the answer
    score: float
    prefix_rank: int | None  # among the rows of all shortlists; None where no shortlist was made
    prefix_score: float  # cosine of the prefix


@dataclass(frozen=True)
class Explanation:
    """What `query(explain=True)` tells of one query."""

    hits: tuple[HitRanks, ...]
    from_beyond_k: int  # hits that are not among the best k by prefix: what the re-rank brought
    kth_score: float | None  # of the last hit
    hidden_score: float | None  # ESTIMATE of the best score a row beyond the shortlist's edge could have
    margin: float | None  # kth_score - hidden_score; below zero something may have been missed
    warnings: tuple[str, ...]
    visited: int  # rows whose code was looked at
    reranked: int  # rows scored in full
    absent_pages: int | None  # pages of shortlisted rows that were not in memory; None where unknown
    microseconds: Mapping[str, float]  # by stage: filter, first stage, re-rank, hydrate, other
    matching: int | None  # rows that pass the filter
    ways: tuple[str, ...]  # how each segment was searched


@dataclass(frozen=True)
class FusedRank:
    """Where a hit of a query with keywords stood in both lists. Ranks begin at 1; None: not in that list."""

    id: str
    rank: int  # its place in the answer
    score: float
    vector_rank: int | None
    cosine: float | None
    keyword_rank: int | None
    bm25: float | None


@dataclass(frozen=True)
class KeywordPlan:
    """What a query did with its keywords."""

    searched: tuple[str, ...]  # the words and phrases that were looked for
    ignored: tuple[str, ...]  # those that stand in more than half of the documents
    listed: int  # rows in the keywords' list
    depth: int  # rows that each list may have
    weights: tuple[float, float] | None  # of vectors and of keywords; None with keywords alone
    hits: tuple[FusedRank, ...]


@dataclass(frozen=True)
class Plan:
    """What a query did: one entry for each segment, and the generation it saw."""

    generation: int
    effort: str  # "default", "target" (target_recall was given), "explicit", "exact"; "keywords": no vectors
    segments: tuple[SegmentPlan, ...]
    matching: int | None = None  # rows that pass the filter, where one was given
    seconds: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None  # the recall that the effort was chosen for
    expected: Expected | None = None  # None where nothing was calibrated, or ef or shortlist was given
    remark: str = ""  # what the caller should know of the choice, in words
    explanation: Explanation | None = None  # with explain=True
    keywords: KeywordPlan | None = None  # with keywords

    @property
    def visited(self) -> int:
        """Rows whose code was scored, over all segments."""
        return sum(part.visited for part in self.segments)

    @property
    def reranked(self) -> int:
        """Rows scored exactly on their full vector, over all segments."""
        return sum(part.reranked for part in self.segments)


class Result(Sequence[Hit]):
    """The answer to one query: hits, best first. What is not asked for is not made."""

    __slots__ = ("_hits", "_ids", "_plan", "_scores")

    def __init__(
        self,
        ids: list[str] | Callable[[], list[str]],
        scores: NDArray[np.float32],
        plan: Plan | Callable[[], Plan],
        hits: list[Hit] | None = None,
    ) -> None:
        self._ids, self._scores, self._plan, self._hits = ids, scores, plan, hits

    @property
    def ids(self) -> list[str]:
        """The hits' ids, best first."""
        if not isinstance(self._ids, list):
            self._ids = self._ids()
        return self._ids

    @property
    def hits(self) -> list[Hit]:
        """The hits, best first."""
        if self._hits is None:
            self._hits = list(map(Hit, self.ids, self._scores.tolist()))
        return self._hits

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


class Answered(Protocol):
    """The answers to some of a batch's queries, in their order."""

    def ids(self) -> list[list[str]]:
        """For each query the hits' ids."""

    def scores(self) -> list[NDArray[np.float32]]:
        """For each query the hits' scores."""

    def results(self) -> list[Result]:
        """For each query all of it."""


class Made(NamedTuple):
    """Answers of which everything has been made."""

    made: list[Result]

    def ids(self) -> list[list[str]]:
        """See Answered."""
        return [result.ids for result in self.made]

    def scores(self) -> list[NDArray[np.float32]]:
        """See Answered."""
        return [result.scores for result in self.made]

    def results(self) -> list[Result]:
        """See Answered."""
        return self.made


class BatchResult(Sequence[Result]):
    """The answers to a batch of queries, in their order. What is not asked for is not made."""

    __slots__ = ("_ids", "_results", "_runs", "k")

    def __init__(self, runs: Sequence[Answered], k: int) -> None:
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


@dataclass(frozen=True)
class Audited:
    """What the audit saw of the last queries for one k: recall with its 95% Clopper-Pearson interval."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    let_go: int  # queries that were drawn, of any k, but not checked, to bound the cost


@dataclass(frozen=True)
class Stats:
    """The state of a store at one generation."""

    path: str
    rows: int
    rows_without_vector: int
    namespaces: int
    dim: int | None
    prefix_dim: int | None
    generation: int
    tail_rows: int
    segments: int
    flat_segments: int  # segments that have no graph yet: scanned
    indexed_rows: int
    dead_rows: int  # replaced or deleted rows that segments still hold
    damaged_parts: int
    bytes_on_disk: int
    bytes_reclaimable: int  # an estimate of what optimize() gives back
    bytes_wal: int
    bytes_by_kind: Mapping[str, int]  # catalogue, base, index, columns, other
    audit: tuple[Audited, ...] = ()  # one for each k, where `audit` is on in this process


@dataclass(frozen=True)
class Problem:
    """One thing that `verify` found: where, what, and what to do about it."""

    path: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """What `verify` found. `ok` is true when nothing is wrong."""

    ok: bool
    problems: tuple[Problem, ...]
    rows: int
    parts: int
    bytes_checked: int


@dataclass(frozen=True)
class Repaired:
    """What `repair` did. `ok` is true when nothing is wrong any more, as `report` tells."""

    ok: bool
    segments: int  # how many had damage
    lost: tuple[
        tuple[str, str], ...
    ]  # (namespace, id) of rows that lost their vector; the rest of them is kept
    set_aside: tuple[str, ...]  # where the damaged folders are now
    report: Report


@dataclass(frozen=True)
class Progress:
    """One call of a `progress=` callback: `done` of `total` units of `phase`."""

    phase: str
    done: int
    total: int
