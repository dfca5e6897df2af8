"""Calibration: measures which recall each level of effort gives on this store's own data.

A sample of questions (the caller's, live ones that the audit has kept, or some made of stored rows) is
answered exactly by a blocked scan (`ground_truth`), and then with rising effort by the search that live
queries use (`trials`). The curves are stored in the catalogue, one for each k and selectivity class;
`planning.calibration_curves` chooses an effort from them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import calibrations
from mrlstore.index import build
from mrlstore.planning.calibration_curves import DEFAULT_TARGET, MOST_EARLIER, SOURCES, Curve
from mrlstore.recall import ground_truth, live_questions, trial_filters, trials
from mrlstore.recall.defaults import QUERIES
from mrlstore.recall.trials import Probes
from mrlstore.search.hydrate import vectors_of
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.system.late import numpy_random
from mrlstore.system.log import log_event

FEWEST: Final = 64  # the same for a small store, which gets a query for 50 rows
DEFAULT_K: Final = 10
SHARES: Final = {
    "all": 1.0,
    "half": 0.3,
    "tenth": 0.1,
    "few": 0.01,
}  # share of the rows that the random filter of each selectivity class passes
REFRESH_SHARE: Final = 0.03  # when a larger share of the rows is new or gone, the curves are measured again
# Half of the questions are stored rows, their near copies left out. People's questions lie farther from the
# rows than these from each other, so the other half lie beyond: a row, and this share of the way from one of
# its neighbours to it. On rows mixed from real embeddings questions made so had the recall that real ones
# have at each effort, where rows alone promised 0.03 more at a target of 0.9.
BEYOND: Final = 0.3
_NEIGHBOURS: Final = 12  # of which one is drawn
GIVEN, STORED, LIVE = SOURCES

_TIES: Final = 8  # rows beyond k in the ground truth, so that rows that tie with the k-th are known


@dataclass(frozen=True)
class Calibration:
    """The curves that `calibrate` measured, and what it found remarkable, in words, as `warnings`."""

    curves: tuple[Curve, ...]
    source: str  # "queries", "stored rows" or "live questions"
    queries: int
    rows: int
    seconds: float
    truth_seconds: float  # the part of `seconds` that the exact answers took
    warnings: tuple[str, ...] = ()


def calibrate(
    session: Session,
    queries: NDArray[np.float32] | None = None,
    ks: Sequence[int] = (DEFAULT_K,),
    *,
    namespace: str = "",
    count: int = QUERIES,
    job: Job = UNWATCHED,
) -> Calibration:
    """Measure the curves of each k and write them into the catalogue.

    queries: float32 [q, dim], unit length, for `namespace`; None takes the live questions that were kept, or
    makes about `count` of stored rows of the largest namespaces. Raises Interrupted soon after the job is
    asked to stop.
    """
    started = time.perf_counter()
    snapshot = session.snapshots.latest()
    mark, before = _newest(snapshot) + 1, snapshot.calibration.curve(DEFAULT_K, "all")
    known = set() if before is None else {*before.earlier, before.mark}
    earlier = tuple(sorted(known - {mark}))[-MOST_EARLIER:]  # one that found no new rows begins no epoch
    source, groups = LIVE, live_questions.kept(session, snapshot.dim or 0)
    if queries is not None:
        source, groups = GIVEN, [trials.questions(namespace, queries)]
    elif not groups:
        source, groups = STORED, stored_questions(snapshot, count, session.threads, earlier)
    measured = measure(snapshot, groups, ks, source, (*earlier, mark), session.threads, job)
    curves, truth_s = measured.curves, measured.truth_s
    warnings: tuple[str, ...] = ()
    if queries is not None and curves:
        made = stored_questions(snapshot, min(count, 100), session.threads)
        others = [group for group in made if group.namespace == namespace]
        marks = (*earlier, mark)
        compared = measure(snapshot, others, ks[:1], STORED, marks, session.threads, job, {"all": 1.0})
        truth_s += compared.truth_s
        warnings = tuple(differences(curves[0], compared.curves[0])) if compared.curves else ()
    warnings += tuple(shortfalls(curves))
    if curves:
        save(session, curves)
    count = sum(len(group.vectors) for group in groups)
    seconds = time.perf_counter() - started
    return Calibration(curves, source, count, snapshot.rows(), seconds, truth_s, warnings)


def save(session: Session, curves: Iterable[Curve]) -> None:
    """Write curves into the catalogue; every process uses them from its next call on."""
    with session.storing("writing the calibration"), session.catalogue.write() as write:
        entries = [calibrations.Stored(curve.k, curve.name, curve.text()) for curve in curves]
        calibrations.replace(write.connection, entries)


def refresh(session: Session, job: Job, *, always: bool = False) -> Calibration | None:
    """Measure a store with graphs if its curves are missing or out of date, or `always`; None if not."""
    snapshot = session.snapshots.latest()
    if not (due(snapshot) or (always and has_graph(snapshot))):
        return None
    ks = sorted({curve.k for curve in snapshot.calibration.curves} | {DEFAULT_K})
    # In a small store so many questions would take longer than the rest of its maintenance.
    count = min(max(snapshot.rows() // 50, FEWEST), QUERIES)
    learned = calibrate(session, None, ks, count=count, job=job)
    log_event("calibrated", session.path, rows=learned.rows, seconds=learned.seconds)
    for words in learned.warnings:
        log_event("recall differs", session.path, words, level=logging.WARNING)
    return learned


def due(snapshot: Snapshot) -> bool:
    """Whether there is a graph, and its curves are missing or too many rows have changed since."""
    if not has_graph(snapshot):
        return False
    curve = snapshot.calibration.curve(DEFAULT_K, "all")
    if curve is None or curve.prefix_dim != snapshot.prefix_dim:
        return True
    return changed_share(snapshot, curve) > REFRESH_SHARE


def has_graph(snapshot: Snapshot) -> bool:
    """Whether a namespace has a graph and so many live rows that queries walk it."""
    return any(size >= build.MIN_GRAPH_ROWS for size in _walked(snapshot).values())


def changed_share(snapshot: Snapshot, curve: Curve) -> float:
    """How much has changed since the curve was measured: the share of rows that are new, or were removed."""
    now, new = snapshot.rows(), 0
    for part in snapshot.segments:
        fresh = part.segment.keys >= curve.mark
        new += int(np.count_nonzero(fresh if part.live is None else fresh & part.live))
    if snapshot.tail is not None:
        new += int(np.count_nonzero((snapshot.tail.keys >= curve.mark) & snapshot.tail.live))
    new = max(new, now - curve.rows)
    gone = curve.rows - (now - new)
    return max(new / max(now, 1), gone / max(curve.rows, 1))


def _newest(snapshot: Snapshot) -> int:
    """The greatest row key. Later rows have greater keys, but for a few that other processes had reserved."""
    held = [int(part.segment.keys.max()) for part in snapshot.segments if part.segment.rows]
    if snapshot.tail is not None and snapshot.tail.length:
        held.append(int(snapshot.tail.keys.max()))
    return max(held, default=0)


def stored_questions(
    snapshot: Snapshot, count: int, threads: int, earlier: tuple[int, ...] = ()
) -> list[Probes]:
    """About `count` questions made of stored rows: the rows, and as many beyond them.

    earlier: the marks of earlier calibrations. The rows between two of them are an epoch; each with a share
    of REFRESH_SHARE or more gives as many questions as the others, since new rows may be unlike old ones.
    """
    found = []
    for rows in sample(snapshot, -(-count // 2), earlier):
        others = beyond(snapshot, rows, threads)
        order = numpy_random.default_rng(count).permutation(2 * len(rows.vectors))
        found.append(
            Probes(
                rows.namespace,
                np.concatenate([rows.vectors, others.vectors])[order],
                np.concatenate([rows.own, others.own])[order],
                np.concatenate([rows.own_nodes, others.own_nodes])[order],
                np.concatenate([rows.epochs, others.epochs])[order],
                np.concatenate([rows.beyond, others.beyond])[order],
            )
        )
    return found


def beyond(snapshot: Snapshot, rows: Probes, threads: int) -> Probes:
    """A question beyond each row, seen from one of its neighbours, near copies left out.

    The row itself is left out of the answer, unless it has near copies: then these are the answer.
    """
    (near,) = ground_truth.nearest(
        ground_truth.rows_of(snapshot, rows.namespace), rows.vectors, _NEIGHBOURS,
        own_nodes=rows.own_nodes, threads=threads,
    ).values()  # fmt: skip
    rng = numpy_random.default_rng(len(rows.vectors))
    chosen = near.keys[np.arange(len(near.keys)), rng.integers(0, _NEIGHBOURS, len(near.keys))]
    chosen = np.where(chosen < 0, near.keys[:, 0], chosen)
    vectors = vectors_of(snapshot, [key for key in set(chosen.tolist()) if key >= 0])
    others = np.stack([vectors.get(key, own) for key, own in zip(chosen.tolist(), rows.vectors, strict=True)])
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    made = rows.vectors + np.float32(BEYOND) * (rows.vectors - others)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    single = ~_have_copies(snapshot, rows)
    own, own_nodes = np.where(single, rows.own, -1), np.where(single, rows.own_nodes, -1)
    return Probes(rows.namespace, made, own, own_nodes, rows.epochs, ~rows.beyond)


def _have_copies(snapshot: Snapshot, rows: Probes) -> NDArray[np.bool_]:
    """Which of the rows have near copies, bool [q]."""
    nodes = [np.zeros(0, np.int64)]
    for part in snapshot.segments:
        run = part.segment.run(rows.namespace)
        if run is not None and run.group.index is not None:
            nodes.append(run.group.keys[run.group.index.copies.sets[:, 0]])
    return np.isin(rows.own_nodes, np.concatenate(nodes))


def sample(snapshot: Snapshot, count: int, earlier: tuple[int, ...] = ()) -> list[Probes]:
    """About `count` stored rows as queries, from the four largest namespaces in proportion to their rows."""
    held = [(name, size) for name, size in _walked(snapshot).items() if size]
    sizes = sorted(held, key=lambda item: -item[1])[:4]
    total = sum(size for _, size in sizes)
    return [
        stored(snapshot, name, min(-(-count * size // total), size), size, earlier) for name, size in sizes
    ]


def stored(
    snapshot: Snapshot, namespace: str, count: int, size: int, earlier: tuple[int, ...] = ()
) -> Probes:
    """About `count` of the `size` live rows of a namespace as queries, drawn at random, in random order."""
    rng = numpy_random.default_rng(size)
    chosen = np.sort(rng.choice(size, count, replace=False))
    if earlier:
        chosen = _by_epoch(_live_keys(snapshot, namespace), count, earlier, rng)
    vectors, keys, nodes, passed = [], [], [], 0
    for rows in ground_truth.rows_of(snapshot, namespace):
        live = np.arange(len(rows.keys)) if rows.live is None else np.flatnonzero(rows.live)
        here = chosen[(chosen >= passed) & (chosen < passed + len(live))] - passed
        vectors.append(rows.vectors[live[here]].astype(np.float32))
        keys.append(rows.keys[live[here]])
        nodes.append((rows.keys if rows.nodes is None else rows.nodes)[live[here]])
        passed += len(live)
    matrix = np.concatenate(vectors)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    order = rng.permutation(len(matrix))  # the first few are then a random sample too
    own = np.concatenate(keys)[order]
    epochs = np.searchsorted(np.array(earlier, dtype=np.int64), own, side="right")
    return Probes(namespace, matrix[order], own, np.concatenate(nodes)[order], epochs, epochs < 0)


def _live_keys(snapshot: Snapshot, namespace: str) -> NDArray[np.int64]:
    """The keys of the live rows of a namespace, in the order of `ground_truth.rows_of`."""
    blocks = ground_truth.rows_of(snapshot, namespace)
    return np.concatenate([rows.keys if rows.live is None else rows.keys[rows.live] for rows in blocks])


def _by_epoch(
    keys: NDArray[np.int64], count: int, earlier: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of about `count` keys, rising: as many of each epoch that has a share of REFRESH_SHARE."""
    epochs = np.searchsorted(np.array(earlier, dtype=np.int64), keys, side="right")
    held = [np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)]
    held = [rows for rows in held if len(rows) >= REFRESH_SHARE * len(keys)]
    each = -(-count // len(held))
    return np.sort(np.concatenate([rng.choice(rows, min(each, len(rows)), replace=False) for rows in held]))


def _walked(snapshot: Snapshot) -> dict[str, int]:
    """How many live rows each namespace with a graph has."""
    sizes: dict[str, int] = {}
    for part in snapshot.segments:
        if part.segment.index is None or part.segment.row.base.damaged:
            continue
        for name, start, stop in part.segment.runs():
            if stop - start >= build.MIN_GRAPH_ROWS:
                sizes.setdefault(name, 0)
    for name in sizes:
        sizes[name] = sum(
            int(len(rows.keys) if rows.live is None else np.count_nonzero(rows.live))
            for rows in ground_truth.rows_of(snapshot, name)
        )
    return sizes


class Measured(NamedTuple):
    """Curves, and the seconds that their exact answers took."""

    curves: tuple[Curve, ...]
    truth_s: float


def measure(
    snapshot: Snapshot,
    groups: Sequence[Probes],
    ks: Sequence[int],
    source: str,
    marks: tuple[int, ...],
    threads: int,
    job: Job,
    shares: dict[str, float] = SHARES,
) -> Measured:
    """A curve for every k and selectivity class of `shares`; a filtered class takes half of the queries."""
    prefix_dim = snapshot.prefix_dim or 0
    started = time.perf_counter()
    depth, total = max(ks) + _TIES, 1 + len(ks) * len(shares)  # the exact answers, then each curve
    job.step("calibrate", 0, total)

    def step(rows: int) -> None:
        job.check()

    filters = [
        trial_filters.filters(
            ground_truth.rows_of(snapshot, group.namespace), group.vectors, group.half, shares, prefix_dim
        )
        for group in groups
    ]
    exact = [
        ground_truth.nearest(
            ground_truth.rows_of(snapshot, group.namespace), group.vectors, depth,
            own_nodes=group.own_nodes, filters=under, threads=threads, step=step,
        )
        for group, under in zip(groups, filters, strict=True)
    ]  # fmt: skip
    truth_s = time.perf_counter() - started
    curves, done = [], 1
    for k in ks:
        for name, share in shares.items():
            job.step("calibrate", done, total)
            done += 1
            probes = [group if share >= 1 else group.first(group.half) for group in groups]
            answers = [nearest[snapshot.dim or 0, name] for nearest in exact]
            levels = trials.levels(
                snapshot, probes, answers, k, [under[name] for under in filters], threads, job
            )
            if levels:
                count = sum(len(group.vectors) for group in probes)
                curves.append(
                    Curve(k, name, levels, count, source, snapshot.rows(), marks[-1], marks[:-1], prefix_dim)
                )
    job.step("calibrate", total, total)
    return Measured(tuple(curves), truth_s)


def shortfalls(curves: Iterable[Curve]) -> list[str]:
    """Warnings where no walk reaches the default target."""
    warnings = []
    for curve in curves:
        level = curve.choose(DEFAULT_TARGET)
        walks = [one.recall for one in curve.levels if one.path == "walk"]
        # There is no walk among the levels where walks cost more than a full scan: most rows were removed.
        if walks and curve.name == "all" and (level is None or level.path == "scan"):
            path = "every row in full" if level is None else "the codes of all rows"
            warnings.append(
                f"the first {curve.prefix_dim} dims say too little about these vectors: walks reach a "
                f"recall@{curve.k} of {max(walks):.3f} at the most; for {DEFAULT_TARGET:g} "
                f"queries scan {path}"
            )
    return warnings


def differences(given: Curve, stored: Curve) -> list[str]:
    """Warnings where the caller's queries need more effort than stored rows taken as queries."""
    warnings = []
    for target in (0.95, 0.99):
        needed, level = given.choose(target), stored.choose(target)
        if level is None:
            continue
        affordable = [one for one in given.levels if one.cost_us <= level.cost_us * 1.001]
        same = affordable[-1] if affordable else None
        if same is not None and same.interval.high < level.interval.low:
            times = None if needed is None else needed.cost_us / level.cost_us
            more = "an exact scan" if times is None else f"{times:.1f} times the work"
            warnings.append(
                f"queries are harder than stored rows: the effort that gives stored rows a recall of "
                f"{level.recall:.3f} gives the queries {same.recall:.3f}; "
                f"for {target:g} they need {more}"
            )
    return warnings
