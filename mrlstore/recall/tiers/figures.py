"""What a tier report holds: the tiers, the curves, the strata, and how they were measured."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

# The recall that a recommended tier must reach. A tier's graph is searched with the least ef that finds this
# share of what a scan of the same dims finds.
GOAL: Final = 0.99
PROJECTED: Final = (1_000_000, 10_000_000, 100_000_000)  # rows that sizes are projected to
VECTOR_FILES: Final = (".npy", ".parquet", ".pq", ".arrow", ".feather", ".ipc")  # may be measured as well

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

    @property
    def reaches_goal(self) -> bool:
        """Whether it finds enough to be recommended."""
        return self.recall >= GOAL


@dataclass(frozen=True)
class SummaryRow:
    """One of the rows that a decision needs, its cost as a multiple of that of the store as it is."""

    what: str  # "recommended", for example; several words with commas between where they are one tier
    tier: str  # its name
    recall: float
    time: float  # of a query, p50
    memory: float  # bytes of a row
    reaches_goal: bool


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
    recommendation: str  # in words
    recommended_prefix_dim: int  # the store's own, where no change is recommended
    summary: tuple[SummaryRow, ...]  # at most five rows, the first of them the store as it is
    warnings: tuple[str, ...] = ()
    strata: tuple[Stratum, ...] = ()
    seconds: float = 0.0

    def command(self, place: str) -> str:
        """The command line that does what is recommended; "" where nothing is to be done.

        place: the path of the store, or of the file of vectors that was measured.
        """
        path, dim = Path(place), self.recommended_prefix_dim
        if path.suffix.lower() in VECTOR_FILES:
            store = shlex.quote(f"{path.stem}.mrl")
            return f"mrlstore migrate {store} {shlex.quote(place)} --prefix-dim {dim}"
        if dim == self.prefix_dim:
            return ""
        return f"mrlstore set-prefix-dim {shlex.quote(place)} {dim}"

    def projected(self, tier: Tier) -> dict[int, tuple[float, float]]:
        """(bytes on disk, bytes in memory) at 1, 10 and 100 million rows."""
        return {n: (n * tier.disk_bytes_per_row, n * tier.memory_bytes_per_row) for n in PROJECTED}
