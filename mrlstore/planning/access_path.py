"""Chooses the access path of each group, and the effort that a query spends on it.

The effort is how far a walk goes and how many rows are re-ranked. Calibration measures it (see
`calibration_curves`); without measurements `effort` gives the defaults. An explicit ef or shortlist replaces
it. A walk costs more than a scan where a filter lets few rows pass, so few rows are scanned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mrlstore.index.group import Group
from mrlstore.types import Expected

AccessPath = Literal["walk", "filtered walk", "scan", "exact"]

DEFAULT_EF = 96
DEFAULT_SHORTLIST = 60
# Without calibration. On real embeddings the early-termination margin ends such a re-rank after about 26
# rows, as with a shortlist of 60; where the prefix says little (6 of 12 dims) recall@10 rises from 0.981 to
# 0.994.
UNMEASURED_SHORTLIST = 120
# Adaptive beam search (Al-Jazzazi et al., Distance Adaptive Beam Search, 2025): a walk ends at a candidate
# whose distance is more than 1 + BEAM_RATIO times that of the k-th best (docs/decisions/0010).
BEAM_RATIO: Final = 0.25
# An adaptive walk may keep this many times the candidates that it usually expands.
EF_PER_STEP: Final = 4
# A filtered walk is taken for lost from this ratio on: the rank of its k-th best among all rows, divided by
# the rank that it would have if rows passed at random. At random none came to 40 (docs/decisions/0011).
LOST_RATIO: Final = 40.0
# A re-rank ends at a code score that is this many standard deviations too low for the best k
# (docs/decisions/0009).
STOP_MARGIN: Final = 3.5
# Walk under a filter if allowed > 600 * sqrt(expected steps / selectivity): measured, of 100,000 rows a tenth
# is faster to scan, a fifth is faster to walk (docs/decisions/0011).
_ROWS_PER_STEP = 600
_UNFILTERED_SHARE = 0.9  # from this share of allowed rows on, a walk ignores the filter while it walks
# The least share of rows of each selectivity class; FEW holds the rest.
SELECTIVITY: Final = {"all": _UNFILTERED_SHARE, "half": 0.15, "tenth": 0.03}
FEW: Final = "few"
_MAX_SCANNED_ROWS = 2_000  # smaller groups have no graph, and scanning as many rows costs no more than a walk


@dataclass(frozen=True)
class Effort:
    """How much work a query does in every group."""

    name: str  # "default", "target", "explicit" or "calibration"
    ef: int  # most candidates that a walk keeps
    shortlist: int  # most rows re-ranked on their full vector
    path: Literal["walk", "scan", "exact"] = "walk"  # the cheapest access path that reaches the target
    target: float | None = None  # the recall to reach
    expected: Expected | None = None  # the recall that calibration measured at this effort
    remark: str = ""
    beam_ratio: float = 0.0  # adaptive-beam ratio, see BEAM_RATIO; 0: a walk ends by ef alone
    stop_margin: float = 0.0  # early-termination margin, see STOP_MARGIN; 0: the whole shortlist is re-ranked
    lost_ratio: float = 0.0  # lost-walk ratio, see LOST_RATIO; 0: no filtered walk is taken for lost
    first: int = 0  # rows listed at first, see group_search.Walk; 0: the whole shortlist
    always_walk: bool = False  # walk even where a scan is expected to be cheaper: calibration measures walks
    filtered: Mapping[str, Effort] | None = None  # by selectivity class; None: the same with a filter

    @property
    def expected_steps(self) -> float:
        """Candidates that a walk is likely to expand."""
        return self.ef / EF_PER_STEP if self.beam_ratio > 0 else self.ef

    def at(self, share: float) -> Effort:
        """The effort for a filter that lets this share of the rows pass."""
        return self if self.filtered is None else self.filtered.get(selectivity(share), self)


def selectivity(share: float) -> str:
    """The class of a filter that lets this share of a group's rows pass."""
    for name, floor in SELECTIVITY.items():
        if share >= floor:
            return name
    return FEW


def effort(k: int, ef: int | None, shortlist: int | None) -> Effort:
    """The effort for k results without calibration; an explicit ef or shortlist is used, but at least k.

    Explicit efforts end neither walks nor re-ranks early, so that more effort finds more.
    """
    if ef is None and shortlist is None:
        return Effort(
            "default", max(DEFAULT_EF, 2 * k), max(UNMEASURED_SHORTLIST, 2 * k),
            beam_ratio=BEAM_RATIO, stop_margin=STOP_MARGIN, lost_ratio=LOST_RATIO,
        )  # fmt: skip
    length = max(k, shortlist if shortlist is not None else min(ef or 0, max(DEFAULT_SHORTLIST, 2 * k)))
    breadth = max(ef if ef is not None else DEFAULT_EF, length)
    return Effort("explicit", breadth, length)


def choose(group: Group, allowed: int, effort: Effort) -> AccessPath:
    """The access path to a group of which `allowed` rows pass the filter."""
    rows = len(group.keys)
    if group.index is None or effort.path == "exact":
        return "exact"
    if effort.path == "scan" or group.index.neighbours is None or allowed <= _MAX_SCANNED_ROWS:
        return "scan"
    share = allowed / rows
    if share > _UNFILTERED_SHARE:
        return "walk"
    scan_is_cheaper = allowed < _ROWS_PER_STEP * (effort.expected_steps / share) ** 0.5
    return "scan" if scan_is_cheaper and not effort.always_walk else "filtered walk"
