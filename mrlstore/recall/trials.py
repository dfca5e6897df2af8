"""Trying efforts: the very search that live queries use, over a sample of queries whose answers are known.

One search tells the recall of every shorter shortlist too: it is enough to know the place of each true
neighbour in the shortlist, and where a re-rank would end early.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.planning import access_path, confidence
from mrlstore.planning.access_path import STOP_MARGIN, Effort
from mrlstore.planning.calibration_curves import Level
from mrlstore.recall import ground_truth
from mrlstore.search.group_search import prepare_search, search_group
from mrlstore.search.queries import Queries, prepare
from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.job import Job

_LADDER: Final = (  # beam_ratio, and the candidates that a walk may keep, at k = 10
    (0.01, 32), (0.02, 48), (0.03, 64), (0.04, 96), (0.06, 128), (0.08, 192), (0.1, 256), (0.13, 384),
    (0.16, 512), (0.2, 768), (0.25, 1024),
)  # fmt: skip
_LISTS: Final = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 13, 20, 30, 50, 100, 200, 400)  # times k
_ENOUGH: Final = 0.9995  # a recall at which no more effort is tried
_LONGEST: Final = 4_096  # rows of the longest shortlist that is tried
_NEVER: Final = 2**31
_CHUNK: Final = 32  # queries between two looks at the job


@dataclass(frozen=True)
class Probes:
    """Queries, all of one namespace."""

    namespace: str
    vectors: NDArray[np.float32]  # [q, dim], unit length
    own: NDArray[np.int64]  # [q] key of the stored row that the query is, -1 for none

    def first(self, count: int) -> Probes:
        """The first of them."""
        return Probes(self.namespace, self.vectors[:count], self.own[:count])


@dataclass
class _Tally:
    """What the queries of one class gave at one effort."""

    seen: list[_Seen] = field(default_factory=list)  # per query
    wanted: list[int] = field(default_factory=list)  # per query: how many true neighbours there are to find

    def shares(self, shortlist: int, stopping: bool) -> NDArray[np.float64]:
        """Recall of each query with this shortlist, float64 [q]."""
        return np.array(
            [
                min(int(np.count_nonzero((one.early if stopping else one.places) < shortlist)), wanted)
                / wanted
                for one, wanted in zip(self.seen, self.wanted, strict=True)
            ]
        )

    def reranked(self, shortlist: int, stopping: bool) -> float:
        """Mean number of rows scored in full; every group re-ranks a shortlist of its own."""
        return float(np.mean([one.fixed + one.scored(shortlist, stopping) for one in self.seen]))


@dataclass
class _Seen:
    """What one query gave, over all groups."""

    places: NDArray[np.int64]  # of its true neighbours in their groups' shortlists
    early: NDArray[np.int64]  # the same where the re-rank may end early: what it does not reach is nowhere
    visited: int = 0
    listed: list[int] = field(default_factory=list)  # rows in each shortlist
    stopped: list[int] = field(default_factory=list)  # of them, scored where the re-rank may end early
    fixed: int = 0  # rows scored in full whatever the shortlist

    def scored(self, shortlist: int, stopping: bool) -> int:
        """Rows of the shortlists that are scored in full, if they may have so many rows."""
        return sum(min(rows, shortlist) for rows in (self.stopped if stopping else self.listed))


def levels(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    exact: Sequence[ground_truth.Nearest],
    k: int,
    share: float,
    threads: int,
    job: Job,
) -> tuple[Level, ...]:
    """The efforts worth choosing from, cheapest first."""
    rows = max(snapshot.rows(), 1)
    tried: list[Level] = []

    def run(effort: Effort) -> _Tally:
        return _try(snapshot, groups, exact, k, share, effort, threads, job)

    whole = Level(
        "exact", 0, 0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, rows * share, cost_us(snapshot, 0, rows * share)
    )
    for beam_ratio, ef in _ladder(k, rows, _LADDER if share >= 1 else _LADDER[2::2]):
        effort = Effort(
            "calibration", ef, ef, beam_ratio=beam_ratio, stop_margin=STOP_MARGIN, always_walk=True
        )
        tally = run(effort)
        if not tally.seen:
            return ()
        tried += _read(snapshot, tally, effort, k)
        if tried[-1].recall >= _ENOUGH or tried[-1].cost_us > whole.cost_us:
            break
    if max(level.recall for level in tried) < _ENOUGH:
        longest = min(_LONGEST, rows)
        effort = Effort("calibration", longest, longest, "scan", stop_margin=STOP_MARGIN)
        tried += _read(snapshot, run(effort), effort, k)
    return (*_frontier([level for level in tried if level.cost_us < whole.cost_us]), whole)


def _ladder(k: int, rows: int, steps: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Values of beam_ratio and ef to try for k."""
    return [
        (beam_ratio, min(max(k, round(ef * (k / 10) ** 0.5)), _LONGEST, rows)) for beam_ratio, ef in steps
    ]


def _read(snapshot: Snapshot, tally: _Tally, effort: Effort, k: int) -> list[Level]:
    """One level for each length of the shortlist that this search can tell of."""
    visited = float(np.mean([one.visited for one in tally.seen]))
    lengths = sorted({min(effort.shortlist, round(k * times)) for times in _LISTS} | {effort.shortlist})
    walked = effort.path == "walk"
    levels = []
    for shortlist, stopping in itertools.product(lengths, (True, False)):
        shares = tally.shares(shortlist, stopping)
        reranked = tally.reranked(shortlist, stopping)
        levels.append(
            Level(
                path="walk" if walked else "scan",
                ef=effort.ef if walked else 0,
                shortlist=shortlist,
                beam_ratio=effort.beam_ratio,
                stop_margin=STOP_MARGIN if stopping else 0.0,
                recall=float(np.mean(shares)),
                trials=confidence.effective_trials(shares, k),
                error=confidence.standard_error(shares),
                visited=visited,
                reranked=reranked,
                cost_us=cost_us(snapshot, visited if walked else visited / 2, reranked),
            )
        )
    return levels


def cost_us(snapshot: Snapshot, visited: float, reranked: float) -> float:
    """What an effort costs by a model of one core: memory read for each code and each full row."""
    parts = (part.segment.index for part in snapshot.segments)
    stride = next((part.arrays["codes"].shape[1] for part in parts if part is not None), 768)
    return visited * (0.05 + 0.1 * stride / 768) + reranked * (0.05 + 0.75 * (snapshot.dim or 0) / 3072)


def _frontier(levels: list[Level]) -> tuple[Level, ...]:
    """Those that no cheaper one equals."""
    kept: list[Level] = []
    for level in sorted(levels, key=lambda level: (level.cost_us, -level.recall)):
        if not kept or level.recall - level.error > kept[-1].recall - kept[-1].error:
            kept.append(level)
    return tuple(kept)


def _try(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    exact: Sequence[ground_truth.Nearest],
    k: int,
    share: float,
    effort: Effort,
    threads: int,
    job: Job,
) -> _Tally:
    """Search for every query with this effort."""
    tally = _Tally()

    def one(group: Probes, number: int, wanted: NDArray[np.int64]) -> _Seen:
        query = prepare(group.vectors[number], snapshot.prefix_dim or 1)
        own = int(group.own[number])
        more = own >= 0 and effort.path != "walk"  # a scan finds the row itself, a walk passes it over
        return _places(snapshot, group.namespace, query, k + more, own, wanted, share, effort)

    with ThreadPoolExecutor(threads) as pool:
        for group, answers in zip(groups, exact, strict=True):
            accepted = [answers.accepted(number, k) for number in range(len(group.vectors))]
            asked = [number for number, keys in enumerate(accepted) if len(keys)]
            for start in range(0, len(asked), _CHUNK):
                job.check()
                numbers = asked[start : start + _CHUNK]
                results = pool.map(lambda number: one(group, number, accepted[number]), numbers)  # noqa: B023
                for number, seen in zip(numbers, results, strict=True):
                    tally.seen.append(seen)
                    tally.wanted.append(min(k, len(accepted[number])))
    return tally


def _places(
    snapshot: Snapshot,
    namespace: str,
    query: Queries,
    k: int,
    own: int,
    wanted: NDArray[np.int64],
    share: float,
    effort: Effort,
) -> _Seen:
    """Where the wanted keys stand in the shortlists of their groups."""
    nowhere = np.full(len(wanted), _NEVER, dtype=np.int64)
    seen = _Seen(nowhere, nowhere.copy())
    for group, live in _groups(snapshot, namespace):
        allowed = _allowed(group.keys, live, share)
        count = len(group.keys) if allowed is None else int(np.count_nonzero(allowed))
        if not count:
            continue
        listed: list[NDArray[np.int64]] = []

        def keep(
            rows: NDArray[np.int64], start: int, stop: int, into: list[NDArray[np.int64]] = listed
        ) -> None:
            if start == 0:
                into[:] = [rows.copy()]

        home = np.flatnonzero(group.keys == own)  # nowhere for queries of the caller's: own is -1
        path = access_path.choose(group, count, effort)
        skipped = int(home[0]) if len(home) else None
        search = prepare_search(path, group, k, effort, allowed, skipped=skipped)
        found = search_group(search, query, keep)
        hits, reranked, visited, _ = found.counts[0].tolist()
        seen.visited += visited
        if group.index is None or not listed or not len(listed[0]):
            seen.fixed += reranked
            at = _find(wanted, group.keys[found.rows[0, :hits]])
            seen.places[at >= 0] = seen.early[at >= 0] = 0
            continue
        keys = group.keys[listed[0]]
        always = np.isin(listed[0], group.index.unprefixed)
        at = _find(wanted, keys)
        here = at >= 0
        own_place = np.flatnonzero(keys == own)
        shift = (at > own_place[0]) if len(own_place) else np.zeros(len(at), dtype=np.bool_)
        place = np.where(always[at], 0, at - shift)
        fixed = int(np.count_nonzero(always))
        stopped = reranked - fixed
        seen.places[here] = place[here]
        early = here & (always[at] | (at < stopped))
        seen.early[early] = place[early]
        seen.listed.append(len(keys) - fixed)
        seen.stopped.append(stopped)
        seen.fixed += fixed
    return seen


def _groups(snapshot: Snapshot, namespace: str) -> list[tuple[Group, NDArray[np.bool_] | None]]:
    groups: list[tuple[Group, NDArray[np.bool_] | None]] = []
    for part in snapshot.segments:
        span = part.segment.run(namespace)
        if span is not None and not part.segment.row.base.damaged:
            groups.append((span.group, None if part.live is None else part.live[span.start : span.stop]))
    if snapshot.tail is not None and snapshot.tail.length:
        groups.append((snapshot.tail.group, snapshot.tail.mask(namespace, None)))
    return groups


def _allowed(
    keys: NDArray[np.int64], live: NDArray[np.bool_] | None, share: float
) -> NDArray[np.bool_] | None:
    if share >= 1:
        return live
    mask = ground_truth.draw(keys, share)
    return mask if live is None else mask & live


def _find(wanted: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each wanted key among keys, -1 where it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, at, -1)
