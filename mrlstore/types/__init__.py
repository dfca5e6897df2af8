"""The plain data that goes in and out of the public API, and the limits on it."""

from mrlstore.types.plans import Expected, Explanation, FusedRank, HitRanks, KeywordPlan, Plan, SegmentPlan
from mrlstore.types.reports import (
    AuditStats,
    HnswlibFiles,
    Problem,
    Progress,
    RepairReport,
    Settings,
    Stats,
    VerifyReport,
)
from mrlstore.types.results import BatchResult, Facet, Hit, LazyHits, Record, Result
from mrlstore.types.values import (
    LIMITS,
    Conflict,
    GraphBuilder,
    Include,
    Limits,
    Metadata,
    Tokenizer,
    Where,
)

__all__ = [
    "AuditStats",
    "BatchResult",
    "Conflict",
    "Expected",
    "Explanation",
    "Facet",
    "FusedRank",
    "GraphBuilder",
    "Hit",
    "HitRanks",
    "HnswlibFiles",
    "Include",
    "KeywordPlan",
    "LIMITS",
    "Limits",
    "LazyHits",
    "Metadata",
    "Plan",
    "Problem",
    "Progress",
    "Record",
    "RepairReport",
    "VerifyReport",
    "Result",
    "SegmentPlan",
    "Settings",
    "Stats",
    "Tokenizer",
    "Where",
]
