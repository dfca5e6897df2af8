"""The plan: for each group a way to search it, and one effort for all.

Effort is one knob: how far walks go and how much is re-ranked, by what was measured (`curves`), or by
`effort` where nothing was. An explicit ef or shortlist turns the knob off. A walk is worth its overhead only
where many rows are allowed: few are scanned.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mrlstore.index.group import Group
from mrlstore.types import Expected

Way = Literal["walk", "filtered walk", "scan", "exact"]

DEFAULT_EF = 96
DEFAULT_SHORTLIST = 60
# Where nothing was measured. Where the prefix says enough the margin ends the re-rank as early as with 60 (at
# 26 rows of real embeddings); where it says little, as 6 dims of 12, recall@10 is 0.994 instead of 0.981.
UNMEASURED_SHORTLIST = 120
SLACK: Final = 0.25  # share of the k-th best's distance by which candidates may be farther
SPARE: Final = 4  # with slack a walk may keep so many times the candidates that it usually goes through
LIFT: Final = 40.0  # times as far out as by chance, by rank, where a filtered walk is not trusted
MARGIN: Final = 3.5  # standard deviations, where the re-rank of a shortlist may end early
# Under a filter a walk is worth as many scanned rows: times the root of its expected steps, and of the rows
# per row that passes, as it goes farther the fewer pass. Of 100,000 rows a tenth is scanned, a fifth is not.
_ROWS_PER_STEP = 600
_WHOLE = 0.9  # from this share of allowed rows on a walk goes as if there were no filter
SELECTIVITY: Final = {"all": _WHOLE, "half": 0.15, "tenth": 0.03}  # share of rows from which on a class holds
FEW: Final = "few"
_SCAN_ROWS = 2_000  # a group of fewer rows has no graph, and a scan of as many costs no more than a walk


@dataclass(frozen=True)
class Effort:
    """How hard a query tries in every group."""

    name: str
    ef: int  # candidates that a walk keeps, at most
    shortlist: int  # rows re-ranked on their full vector, at most
    least: Literal["walk", "scan", "exact"] = "walk"  # wider ways, where a walk cannot reach the target
    target: float | None = None  # the recall that was asked for
    expected: Expected | None = None  # what calibration measured at this effort
    remark: str = ""
    slack: float = 0.0  # above 0 a walk ends where candidates are so much farther than the k-th, see ways.py
    margin: float = 0.0  # above 0 a re-rank ends where the rest is so many deviations too low, see ways.py
    lift: float = 0.0  # above 0 a filtered walk gives way to a scan where what passes lies far, see ways.py
    firm: bool = False  # walk even where a scan is expected to be cheaper: to measure walks
    filtered: Mapping[str, Effort] | None = None  # by selectivity class; None: the same under a filter

    @property
    def expected_steps(self) -> float:
        """Candidates that a walk is likely to go through."""
        return self.ef / SPARE if self.slack > 0 else self.ef

    def at(self, share: float) -> Effort:
        """The effort where a filter lets this share of the rows through."""
        return self if self.filtered is None else self.filtered.get(selectivity(share), self)


def selectivity(share: float) -> str:
    """The class of a filter that lets this share of a group's rows through."""
    for name, floor in SELECTIVITY.items():
        if share >= floor:
            return name
    return FEW


@functools.lru_cache(maxsize=1_000)
def effort(k: int, ef: int | None, shortlist: int | None) -> Effort:
    """The effort for k results; an explicit ef or shortlist is taken as it is, but never below k."""
    if ef is None and shortlist is None:
        return Effort(
            "default", max(DEFAULT_EF, 2 * k), max(UNMEASURED_SHORTLIST, 2 * k),
            slack=SLACK, margin=MARGIN, lift=LIFT,
        )  # fmt: skip
    wanted = max(k, shortlist if shortlist is not None else min(ef or 0, max(DEFAULT_SHORTLIST, 2 * k)))
    breadth = max(ef if ef is not None else DEFAULT_EF, wanted)
    return Effort("explicit", breadth, wanted, slack=SLACK, margin=MARGIN)


def way(group: Group, allowed: int, effort: Effort) -> Way:
    """How to search a group of which `allowed` rows may be answers."""
    rows = len(group.keys)
    if group.index is None or effort.least == "exact":
        return "exact"
    if effort.least == "scan" or group.index.neighbours is None or allowed <= _SCAN_ROWS:
        return "scan"
    share = allowed / rows
    if share > _WHOLE:
        return "walk"
    cheaper = not effort.firm and allowed < _ROWS_PER_STEP * (effort.expected_steps / share) ** 0.5
    return "scan" if cheaper else "filtered walk"
