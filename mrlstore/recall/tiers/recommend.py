"""What a tier report recommends: a length of prefix, in a sentence and in five rows, against the store as is.

One measure decides: a tier is good enough if its recall reaches GOAL. The sentence, the line in the plots and
the shaded rows of the tables all go by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mrlstore.recall.tiers.figures import GOAL, SummaryRow, Tier

_WORTH: Final = 0.9  # of the memory or the time: a change that saves less than a tenth is not worth a rebuild
_SLOWER: Final = 1.5  # times the time that a recommended prefix may take
_SAME: Final = 0.03  # ratios that differ from 1 by less are the same, in words


class Recommended(NamedTuple):
    """The length of prefix that a report recommends, and why."""

    prefix_dim: int
    sentence: str
    summary: tuple[SummaryRow, ...]


def decide(tiers: Sequence[Tier], prefix: int, full: int, k: int) -> Recommended:
    """Choose the two-stage tier of the least memory that reaches the goal, if it is worth a change.

    Args:
        tiers: all that were measured.
        prefix: the length of prefix that the store has.
        full: the length of its vectors.
        k: the number of answers that recall was measured for.
    """
    now, best, quick = _as_it_is(tiers, prefix, full), _smallest(tiers), _quickest(tiers)
    if best is None:
        chosen = _tier(tiers, "graph", full)
    elif not now.reaches_goal or _is_worth_it(best, now):
        chosen = best
    else:
        chosen = now
    rows = [("the store as it is", now), ("recommended", chosen)]
    if quick is not None and _is_quicker(quick, chosen, now):
        rows.append(("quickest", quick))
    if chosen.dim < full:
        rows.append(("the same prefix, without a re-rank", _tier(tiers, "graph", chosen.dim)))
    rows += [("all dims, exactly", _tier(tiers, "scan", full)), ("all dims", _tier(tiers, "graph", full))]
    sentence = _sentence(now, chosen, None if best is None else quick, full, k)
    return Recommended(chosen.dim, sentence, _summary(rows, now))


def _tier(tiers: Sequence[Tier], kind: str, dim: int) -> Tier:
    return next(tier for tier in tiers if tier.kind == kind and tier.dim == dim)


def _as_it_is(tiers: Sequence[Tier], prefix: int, full: int) -> Tier:
    """How the store searches now: its own prefix, with the shortest shortlist that reaches the goal."""
    if prefix >= full:
        return _tier(tiers, "graph", full)
    staged = [tier for tier in tiers if tier.kind == "two-stage" and tier.dim == prefix]
    return next((tier for tier in staged if tier.reaches_goal), max(staged, key=lambda tier: tier.recall))


def _good(tiers: Sequence[Tier]) -> list[Tier]:
    return [tier for tier in tiers if tier.kind == "two-stage" and tier.reaches_goal]


def _smallest(tiers: Sequence[Tier]) -> Tier | None:
    return min(_good(tiers), key=lambda tier: (tier.memory_bytes_per_row, tier.p50_ms), default=None)


def _quickest(tiers: Sequence[Tier]) -> Tier | None:
    return min(_good(tiers), key=lambda tier: tier.p50_ms, default=None)


def _is_worth_it(best: Tier, now: Tier) -> bool:
    """Whether changing the prefix saves a tenth of the memory, and costs not much time."""
    saves = best.memory_bytes_per_row <= _WORTH * now.memory_bytes_per_row
    return best.dim != now.dim and saves and best.p50_ms <= _SLOWER * now.p50_ms


def _is_quicker(quick: Tier, chosen: Tier, now: Tier) -> bool:
    """Whether it is quicker by a tenth than what is recommended, and than the store as it is."""
    return quick.p50_ms < _WORTH * min(chosen.p50_ms, now.p50_ms)


def _summary(rows: Sequence[tuple[str, Tier]], now: Tier) -> tuple[SummaryRow, ...]:
    """At most five rows; what is one tier is one row."""
    names: dict[str, list[str]] = {}
    for name, tier in rows:
        names.setdefault(tier.name, []).append(name)
    tiers = {tier.name: tier for _, tier in rows}
    return tuple(
        SummaryRow(
            ", ".join(names[name]),
            name,
            tier.recall,
            tier.p50_ms / now.p50_ms,
            tier.memory_bytes_per_row / now.memory_bytes_per_row,
            tier.reaches_goal,
        )
        for name, tier in list(tiers.items())[:5]
    )


def _sentence(now: Tier, chosen: Tier, quick: Tier | None, full: int, k: int) -> str:
    if not chosen.shortlist and chosen is not now:
        return (
            f"Index all {full:,} dims: no prefix reaches {GOAL:g} of the exact top {k} with a shortlist of "
            f"up to {20 * k:,} rows. Against the store as it is: {_against(chosen, now)}."
        )
    if not chosen.shortlist:
        return (
            f"Keep indexing all {full:,} dims: no shorter prefix reaches {GOAL:g} of the exact top {k} and "
            "saves a tenth of the memory."
        )
    finds = f"with {chosen.shortlist:,} rows re-ranked it finds {chosen.recall:.3f} of the exact top {k}"
    if chosen is now or chosen.dim == now.dim:
        words = f"Keep the prefix of {chosen.dim:,} dims: {finds}, and no other saves a tenth of its memory."
    else:
        words = (
            f"Index {chosen.dim:,} dims instead of {now.dim:,}: {finds}. Against the store as it is: "
            f"{_against(chosen, now)}."
        )
    if quick is not None and quick.dim != chosen.dim and _is_quicker(quick, chosen, now):
        words += (
            f" Quicker: {quick.dim:,} dims with {quick.shortlist:,} rows re-ranked, {_against(quick, now)}."
        )
    return words


def _against(tier: Tier, now: Tier) -> str:
    memory = _times(tier.memory_bytes_per_row / now.memory_bytes_per_row)
    return f"{memory} memory, {_times(tier.p50_ms / now.p50_ms)} time"


def _times(ratio: float) -> str:
    return "the same" if abs(ratio - 1) < _SAME else f"{ratio:.2g} times the"
