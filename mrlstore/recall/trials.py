"""Trials: searches at rising effort, for a sample of queries whose exact answers are known.

The search is the one that live queries use. One search at one effort gives the recall of every shorter
shortlist too, from the rank of each true neighbour in the shortlist and the row at which the re-rank would
have ended early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.planning import access_path
from mrlstore.planning.access_path import STOP_MARGIN, AccessPath, Effort
from mrlstore.planning.calibration_curves import Level
from mrlstore.recall import ground_truth
from mrlstore.recall.trial_filters import RANDOM, TrialFilter
from mrlstore.recall.trial_levels import MARGINS, NEVER, Trial, cost_us, frontier, levels_of
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
_ENOUGH: Final = 0.9995  # at this recall no higher effort is tried
_LONGEST: Final = 4_096  # rows of the longest shortlist that is tried, and the highest ef
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
    """Queries that are not stored rows, float32 [q, dim], unit length."""
    nobody = np.full(len(vectors), -1, dtype=np.int64)
    zeros = np.zeros(len(vectors), dtype=np.int64)
    return Probes(namespace, vectors, nobody, nobody, zeros, zeros.astype(np.bool_))


class _Accepted(NamedTuple):
    """What counts as the true neighbours of one query: k rows, or more where scores are equal."""

    keys: NDArray[np.int64]  # [a]
    nodes: NDArray[np.int64]  # [a] the keys of their nodes, by which walks and scans list them


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

    def run(effort: Effort) -> list[Trial]:
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
        tried += levels_of(snapshot, trials, effort, k)
        if tried[-1].recall >= _ENOUGH or tried[-1].cost_us > whole.cost_us:
            break
    if max(level.recall for level in tried) < _ENOUGH:
        longest = min(_LONGEST, rows)
        effort = Effort("calibration", longest, longest, "scan", stop_margin=STOP_MARGIN)
        tried += levels_of(snapshot, run(effort), effort, k)
    return (*frontier([level for level in tried if level.cost_us < whole.cost_us]), whole)


def _ladder(k: int, rows: int, steps: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """The beam ratios and ef to try for k; ef grows with the root of k."""
    return [
        (beam_ratio, min(max(k, round(ef * (k / 10) ** 0.5)), _LONGEST, rows)) for beam_ratio, ef in steps
    ]


def _try(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    exact: Sequence[ground_truth.Nearest],
    k: int,
    filters: Sequence[TrialFilter],
    effort: Effort,
    threads: int,
    job: Job,
) -> list[Trial]:
    """Search for every query that has true neighbours, at this effort."""
    trials: list[Trial] = []
    with Threads(threads) as pool:
        for probes, answers, under in zip(groups, exact, filters, strict=True):
            accepted = [
                _Accepted(answers.accepted(number, k), answers.accepted_nodes(number, k))
                for number in range(len(probes.vectors))
            ]
            numbers = [number for number, one in enumerate(accepted) if len(one.keys)]
            topics = under.topics.tolist()
            fields = {topic: _fields(snapshot, probes.namespace, under, topic) for topic in {*topics}}

            def search(
                number: int,
                probes: Probes = probes,
                accepted: list[_Accepted] = accepted,
                topics: list[int] = topics,
                fields: dict[int, list[_Searchable]] = fields,
            ) -> Trial:
                topic = topics[number]
                return _try_one(snapshot, probes, number, accepted[number], k, topic, fields[topic], effort)

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
    topic: int,
    fields: list[_Searchable],
    effort: Effort,
) -> Trial:
    """Search for one query in each group; `accepted` are its true neighbours, `topic` that of its filter."""
    query, own = prepare(probes.vectors[number], snapshot.prefix_dim or 1), int(probes.own_nodes[number])
    trial = Trial(
        (
            ("epoch", int(probes.epochs[number])),
            ("beyond", int(probes.beyond[number])),
            ("topical", int(topic != RANDOM)),
        ),
        min(k, len(accepted.keys)),
        np.full((len(MARGINS), len(accepted.keys)), NEVER, dtype=np.int64),
    )
    # A scan finds the query's own row and needs one row more for it; a walk skips that row.
    depth, found = k + (own >= 0 and effort.path != "walk"), []
    for group, allowed, rows in fields:
        own_row = np.flatnonzero(group.keys == own)  # none for a query of the caller's, where own is -1
        path = access_path.choose(group, rows, effort)
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


class _Searchable(NamedTuple):
    """A group in which some rows may be found."""

    group: Group
    allowed: NDArray[np.bool_] | None  # None: all rows
    rows: int  # that are allowed


def _fields(snapshot: Snapshot, namespace: str, under: TrialFilter, topic: int) -> list[_Searchable]:
    """The groups that a question of this topic searches: masks take longer to make than to use."""
    fields = []
    for group, live in _groups(snapshot, namespace):
        allowed = ground_truth.both(under.mask(group.keys, topic), live)
        count = len(group.keys) if allowed is None else int(np.count_nonzero(allowed))
        if count:
            fields.append(_Searchable(group, allowed, count))
    return fields


class _Searched(NamedTuple):
    """One group, and how it is searched."""

    path: AccessPath
    group: Group
    allowed: NDArray[np.bool_] | None
    skipped: int | None  # the row that the query was made of


def _search_together(trial: Trial, joint: JointSearch, query: Queries, own: int, accepted: _Accepted) -> None:
    """Search several groups as one and add to the trial what they found of the accepted keys."""
    found = joint_stages(joint, query, MARGINS)
    trial.visited += found.visited
    trial.always += found.copies + found.whole
    keys, always = joint.keys_at(found.shortlist), joint.without_code(found.shortlist)
    _add_shortlist(trial, keys, always, found.scored, own, accepted.nodes)
    trial.ranks[:, _positions(accepted.keys, found.whole_keys) >= 0] = 0


def _search_group(trial: Trial, search: GroupSearch, query: Queries, own: int, accepted: _Accepted) -> None:
    """Search one group and add to the trial what it found of the accepted keys."""
    found, group = stages(search, query, MARGINS), search.group
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
    trial: Trial,
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
        ranks -= ~always[positions] & (positions > own_position[0])  # the row itself is not an answer
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
