"""What calibration has measured: curves of recall against effort, and the effort chosen for a target recall.

A curve belongs to one k and one selectivity class. It holds the levels of effort that no cheaper level equals
in recall, from the cheapest to the exact scan. `CalibrationCurves` are all curves of a store; a snapshot
holds them. They remember the efforts that they have chosen, so that a query pays one dict access.
`mrlstore.recall` measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, get_args

from mrlstore.planning import access_path, confidence
from mrlstore.planning.access_path import Effort
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.types import LIMITS, Expected

DEFAULT_TARGET: Final = 0.99  # the target recall of a query that names none
CLASSES: Final = (*access_path.SELECTIVITY, access_path.FEW)
SOURCES: Final = ("queries", "stored rows", "live questions")
MOST_EARLIER: Final = 4  # marks of earlier calibrations that a curve keeps
VERSION: Final = 8  # of the stored JSON
_EXACT_ABOVE = 0.9995  # only an exact scan meets a higher target
_MAX_CHOICES = 1_000  # efforts remembered: targets may come from users
_SCANNED = "no walk reached the target: the codes of all rows are scanned"
_CHEAPER = "a scan of all codes is cheaper here than a walk"
_NOT_YET = "not calibrated: call calibrate(), or optimize() once there are enough rows for a graph"
_STORED_NAMES = {
    "path": "way",
    "beam_ratio": "slack",
    "stop_margin": "margin",
}  # of fields of a Level, on disk

MeasuredPath = Literal["walk", "scan", "exact"]


class _Floor(NamedTuple):
    """The least effort for a high target."""

    ef: int  # times k
    shortlist: int  # times k
    beam_ratio: float


# Floors for targets of 0.99 and above: stored rows underestimate real queries, most where few rows pass. Real
# queries are often farther from the rows than rows are from each other.
_FLOORS: Final = {
    "all": _Floor(32, 5, 0.1),
    "half": _Floor(32, 6, 0.13),
    "tenth": _Floor(77, 6, 0.2),
    "few": _Floor(77, 6, 0.2),
}
# Floors of the stop margin, as (target, margin): a few hundred questions show hardly a miss.
_MARGINS: Final = ((0.995, 4.0), (0.99, 3.0), (0.9, 2.0))


@dataclass(frozen=True)
class Level:
    """One effort and the recall that was measured at it."""

    path: MeasuredPath  # "scan": the codes of all rows; "exact": the full vectors of all rows
    ef: int
    shortlist: int
    first: int  # see access_path.Effort
    beam_ratio: float  # see access_path.Effort
    stop_margin: float  # see access_path.Effort
    recall: float
    trials: float  # independent trials that the recall is worth, see confidence.effective_trials
    error: float  # standard error of the recall
    lowest: float  # recall that no kind of questions falls short of, chance apart
    visited: float  # mean rows whose code was scored
    reranked: float  # mean rows scored on their full vector
    cost_us: float  # modelled, not measured, so that every machine chooses alike: see recall.trial_levels

    @property
    def assured(self) -> float:
        """The recall that this level is chosen for."""
        return min(self.recall - self.error, self.lowest)

    @property
    def interval(self) -> confidence.Interval:
        """The recall with its 95% interval, computed when read: that takes a millisecond."""
        if self.path == "exact":
            return confidence.Interval(1.0, 1.0, 1.0)
        return confidence.clopper_pearson(self.recall * self.trials, self.trials)


@dataclass(frozen=True)
class Curve:
    """Recall against effort for one k and one selectivity class: levels by rising cost and assured recall."""

    k: int
    name: str  # the selectivity class
    levels: tuple[Level, ...]
    queries: int
    source: str  # one of SOURCES
    rows: int  # rows with a vector when it was measured
    mark: int  # the next row key when it was measured: rows from this key on are newer
    earlier: tuple[int, ...]  # the marks of the calibrations before it: they divide the rows into epochs
    prefix_dim: int
    version: int = VERSION

    def text(self) -> str:
        """The curve as JSON, with the field names of the stored format."""
        stored = asdict(self)
        stored["levels"] = [
            {_STORED_NAMES.get(name, name): value for name, value in level.items()}
            for level in stored["levels"]
        ]
        return json.dumps(stored, separators=(",", ":"))

    def choose(self, target: float, margin: float = 0.0) -> Level | None:
        """The cheapest level whose assured recall reaches the target; None: only exact is.

        Its stop margin is `margin` at the least, 0 being the greatest.
        """
        if target > _EXACT_ABOVE:
            return None
        for level in self.levels:
            wide = level.stop_margin == 0 or level.stop_margin >= margin
            if level.assured >= target and level.path != "exact" and wide:
                return level
        return None


def parse(stored: Iterable[tuple[int, str, str]]) -> tuple[Curve, ...]:
    """The curves of catalogue rows (k, class, JSON).

    A curve of another version, or with values that no calibration writes, is left out, as one with a wrong
    checksum is: the store then plans as if it were not calibrated.
    """
    curves = []
    for k, name, text in stored:
        try:
            curve = read(k, name, text)
        except ValueError:
            continue
        if curve is not None:
            curves.append(curve)
    return tuple(curves)


def read(k: int, name: str, text: str) -> Curve | None:
    """One curve from its catalogue row; None for another version. ValueError where a value can't be right."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    if value.get("version") != VERSION:
        return None
    levels = value.get("levels")
    if not isinstance(levels, list) or not levels:
        raise ValueError("no levels")
    curve = Curve(
        k=_whole(value, "k", 1, LIMITS.k),
        name=_one_of(value, "name", CLASSES),
        levels=tuple(_read_level(level) for level in levels),
        queries=_whole(value, "queries", 0),
        source=_one_of(value, "source", SOURCES),
        rows=_whole(value, "rows", 0),
        mark=_whole(value, "mark", 0),
        earlier=_marks(value.get("earlier")),
        prefix_dim=_whole(value, "prefix_dim", 1, LIMITS.max_dim),
    )
    if (curve.k, curve.name) != (k, name):
        raise ValueError(f"it is of k {curve.k}, class {curve.name!r}")
    return curve


def _read_level(value: object) -> Level:
    if not isinstance(value, dict):
        raise ValueError("a level that is not a JSON object")
    path: MeasuredPath = _one_of(value, "way", get_args(MeasuredPath))
    return Level(
        path=path,
        ef=_whole(value, "ef", 0, LIMITS.k),
        shortlist=_whole(value, "shortlist", 0, LIMITS.k),
        first=_whole(value, "first", 0, LIMITS.k),
        beam_ratio=_number(value, "slack"),
        stop_margin=_number(value, "margin"),
        recall=_number(value, "recall", 1.0),
        trials=_number(value, "trials"),
        error=_number(value, "error"),
        lowest=_number(value, "lowest", 1.0),
        visited=_number(value, "visited"),
        reranked=_number(value, "reranked"),
        cost_us=_number(value, "cost_us"),
    )


def _whole(value: Mapping[str, Any], name: str, low: int, high: int = 2**63 - 1) -> int:
    number = value.get(name)
    if type(number) is not int or not low <= number <= high:
        raise ValueError(f"{name} is {number!r}"[:200])
    return number


def _marks(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MOST_EARLIER:
        raise ValueError(f"earlier is {value!r}"[:200])
    return tuple(_whole({"earlier": mark}, "earlier", 0) for mark in value)


def _number(value: Mapping[str, Any], name: str, high: float = 1e30) -> float:
    number: Any = value.get(name)
    if type(number) not in (int, float) or not 0 <= number <= high:
        raise ValueError(f"{name} is {number!r}"[:200])
    return float(number)


def _one_of(value: Mapping[str, Any], name: str, choices: tuple[Any, ...]) -> Any:
    choice = value.get(name)
    if not isinstance(choice, str) or choice not in choices:
        raise ValueError(f"{name} is {choice!r}"[:200])
    return choice


@dataclass(frozen=True)
class CalibrationCurves:
    """All curves of a store at one generation; empty before anything was measured."""

    curves: tuple[Curve, ...] = ()
    stored: tuple[tuple[int, str, str], ...] = ()  # the catalogue rows, to notice a change
    _chosen: BoundedCache[tuple[int, float | None], Effort] = field(
        default_factory=lambda: BoundedCache(_MAX_CHOICES), compare=False, repr=False
    )

    def effort(self, k: int, target: float | None) -> Effort:
        """The effort for k results at a target recall; None means the default target."""
        chosen = self._chosen.get((k, target))
        if chosen is None:
            chosen = self._choose(k, target)
            self._chosen.put((k, target), chosen)
        return chosen

    def curve(self, k: int, name: str) -> Curve | None:
        """The curve to use for k: its own, else the next larger one, else the largest there is."""
        fitting = sorted((c for c in self.curves if c.name == name), key=lambda c: c.k)
        return next((c for c in fitting if c.k >= k), fitting[-1] if fitting else None)

    def _choose(self, k: int, target: float | None) -> Effort:
        name, recall = ("default", DEFAULT_TARGET) if target is None else ("target", target)
        curves = {kind: self.curve(k, kind) for kind in CLASSES}
        by_class = {
            kind: _effort(name, curve, k, recall) for kind, curve in curves.items() if curve is not None
        }
        whole = by_class.get("all")
        if whole is None:
            return _uncalibrated(k, target)
        # The prefix tells no more of rows that pass a filter, so their shortlist is as long at least.
        return replace(whole, filtered={kind: _at_least(one, whole) for kind, one in by_class.items()})


def _at_least(effort: Effort, least: Effort) -> Effort:
    """The same effort, with a shortlist and a stop margin that are as great as those of another at least."""
    shortlist = max(effort.shortlist, least.shortlist)
    margin = _wider(effort.stop_margin, least.stop_margin)
    return replace(effort, ef=max(effort.ef, shortlist), shortlist=shortlist, stop_margin=margin)


def _wider(one: float, other: float) -> float:
    """The greater of two stop margins, of which 0 is the greatest: it ends nothing early."""
    return max(one, other) if one > 0 and other > 0 else 0.0


def _effort(name: str, curve: Curve, k: int, target: float) -> Effort:
    """The effort by which a curve reaches the target."""
    may_flatter = curve.source == "stored rows" or curve.name != "all"
    level = _level(curve, target) if may_flatter else curve.choose(target)
    if level is None:
        remark = "" if target > _EXACT_ABOVE else (
            f"calibration reached a recall of {target:g} by an exact scan alone"
        )  # fmt: skip
        expected = Expected(1.0, 1.0, 1.0, curve.queries, curve.source, curve.k)
        return Effort(name, k, k, "exact", target, expected, remark)
    interval = level.interval
    expected = Expected(level.recall, interval.low, interval.high, curve.queries, curve.source, curve.k)
    growth = max(1.0, k / curve.k)
    least = 2 * k if k > curve.k else k  # beyond the largest k that was measured, twice k for safety
    shortlist = min(max(least, int(level.shortlist * growth)), LIMITS.k)
    ef, beam_ratio, lost_ratio = min(max(shortlist, int(level.ef * growth)), LIMITS.k), level.beam_ratio, 0.0
    margin, first = level.stop_margin, int(level.first * growth)
    if may_flatter:
        margin = _wider(margin, _least_margin(target))
    if may_flatter and target >= DEFAULT_TARGET:
        floor = _FLOORS[curve.name]
        shortlist = max(shortlist, min(floor.shortlist * k, LIMITS.k))
        ef = max(ef, min(floor.ef * k, LIMITS.k))
        first = max(first, floor.shortlist * k) if first else 0
        beam_ratio = max(beam_ratio, floor.beam_ratio)
        lost_ratio = access_path.LOST_RATIO if curve.name != "all" else 0.0
    return Effort(
        name, ef, shortlist, "scan" if level.path == "scan" else "walk", target, expected,
        _remark(curve, level, k, target), beam_ratio, margin, lost_ratio, first,
    )  # fmt: skip


def _level(curve: Curve, target: float) -> Level | None:
    """The level for a target where questions may be harder than those that were measured.

    It is chosen for half of the misses, but for no more than the default target. Its stop margin is one that
    was measured, so that the recall to expect is that of the effort in use.
    """
    sought, margin = max(target, min((1 + target) / 2, DEFAULT_TARGET)), _least_margin(target)
    return curve.choose(sought, margin) or curve.choose(target, margin) or curve.choose(target)


def _least_margin(target: float) -> float:
    """The floor of the stop margin; 0: there is none."""
    return next((least for bound, least in _MARGINS if target >= bound), 0.0)


def _remark(curve: Curve, level: Level, k: int, target: float) -> str:
    """What a user should know of a level that was chosen; empty for the usual one."""
    remarks = [f"measured at k = {curve.k}, the effort raised in proportion"] if k > curve.k else []
    if level.path == "scan" and curve.name == "all":  # with a filter a scan is usual
        walks = any(one.path == "walk" and one.assured >= target for one in curve.levels)
        remarks.append(_CHEAPER if walks else _SCANNED)
    return "; ".join(remarks)


def _uncalibrated(k: int, target: float | None) -> Effort:
    """Without measurements: the default effort; for a target that is named, four times as much, or exact."""
    usual = access_path.effort(k, None, None)
    if target is None:
        usual = replace(usual, target=DEFAULT_TARGET, remark=_NOT_YET)
        least = {kind: min(floor.ef * k, LIMITS.k) for kind, floor in _FLOORS.items()}
        filtered = {kind: replace(usual, ef=max(usual.ef, ef)) for kind, ef in least.items() if kind != "all"}
        return replace(usual, filtered=filtered)
    if target > DEFAULT_TARGET:
        return Effort("target", k, k, "exact", target, None, f"{_NOT_YET}; so this was an exact scan")
    return replace(
        usual,
        name="target",
        ef=min(4 * usual.ef, LIMITS.k),
        shortlist=min(4 * usual.shortlist, LIMITS.k),
        target=target,
        remark=f"{_NOT_YET}; so the effort was a wide one",
    )
