"""What a query did: its plan, its explanation, and what its keywords found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class SegmentPlan:
    """How one segment, or the tail, was searched."""

    segment: str  # the part's name, or "tail"
    rows: int  # rows of the namespace there, dead ones included
    path: Literal["walk", "filtered walk", "scan", "exact"]  # the access path
    ef: int
    shortlist: int
    visited: int  # rows whose code was looked at
    reranked: int  # rows scored on their full vector
    code_bytes: int = 0  # bytes of a row's code, which a walk or scan reads; 0 for an exact scan
    copies: int = 0  # of the re-ranked: near copies of shortlisted rows, as many as recall needs


@dataclass(frozen=True)
class Expected:
    """The recall that calibration measured at an effort, with its 95% interval."""

    recall: float
    low: float
    high: float
    queries: int
    source: str  # "stored rows", "queries" or "live questions"
    k: int  # the k it was measured at


@dataclass(frozen=True)
class HitRanks:
    """The ranks of a hit by its prefix and by its whole vector. Ranks begin at 1."""

    id: str
    rank: int  # by the whole vector: its place in the answer
    score: float
    prefix_rank: int | None  # among the rows of all shortlists; None where the row is on none
    prefix_score: float  # cosine of the prefix


@dataclass(frozen=True)
class Explanation:
    """What `query(explain=True)` says of one query."""

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
    paths: tuple[str, ...]  # the access path of each segment


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
class GroupingPlan:
    """How the hits of a query with `group_by` were found."""

    field: str
    size: int  # the most hits of a group
    searches: int  # one, unless some groups have far more similar rows than others
    rows: int  # that the searches gave


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
    grouping: GroupingPlan | None = None  # with group_by; `segments` tell of the first search

    @property
    def visited(self) -> int:
        """Rows whose code was scored, over all segments."""
        return sum(part.visited for part in self.segments)

    @property
    def reranked(self) -> int:
        """Rows scored exactly on their full vector, over all segments."""
        return sum(part.reranked for part in self.segments)
