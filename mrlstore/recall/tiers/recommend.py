"""The recommendation of a tier report, in words."""

from __future__ import annotations

from collections.abc import Sequence

from mrlstore.recall.tiers.figures import GOAL, Tier


def recommend(tiers: Sequence[Tier], full: int) -> str:
    """Name the two-stage tier of the fewest bytes that reaches the goal, and compare it with all dims."""
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
