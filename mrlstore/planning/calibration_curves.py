"""What calibration has learned: curves of recall against effort, and the choice of an effort for a target.

A curve holds, for one k and one class of filters, the efforts that no cheaper one equals, from the cheapest
to the exact scan. `CalibrationCurves` are all curves of a store; a snapshot holds them, and they remember the
efforts they have chosen, so that a query pays one dict access. Measuring is left to `calibrate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from mrlstore.planning import access_path as plan
from mrlstore.planning import confidence as intervals
from mrlstore.planning.access_path import Effort
from mrlstore.types import LIMITS, Expected

DEFAULT_TARGET: Final = 0.99  # the recall that a query is to have that asks for nothing
CLASSES: Final = (*plan.SELECTIVITY, plan.FEW)
VERSION: Final = 5
# For high targets the least ef and shortlist, in times k, and the least slack: where stored rows alone have
# set them, and under filters, of which calibration measures one at random. Others lead farther astray, above
# all where few rows pass.
_LEAST: Final = {"all": (32, 5, 0.1), "half": (32, 5, 0.13), "tenth": (77, 6, 0.2), "few": (77, 6, 0.2)}
_EXACT_ABOVE = 0.9995  # a target beyond this is met by an exact scan alone
_SCANNED = "no walk reached the target: the codes of all rows are scanned"
_CHEAPER = "a scan of all codes is cheaper here than a walk"
_NOT_YET = "not calibrated: call calibrate(), or optimize() once there are enough rows for a graph"


@dataclass(frozen=True)
class Level:
    """One effort and the recall that it gave."""

    way: Literal["walk", "scan", "exact"]  # "scan": the codes of all rows; "exact": all rows in full
    ef: int
    shortlist: int
    slack: float  # above 0 the walk may end early, see ways.Walk
    margin: float  # above 0 the re-rank may end early, see ways.Walk
    recall: float
    trials: float  # independent trials that the recall is worth, for its interval
    error: float  # standard error of the recall
    visited: float  # mean rows whose code was scored
    reranked: float  # mean rows scored in full
    cost_us: float  # modelled, see efforts.cost_us: the same on every machine

    @property
    def interval(self) -> intervals.Interval:
        """The recall with its 95% interval; worked out when asked for, as it takes a millisecond."""
        if self.way == "exact":
            return intervals.Interval(1.0, 1.0, 1.0)
        return intervals.clopper_pearson(self.recall * self.trials, self.trials)


@dataclass(frozen=True)
class Curve:
    """Recall against effort for one k and one class of filters: levels by rising cost and rising recall."""

    k: int
    name: str  # the class
    levels: tuple[Level, ...]
    queries: int
    source: str  # "queries" or "stored rows"
    rows: int  # rows with a vector when it was measured
    mark: int  # row keys from here on are newer
    prefix_dim: int
    version: int = VERSION

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def choose(self, target: float) -> Level | None:
        """The cheapest level whose recall reaches the target by a standard error; None if only exact does."""
        if target > _EXACT_ABOVE:
            return None
        for level in self.levels:
            if level.recall - level.error >= target and level.way != "exact":
                return level
        return None


def parse(stored: Iterable[tuple[int, str, str]]) -> tuple[Curve, ...]:
    """Curves from their JSON; those of another version are left out: they are measured anew."""
    curves = []
    for _, _, text in stored:
        value: dict[str, Any] = json.loads(text)
        if value.get("version") == VERSION:
            levels = tuple(Level(**level) for level in value.pop("levels"))
            curves.append(Curve(levels=levels, **value))
    return tuple(curves)


@dataclass(frozen=True)
class CalibrationCurves:
    """All curves of a store at one generation; empty where nothing was measured."""

    curves: tuple[Curve, ...] = ()
    stored: tuple[tuple[int, str, str], ...] = ()
    _chosen: dict[tuple[int, float | None], Effort] = field(default_factory=dict, compare=False, repr=False)

    def effort(self, k: int, target: float | None) -> Effort:
        """The effort for k results at a target recall; None stands for the default target."""
        chosen = self._chosen.get((k, target))
        if chosen is None:
            if len(self._chosen) > 1_000:  # targets may come from users
                self._chosen.clear()
            chosen = self._chosen[k, target] = self._choose(k, target)
        return chosen

    def curve(self, k: int, name: str) -> Curve | None:
        """The curve to use for k: its own, or the next larger one, or else the largest there is."""
        fitting = sorted((c for c in self.curves if c.name == name), key=lambda c: c.k)
        return next((c for c in fitting if c.k >= k), fitting[-1] if fitting else None)

    def _choose(self, k: int, target: float | None) -> Effort:
        name, wanted = ("default", DEFAULT_TARGET) if target is None else ("target", target)
        if not self.curves:
            return _uncalibrated(k, target)
        by_class = {}
        for kind in CLASSES:
            curve = self.curve(k, kind)
            if curve is not None:
                by_class[kind] = _effort(name, curve, k, wanted)
        whole = by_class.get("all")
        if whole is None:
            return _uncalibrated(k, target)
        least = whole.shortlist  # the prefix says no more of rows that pass a filter
        return replace(whole, filtered={kind: _listing(own, least) for kind, own in by_class.items()})


def _listing(effort: Effort, least: int) -> Effort:
    """The same with at least so long a shortlist."""
    return replace(effort, ef=max(effort.ef, least), shortlist=max(effort.shortlist, least))


def _effort(name: str, curve: Curve, k: int, target: float) -> Effort:
    level = curve.choose(target)
    if level is None:
        remark = "" if target > _EXACT_ABOVE else (
            f"calibration reached a recall of {target:g} by an exact scan alone"
        )  # fmt: skip
        expected = Expected(1.0, 1.0, 1.0, curve.queries, curve.source, curve.k)
        return Effort(name, k, k, "exact", target, expected, remark)
    span = level.interval
    expected = Expected(level.recall, span.low, span.high, curve.queries, curve.source, curve.k)
    more = max(1.0, k / curve.k)
    remark = f"measured at k = {curve.k}, the effort raised in proportion" if k > curve.k else ""
    if level.way == "scan" and curve.name == "all":  # under a filter that is nothing out of the ordinary
        walks = any(one.way == "walk" and one.recall - one.error >= target for one in curve.levels)
        remark = "; ".join(filter(None, (remark, _CHEAPER if walks else _SCANNED)))
    least = 2 * k if k > curve.k else k  # what was not measured is given some room
    shortlist = min(max(least, int(level.shortlist * more)), LIMITS.k)
    ef, slack, lift = min(max(shortlist, int(level.ef * more)), LIMITS.k), level.slack, 0.0
    if (curve.source == "stored rows" or curve.name != "all") and target >= DEFAULT_TARGET:
        # People's questions are often farther from the rows than rows are from each other.
        times_ef, times_list, least_slack = _LEAST[curve.name]
        shortlist = max(shortlist, min(times_list * k, LIMITS.k))
        ef, slack = max(ef, min(times_ef * k, LIMITS.k)), max(slack, least_slack)
        lift = plan.LIFT if curve.name != "all" else 0.0
    way: Literal["walk", "scan"] = "scan" if level.way == "scan" else "walk"
    return Effort(name, ef, shortlist, way, target, expected, remark, slack, level.margin, lift)


def _uncalibrated(k: int, target: float | None) -> Effort:
    """Without measurements: the plan's own effort; for a target that was asked for, a wide one, or exact."""
    usual = plan.effort(k, None, None)
    if target is None:
        usual = replace(usual, target=DEFAULT_TARGET, remark=_NOT_YET)
        least = {kind: min(times_ef * k, LIMITS.k) for kind, (times_ef, _, _) in _LEAST.items()}
        filtered = {kind: replace(usual, ef=max(usual.ef, ef)) for kind, ef in least.items() if kind != "all"}
        return replace(usual, filtered=filtered)
    if target > DEFAULT_TARGET:
        return Effort("target", k, k, "exact", target, None, f"{_NOT_YET}; so this was an exact scan")
    wide = min(4 * usual.ef, LIMITS.k), min(4 * usual.shortlist, LIMITS.k)
    return Effort(
        "target", *wide, target=target, remark=f"{_NOT_YET}; so the effort was a wide one",
        slack=plan.SLACK, margin=plan.MARGIN, lift=plan.LIFT,
    )  # fmt: skip
