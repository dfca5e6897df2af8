"""The plan: for each group a way to search it, and one effort for all.

Effort is one knob. `Effort.default` is what a query gets that asks for nothing; an explicit ef or shortlist
turns the knob off. A walk is worth its overhead only where many rows are allowed: few are scanned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mrlstore.group import Group

Way = Literal["walk", "filtered walk", "scan", "exact"]

DEFAULT_EF = 96
DEFAULT_SHORTLIST = 60
# A walk visits about this many rows for each candidate that it keeps, and each costs it twice a scanned row.
_VISITS_PER_CANDIDATE = 24
_WHOLE = 0.9  # from this share of allowed rows on a walk goes as if there were no filter
_SCAN_ROWS = 2_000  # a group of fewer rows has no graph, and a scan of as many costs no more than a walk


@dataclass(frozen=True)
class Effort:
    """How hard a query tries in every group."""

    name: str
    ef: int  # candidates that a walk keeps
    shortlist: int  # rows re-ranked on their full vector


def effort(k: int, ef: int | None, shortlist: int | None) -> Effort:
    """The effort for k results; an explicit ef or shortlist is taken as it is, but never below k."""
    if ef is None and shortlist is None:
        return Effort("default", max(DEFAULT_EF, 2 * k), max(DEFAULT_SHORTLIST, 2 * k))
    wanted = max(k, shortlist if shortlist is not None else min(ef or 0, max(DEFAULT_SHORTLIST, 2 * k)))
    return Effort("explicit", max(ef if ef is not None else DEFAULT_EF, wanted), wanted)


def way(group: Group, allowed: int, effort: Effort) -> Way:
    """How to search a group of which `allowed` rows may be answers."""
    rows = len(group.keys)
    if group.index is None:
        return "exact"
    if group.index.neighbours is None or allowed <= _SCAN_ROWS:
        return "scan"
    share = allowed / rows
    if share > _WHOLE:
        return "walk"
    return "scan" if allowed < 2 * _VISITS_PER_CANDIDATE * effort.ef / share else "filtered walk"
