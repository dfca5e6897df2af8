"""Trials: searches at rising effort, for a sample of queries whose exact answers are known.

The search is the one that live queries use. One search at one effort gives the recall of every shorter
shortlist too, from the rank of each true neighbour in the shortlist and the row at which the re-rank would
have ended early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.planning import access_path, confidence
from mrlstore.planning.access_path import STOP_MARGIN, AccessPath, Effort
from mrlstore.planning.calibration_curves import Level
from mrlstore.recall import ground_truth
from mrlstore.recall.trial_filters import RANDOM, TrialFilter
from mrlstore.recall.two_stages import joint_stages, stages
from mrlstore.search.group_search import GroupSearch, prepare_search, search_group
from mrlstore.search.joint_search import JointSearch, joint_search
from mrlstore.search.queries import Queries, prepare
from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.job import Job
from mrlstore.system.threads import Threads

# The efforts that are tried: (beam ratio, ef at k = 10), from the cheapest.
_LADDER: Final = (
    (0.01, 32), (0.02, 48), (0.03, 64), (0.04, 96), (0.06, 128), (0.08, 192), (0.1, 256), (0.13, 384),
    (0.16, 512), (0.2, 768), (0.25, 1024),
)  # fmt: skip
_MARGINS: Final = (0.7, 1.4, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 0.0)  # stop margins; 0: the whole shortlist
_LENGTHS: Final = (75, 90, 97, 100)  # percent of the questions that a shortlist is long enough for
_FIRST: Final = 99  # percent of the questions under random filters that a first list is long enough for
_ENOUGH: Final = 0.9995  # at this recall no higher effort is tried
_LONGEST: Final = 4_096  # rows of the longest shortlist that is tried, and the highest ef
_NEVER: Final = 2**31  # the rank of a row that is not re-ranked: above every shortlist
_IN_KIND: Final = 32  # questions of a kind, without which nothing is said of it
_CHUNK: Final = 32  # queries between two checks whether the job is to stop


@dataclass(frozen=True)
class Probes:
    """Queries of one namespace."""

    namespace: str
    vectors: NDArray[np.float32]  # [q, dim], unit length
    own: NDArray[np.int64]  # [q] key of the stored row that the query was taken from, -1 for none
    own_nodes: NDArray[np.int64]  # [q] key of the node that stands for that row, -1 for none
    epochs: NDArray[np.int64]  # [q] how many calibrations are older than that row
    beyond: NDArray[np.bool_]  # [q] whether it lies beyond that row, see calibrate.beyond

    @property
    def half(self) -> int:
        """How many queries a filtered class takes."""
        return -(-len(self.vectors) // 2)

    def first(self, count: int) -> Probes:
        """The first `count` of them."""
        return Probes(
            self.namespace,
            self.vectors[:count],
            self.own[:count],
            self.own_nodes[:count],
            self.epochs[:count],
            self.beyond[:count],
        )


def questions(namespace: str, vectors: NDArray[np.float32]) -> Probes:
    """Queries that are no stored rows, float32 [q, dim], unit length."""
    nobody = np.full(len(vectors), -1, dtype=np.int64)
    zeros = np.zeros(len(vectors), dtype=np.int64)
    return Probes(namespace, vectors, nobody, nobody, zeros, zeros.astype(np.bool_))


class _Accepted(NamedTuple):
    """What counts as the true neighbours of one query: k rows, or more where scores are equal."""

    keys: NDArray[np.int64]  # [a]
    nodes: NDArray[np.int64]  # [a] the keys of their nodes, by which walks and scans list them


@dataclass
class _Trial:
    """One query at one effort, over all groups of its namespace; `ranks` and `scored` are by stop margin."""

    kinds: tuple[tuple[str, int], ...]  # the kinds of queries that it belongs to, in several respects
    relevant: int  # how many true neighbours there are to find: k, or fewer in a small namespace
    ranks: NDArray[np.int64]  # [margins, a] of each accepted neighbour among what is re-ranked, NEVER if not
    visited: int = 0  # rows whose code was scored
    scored: list[tuple[int, ...]] = field(default_factory=list)  # nodes of each group, at each margin
    always: int = 0  # rows scored in full whatever the length of the shortlist

    def recall(self, margin: int, shortlist: int) -> float:
        """The share of the true neighbours that a shortlist of this length finds."""
        found = int(np.count_nonzero(self.ranks[margin] < shortlist))
        return min(found, self.relevant) / self.relevant

    def reranked(self, margin: int, shortlist: int) -> int:
        """Rows scored in full with this length; every group re-ranks a shortlist of its own."""
        return self.always + sum(min(group[margin], shortlist) for group in self.scored)


def levels(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    exact: Sequence[ground_truth.Nearest],
    k: int,
    filters: Sequence[TrialFilter],
    threads: int,
    job: Job,
) -> tuple[Level, ...]:
    """The levels of effort that no cheaper one equals in recall, cheapest first.

    groups, filters and exact: the queries of each namespace, and their exact answers under its filter.
    Raises Interrupted if the job is to stop.
    """
    rows, share = max(snapshot.rows(), 1), filters[0].share if filters else 1.0
    tried: list[Level] = []

    def run(effort: Effort) -> list[_Trial]:
        return _try(snapshot, groups, exact, k, filters, effort, threads, job)

    whole = Level(
        "exact", 0, 0, 0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, rows * share, cost_us(snapshot, 0, rows * share)
    )
    for beam_ratio, ef in _ladder(k, rows, _LADDER if share >= 1 else _LADDER[2::2]):
        effort = Effort(
            "calibration", ef, ef, beam_ratio=beam_ratio, stop_margin=STOP_MARGIN, always_walk=True
        )
        trials = run(effort)
        if not trials:
            return ()
        tried += _levels_of(snapshot, trials, effort, k)
        if tried[-1].recall >= _ENOUGH or tried[-1].cost_us > whole.cost_us:
            break
    if max(level.recall for level in tried) < _ENOUGH:
        longest = min(_LONGEST, rows)
        effort = Effort("calibration", longest, longest, "scan", stop_margin=STOP_MARGIN)
        tried += _levels_of(snapshot, run(effort), effort, k)
    return (*_frontier([level for level in tried if level.cost_us < whole.cost_us]), whole)


def _ladder(k: int, rows: int, steps: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """The beam ratios and ef to try for k; ef grows with the root of k."""
    return [
        (beam_ratio, min(max(k, round(ef * (k / 10) ** 0.5)), _LONGEST, rows)) for beam_ratio, ef in steps
    ]


def _levels_of(snapshot: Snapshot, trials: list[_Trial], effort: Effort, k: int) -> list[Level]:
    """One level for each stop margin and length of the shortlist."""
    walked = effort.path == "walk"
    levels, kinds = [], [trial.kinds for trial in trials]
    visited = float(np.mean([trial.visited for trial in trials]))
    codes = visited if walked else visited / 2  # a scan reads codes in order, which costs half as much
    for number, margin in enumerate(_MARGINS):
        needed = [group[number] for trial in trials for group in trial.scored]
        first = _first(trials, number, k) if margin > 0 else 0
        for shortlist in _lengths(needed, k, effort.shortlist):
            recalls = np.array([trial.recall(number, shortlist) for trial in trials])
            reranked = float(np.mean([trial.reranked(number, shortlist) for trial in trials]))
            again, listed = 0.0, float(shortlist)
            if 0 < first < shortlist:
                again = float(np.mean([rows >= first for rows in needed]))
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


def _first(trials: list[_Trial], margin: int, k: int) -> int:
    """What most questions under a random filter need, where some are asked under topical ones; 0 otherwise.

    Topical filters may need lists that are many times as long, and long lists are slow.
    """
    random = [trial for trial in trials if ("topical", 0) in trial.kinds]
    needed = [group[margin] for trial in random for group in trial.scored]
    if len(random) == len(trials) or not needed:
        return 0
    return max(k, 1 + int(np.percentile(needed, _FIRST)))


def _lengths(needed: list[int], k: int, longest: int) -> list[int]:
    """The lengths of shortlists to try, given how many nodes each question scored before it ended."""
    if not needed:
        return [longest]
    return sorted({min(max(int(length), k), longest) for length in np.percentile(needed, _LENGTHS)})


def _lowest(recalls: NDArray[np.float64], kinds: list[tuple[tuple[str, int], ...]]) -> float:
    """The least recall of a kind of questions, its standard error added: chance does not explain less."""
    groups: dict[tuple[str, int], list[float]] = {}
    for recall, belongs_to in zip(recalls.tolist(), kinds, strict=True):
        for kind in belongs_to:
            groups.setdefault(kind, []).append(recall)
    bounds = [
        float(np.mean(group)) + confidence.standard_error(np.array(group))
        for group in groups.values()
        if _IN_KIND <= len(group) < len(recalls)
    ]
    return min([1.0, *bounds])


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


def _frontier(levels: list[Level]) -> tuple[Level, ...]:
    """The levels whose assured recall no cheaper level equals."""
    kept: list[Level] = []
    for level in sorted(levels, key=lambda level: (level.cost_us, -level.recall)):
        if not kept or level.assured > kept[-1].assured:
            kept.append(level)
    return tuple(kept)


def _try(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    exact: Sequence[ground_truth.Nearest],
    k: int,
    filters: Sequence[TrialFilter],
    effort: Effort,
    threads: int,
    job: Job,
) -> list[_Trial]:
    """Search for every query that has true neighbours, at this effort."""
    trials: list[_Trial] = []
    with Threads(threads) as pool:
        for probes, answers, under in zip(groups, exact, filters, strict=True):
            accepted = [
                _Accepted(answers.accepted(number, k), answers.accepted_nodes(number, k))
                for number in range(len(probes.vectors))
            ]
            numbers = [number for number, one in enumerate(accepted) if len(one.keys)]

            def search(
                number: int,
                probes: Probes = probes,
                accepted: list[_Accepted] = accepted,
                under: TrialFilter = under,
            ) -> _Trial:
                return _try_one(snapshot, probes, number, accepted[number], k, under, effort)

            for start in range(0, len(numbers), _CHUNK):
                job.check()
                trials += pool.map(search, numbers[start : start + _CHUNK])
    return trials


def _try_one(
    snapshot: Snapshot,
    probes: Probes,
    number: int,
    accepted: _Accepted,
    k: int,
    under: TrialFilter,
    effort: Effort,
) -> _Trial:
    """Search for one query in each group; `accepted` are its true neighbours."""
    query, own = prepare(probes.vectors[number], snapshot.prefix_dim or 1), int(probes.own_nodes[number])
    topic = int(under.topics[number])
    trial = _Trial(
        (
            ("epoch", int(probes.epochs[number])),
            ("beyond", int(probes.beyond[number])),
            ("topical", int(topic != RANDOM)),
        ),
        min(k, len(accepted.keys)),
        np.full((len(_MARGINS), len(accepted.keys)), _NEVER, dtype=np.int64),
    )
    # A scan finds the query's own row and needs one row more for it; a walk skips that row.
    depth, found = k + (own >= 0 and effort.path != "walk"), []
    for group, live in _groups(snapshot, probes.namespace):
        allowed = ground_truth.both(under.mask(group.keys, topic), live)
        count = len(group.keys) if allowed is None else int(np.count_nonzero(allowed))
        if count:
            own_row = np.flatnonzero(group.keys == own)  # none for a query of the caller's, where own is -1
            path = access_path.choose(group, count, effort)
            if len(own_row) and path == "scan":
                depth = k + 1
            found.append(_Searched(path, group, allowed, int(own_row[0]) if len(own_row) else None))
    searches = [
        prepare_search(one.path, one.group, depth, effort, one.allowed, skipped=one.skipped) for one in found
    ]
    joint = joint_search(searches, depth, effort.shortlist)
    if joint is not None and joint.answers(query.at(joint.prefix_dim)):
        _search_together(trial, joint, query, own, accepted)
    else:
        for search in searches:
            _search_group(trial, search, query, own, accepted)
    return trial


class _Searched(NamedTuple):
    """One group, and how it is searched."""

    path: AccessPath
    group: Group
    allowed: NDArray[np.bool_] | None
    skipped: int | None  # the row that the query was made of


def _search_together(
    trial: _Trial, joint: JointSearch, query: Queries, own: int, accepted: _Accepted
) -> None:
    """Search several groups as one and add to the trial what they found of the accepted keys."""
    found = joint_stages(joint, query, _MARGINS)
    trial.visited += found.visited
    trial.always += found.copies + found.whole
    keys, always = joint.keys_at(found.shortlist), joint.without_code(found.shortlist)
    _add_shortlist(trial, keys, always, found.scored, own, accepted.nodes)
    trial.ranks[:, _positions(accepted.keys, found.whole_keys) >= 0] = 0


def _search_group(trial: _Trial, search: GroupSearch, query: Queries, own: int, accepted: _Accepted) -> None:
    """Search one group and add to the trial what it found of the accepted keys."""
    found, group = stages(search, query, _MARGINS), search.group
    if found is not None and group.index is not None:
        trial.visited += found.visited
        trial.always += found.copies
        always = np.isin(found.shortlist, group.index.unprefixed)
        _add_shortlist(trial, group.keys[found.shortlist], always, found.scored, own, accepted.nodes)
        return
    hits = search_group(search, query)
    written, reranked, visited, *_ = hits.counts[0].tolist()
    trial.visited += visited
    # Scored in full without a shortlist: what was found has rank 0.
    trial.always += reranked
    there = _positions(accepted.keys, group.keys[hits.rows[0, :written]]) >= 0
    trial.ranks[:, there] = 0


def _add_shortlist(
    trial: _Trial,
    keys: NDArray[np.int64],
    always: NDArray[np.bool_],
    scored: Sequence[int],
    own: int,
    accepted: NDArray[np.int64],
) -> None:
    """Add the ranks of the accepted nodes in a shortlist of these keys; `scored` of them at each margin.

    always: rows without a code, which are re-ranked in any case.
    """
    trial.scored.append(tuple(scored))
    if not len(keys):
        return
    positions = _positions(accepted, keys)
    there = positions >= 0
    own_position = np.flatnonzero(keys == own)
    ranks = np.where(always[positions], 0, positions)
    if len(own_position):
        ranks -= ~always[positions] & (positions > own_position[0])  # the row itself is no answer
    for number, count in enumerate(scored):
        reached = there & (always[positions] | (positions < count))
        trial.ranks[number, reached] = ranks[reached]
    trial.always += int(np.count_nonzero(always))


def _groups(snapshot: Snapshot, namespace: str) -> list[tuple[Group, NDArray[np.bool_] | None]]:
    """The groups of a namespace that have no damage, each with its live rows; None: all are live."""
    groups: list[tuple[Group, NDArray[np.bool_] | None]] = []
    for part in snapshot.segments:
        run = part.segment.run(namespace)
        if run is not None and not part.segment.row.base.damaged:
            groups.append((run.group, None if part.live is None else part.live[run.start : run.stop]))
    if snapshot.tail is not None and snapshot.tail.length:
        groups.append((snapshot.tail.group, snapshot.tail.mask(namespace, None)))
    return groups


def _positions(wanted: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of each wanted key among `keys`, -1 where it is not there; int64 like `wanted`."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, at, -1)
