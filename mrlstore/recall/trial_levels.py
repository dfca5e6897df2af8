"""Levels: what trials at one effort say of each stop margin and length of the shortlist, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.planning import confidence
from mrlstore.planning.access_path import Effort
from mrlstore.planning.calibration_curves import Level
from mrlstore.storage.snapshot import Snapshot

MARGINS: Final = (0.7, 1.4, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 0.0)  # stop margins; 0: the whole shortlist
_LENGTHS: Final = (75, 90, 97, 100)  # percent of the questions that a shortlist is long enough for
_FIRST: Final = 99  # percent of the questions under random filters that a first list is long enough for
NEVER: Final = 2**31  # the rank of a row that is not re-ranked: above every shortlist
_IN_KIND: Final = 32  # questions of a kind, without which nothing is said of it


@dataclass
class Trial:
    """One query at one effort, over all groups of its namespace; `ranks` and `scored` are by stop margin."""

    kinds: tuple[tuple[str, int], ...]  # the kinds of queries that it belongs to, in several respects
    relevant: int  # how many true neighbours there are to find: k, or fewer in a small namespace
    ranks: NDArray[np.int64]  # [margins, a] of each accepted neighbour among what is re-ranked, NEVER if not
    visited: int = 0  # rows whose code was scored
    scored: list[tuple[int, ...]] = field(default_factory=list)  # nodes of each group, at each margin
    always: int = 0  # rows scored in full whatever the length of the shortlist


class _Outcome:
    """What many trials at one effort found, as arrays."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        most = max(trial.ranks.shape[1] for trial in trials)
        self.ranks = np.full((len(trials), len(MARGINS), most), NEVER, dtype=np.int64)
        for number, trial in enumerate(trials):
            self.ranks[number, :, : trial.ranks.shape[1]] = trial.ranks
        self.relevant = np.array([trial.relevant for trial in trials])
        self.always = float(np.mean([trial.always for trial in trials]))
        scored = [group for trial in trials for group in trial.scored]
        self.scored = np.array(scored, dtype=np.int64).reshape(-1, len(MARGINS))
        random = [("topical", 0) in trial.kinds for trial in trials for _ in trial.scored]
        self.random = np.array(random, dtype=np.bool_)  # [groups of all trials], whose filter is random

    def recalls(self, margin: int, shortlist: int) -> NDArray[np.float64]:
        """The share of each query's true neighbours that a shortlist of this length finds."""
        found = np.count_nonzero(self.ranks[:, margin] < shortlist, axis=1)
        shares: NDArray[np.float64] = np.minimum(found, self.relevant) / self.relevant
        return shares

    def reranked(self, margin: int, shortlist: int) -> float:
        """Mean rows scored in full with this length; every group re-ranks a shortlist of its own."""
        return self.always + float(np.minimum(self.scored[:, margin], shortlist).sum()) / len(self.relevant)


def levels_of(snapshot: Snapshot, trials: list[Trial], effort: Effort, k: int) -> list[Level]:
    """One level for each stop margin and length of the shortlist."""
    walked = effort.path == "walk"
    levels, kinds = [], [trial.kinds for trial in trials]
    visited = float(np.mean([trial.visited for trial in trials]))
    codes = visited if walked else visited / 2  # a scan reads codes in order, which costs half as much
    outcome = _Outcome(trials)
    for number, margin in enumerate(MARGINS):
        needed = outcome.scored[:, number]
        first = _first(needed, outcome.random, k) if margin > 0 else 0
        for shortlist in _lengths(needed, k, effort.shortlist):
            recalls, reranked = outcome.recalls(number, shortlist), outcome.reranked(number, shortlist)
            again, listed = 0.0, float(shortlist)
            if 0 < first < shortlist:
                again = float(np.mean(needed >= first))
                listed = first + again * shortlist
            levels.append(
                Level(
                    path="walk" if walked else "scan",
                    ef=effort.ef if walked else 0,
                    shortlist=shortlist,
                    first=first if first < shortlist else 0,
                    beam_ratio=effort.beam_ratio,
                    stop_margin=margin,
                    recall=float(np.mean(recalls)),
                    trials=confidence.effective_trials(recalls, k),
                    error=confidence.standard_error(recalls),
                    lowest=_lowest(recalls, kinds),
                    visited=visited * (1 + again),
                    reranked=reranked,
                    cost_us=cost_us(snapshot, codes * (1 + again), reranked, listed),
                )
            )
    return levels


def _first(needed: NDArray[np.int64], random: NDArray[np.bool_], k: int) -> int:
    """What most questions under a random filter need, where some are asked under topical ones; 0 otherwise.

    Topical filters may need lists that are many times as long, and long lists are slow.
    """
    if random.all() or not random.any():
        return 0
    return max(k, 1 + int(np.percentile(needed[random], _FIRST)))


def _lengths(needed: NDArray[np.int64], k: int, longest: int) -> list[int]:
    """The lengths of shortlists to try, given how many nodes each question scored before it ended."""
    if not len(needed):
        return [longest]
    return sorted({min(max(int(length), k), longest) for length in np.percentile(needed, _LENGTHS)})


def _lowest(recalls: NDArray[np.float64], kinds: list[tuple[tuple[str, int], ...]]) -> float:
    """The least recall of a kind of questions, its standard error added: chance does not explain less.

    For topical filters nothing is added: filters that pass only what lies away from a question are harder
    than those of the trials.
    """
    groups: dict[tuple[str, int], list[float]] = {}
    for recall, belongs_to in zip(recalls.tolist(), kinds, strict=True):
        for kind in belongs_to:
            groups.setdefault(kind, []).append(recall)
    bounds = [1.0]
    for (name, _), group in groups.items():
        if _IN_KIND <= len(group) < len(recalls):
            chance = 0.0 if name == "topical" else confidence.standard_error(np.array(group))
            bounds.append(float(np.mean(group)) + chance)
    return min(bounds)


def cost_us(snapshot: Snapshot, visited: float, reranked: float, listed: float = 0) -> float:
    """Microseconds of a search on one core, by a model: a part for each row and one for the bytes read.

    The factors fit a core with about 10 GB/s from memory at random: 0.1 us more for a code of 768 bytes,
    0.75 us more for a row of 3,072 dims in float16, and 0.12 us for a place in the shortlist, which has to be
    kept sorted. Only their ratio matters.
    """
    parts = (part.segment.index for part in snapshot.segments)
    stride = next((part.arrays["codes"].shape[1] for part in parts if part is not None), 768)
    of_row = 0.05 + 0.75 * (snapshot.dim or 0) / 3072
    return visited * (0.05 + 0.1 * stride / 768) + reranked * of_row + listed * 0.12


def frontier(levels: list[Level]) -> tuple[Level, ...]:
    """The levels whose assured recall no cheaper level equals."""
    kept: list[Level] = []
    for level in sorted(levels, key=lambda level: (level.cost_us, -level.recall)):
        if not kept or level.assured > kept[-1].assured:
            kept.append(level)
    return tuple(kept)
