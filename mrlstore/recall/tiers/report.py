"""What a tier report holds, and its recommendation in words. `measure` makes it, `page` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

GOAL: Final = (
    0.99  # of the full accuracy: what the recommendation aims at, and a tier's graph of its own scan
)
PROJECTED: Final = (1_000_000, 10_000_000, 100_000_000)

Kind = Literal["scan", "graph", "two-stage", "store"]


@dataclass(frozen=True)
class Tier:
    """One way to search, and what it gives and costs."""

    name: str
    kind: Kind  # "scan" and "graph" see `dim` dims alone; "two-stage" re-ranks in full; "store": as it stands
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
class TierReport:
    """What `store.tier_report` found. `save` writes it as .json, .csv, .html or .png."""

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

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        found = asdict(self)
        for plain, tier in zip(found["tiers"], self.tiers, strict=True):
            plain["projected"] = {
                str(n): {"disk_bytes": disk, "memory_bytes": memory}
                for n, (disk, memory) in self.projected(tier).items()
            }
        found["curves"] = {str(dim): [list(point) for point in curve] for dim, curve in self.curves.items()}
        return found

    def save(self, path: Any) -> None:
        """Write a .json, .csv, .html or .png file; the last two need `pip install mrlstore[report]`."""
        from mrlstore.recall.tiers import page

        page.save(self, path)


def recommend(tiers: Sequence[Tier], full: int) -> str:
    """In words: the cheapest way whose recall is that of the goal, against all dims in one graph."""
    whole = next(tier for tier in tiers if tier.kind == "graph" and tier.dim == full)
    good = [
        tier for tier in tiers if tier.kind == "two-stage" and tier.recall >= GOAL * min(whole.recall, 1.0)
    ]
    if not good:
        return (
            f"No prefix reaches {GOAL:g} of the full accuracy here: search all {full:,} dims "
            f"(prefix_dim={full}), or let queries scan."
        )
    best = min(good, key=lambda tier: (tier.memory_bytes_per_row, tier.shortlist))
    fast = min(good, key=lambda tier: (tier.p50_ms, tier.shortlist))
    scan = next(tier for tier in tiers if tier.kind == "scan" and tier.dim == full)
    words = (
        f"A {_said(best)}: {_times(best.p50_ms / scan.p50_ms)} the time and "
        f"{_times(best.memory_bytes_per_row / scan.memory_bytes_per_row)} the bytes of a scan of all "
        f"{full:,} dims, {_times(best.p50_ms / whole.p50_ms)} the time and "
        f"{_times(best.memory_bytes_per_row / whole.memory_bytes_per_row)} the bytes of a graph over them."
    )
    if fast.dim != best.dim and fast.p50_ms < 0.9 * best.p50_ms:
        words += (
            f" Quicker, with more bytes: a {_said(fast)}, in {_times(fast.p50_ms / best.p50_ms)} that time."
        )
    return words


def _said(tier: Tier) -> str:
    return (
        f"{tier.dim:,}-dim prefix with a shortlist of {tier.shortlist} gives {tier.recall:.3f} of the full "
        "accuracy"
    )


def _times(ratio: float) -> str:
    if ratio > 0.95:
        return f"{ratio:.1f} times"
    return f"1/{1 / ratio:.0f} of" if ratio < 0.1 else f"1/{1 / ratio:.1f} of"
