"""What a tier report holds: the tiers, the curves, the strata, and how they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# The share of the full accuracy that a recommended tier must reach. A tier's graph is searched with the least
# ef that finds this share of what a scan of the same dims finds.
GOAL: Final = 0.99
PROJECTED: Final = (1_000_000, 10_000_000, 100_000_000)  # rows that sizes are projected to

Kind = Literal["scan", "graph", "two-stage", "store"]


@dataclass(frozen=True)
class Tier:
    """One way to search: its recall, its speed and its bytes."""

    name: str
    kind: (
        Kind  # "scan" and "graph" use `dim` dims alone; "two-stage" re-ranks in full; "store": `query` itself
    )
    dim: int
    shortlist: int  # rows re-ranked in full; 0 where none are
    ef: int
    rows: int  # rows that it was measured on
    recall: float  # share of the exact best k at full dimension
    low: float
    high: float
    ndcg: float | None  # against relevance judgements, where they were given
    p50_ms: float
    p95_ms: float
    qps_one: float
    qps_all: float | None
    disk_bytes_per_row: float
    memory_bytes_per_row: float  # what queries touch at random: codes and links, or the scanned vectors


@dataclass(frozen=True)
class Stratum:
    """Recall of a tier over the queries of one namespace or one value of a metadata field."""

    value: str
    name: str  # of the tier
    queries: int
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class TierFigures:
    """What `tier_report` measured."""

    path: str
    k: int
    dim: int
    prefix_dim: int
    rows: int
    sample: int  # rows that graphs were built on and latencies measured on
    queries: int
    source: str  # "queries" or "stored rows"
    threads: int
    bytes_on_disk: int
    tiers: tuple[Tier, ...]
    curves: Mapping[int, tuple[tuple[int, float], ...]]  # prefix -> (shortlist, recall), by exact ranks
    recommendation: str
    warnings: tuple[str, ...] = ()
    strata: tuple[Stratum, ...] = ()
    seconds: float = 0.0

    def projected(self, tier: Tier) -> dict[int, tuple[float, float]]:
        """(bytes on disk, bytes in memory) at 1, 10 and 100 million rows."""
        return {n: (n * tier.disk_bytes_per_row, n * tier.memory_bytes_per_row) for n in PROJECTED}
