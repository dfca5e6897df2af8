"""Measures a tier report: draws the queries, runs each tier, collects warnings, splits recall by strata."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.catalogue.rows import metadata_of
from mrlstore.checks import namespace_words
from mrlstore.errors import InvalidInput
from mrlstore.planning import confidence
from mrlstore.recall import calibrate
from mrlstore.recall.tiers.answered import AnsweredProbes, answer_exactly, rows_in, shares_found
from mrlstore.recall.tiers.bench import Bench, Qrels
from mrlstore.recall.tiers.figures import Stratum, Tier
from mrlstore.recall.tiers.recommend import decide
from mrlstore.recall.tiers.report import TierReport
from mrlstore.recall.trials import Probes, questions
from mrlstore.storage import statistics
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.job import Job

SHORTLISTS: Final = (1, 2, 3, 5, 6, 10, 20)  # lengths of the shortlist, as multiples of k
_STRATA: Final = 12
_FEWEST: Final = 20  # rows without which there is no report


def tier_report(
    session: Session,
    queries: NDArray[np.float32] | None,
    k: int,
    dims: Sequence[int],
    *,
    namespace: str,
    qrels: Qrels | None,
    by: str | None,
    count: int,
    sample: int,
    answer: Callable[[NDArray[np.float32], int, float], tuple[list[int], float]],
    job: Job,
) -> TierReport:
    """Measure a report; see `Store.tier_report`. `answer` queries the store: (keys, seconds)."""
    started = time.perf_counter()
    snapshot = session.snapshots.latest()
    assert snapshot.dim is not None
    assert snapshot.prefix_dim is not None
    full, prefix = snapshot.dim, snapshot.prefix_dim
    lengths = sorted({d for d in (*dims, prefix) if 0 < d < full} | {full})
    source = calibrate.GIVEN if queries is not None else calibrate.STORED
    groups = _probes(snapshot, queries, namespace, by, count)
    lists = sorted({k * times for times in SHORTLISTS})
    job.step("exact answers", 0, 1)
    answered = [answer_exactly(session, snapshot, probes, lists[-1] + 8, lengths) for probes in groups]
    job.step("exact answers", 1, 1)
    curves = {
        d: tuple((s, float(np.mean(shares_found(answered, k, d, s, full)))) for s in lists)
        for d in lengths
        if d < full
    }
    bench = Bench(session, snapshot, answered[0], k, sample, qrels)
    tiers: list[Tier] = []
    for number, d in enumerate(lengths):
        job.step("tiers", number, len(lengths))
        tiers += bench.measure(d, lists, answered)
    job.step("tiers", len(lengths), len(lengths))
    stats = statistics.stats(session)
    tiers += bench.as_it_stands(answer, answered, stats.bytes_on_disk, stats.bytes_by_kind["index"])
    decision = decide(tiers, prefix, full, k)
    warnings = _warnings(session, snapshot, answered, k, source, namespace)
    report = TierReport(
        path=str(session.path), k=k, dim=full, prefix_dim=prefix, rows=snapshot.rows(), sample=bench.rows,
        queries=sum(len(one.probes.vectors) for one in answered), source=source, threads=session.threads,
        bytes_on_disk=stats.bytes_on_disk, tiers=tuple(tiers), curves=curves,
        recommendation=decision.sentence, recommended_prefix_dim=decision.prefix_dim,
        summary=decision.summary, warnings=tuple(warnings),
        strata=tuple(_strata(session, answered, k, lengths, by, full, prefix)) if by is not None else (),
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    return report


def _probes(
    snapshot: Snapshot, queries: NDArray[np.float32] | None, namespace: str, by: str | None, count: int
) -> list[Probes]:
    sizes = {namespace: rows_in(snapshot, namespace)}
    if queries is not None:
        _check_enough(sizes[namespace], namespace)
        return [questions(namespace, queries)]
    if by == "namespace":
        names = {name for part in snapshot.segments for name in part.segment.namespaces()}
        if snapshot.tail is not None:
            names |= set(snapshot.tail.namespaces())
        counted = {name: rows_in(snapshot, name) for name in names | {namespace}}
        sizes = dict(sorted(counted.items(), key=lambda item: -item[1])[:_STRATA])
    sizes = {name: size for name, size in sizes.items() if size > 1}
    total = sum(sizes.values())
    _check_enough(total, namespace)
    return [
        calibrate.stored(snapshot, name, min(-(-count * size // total), size), size)
        for name, size in sizes.items()
    ]


def _check_enough(rows: int, namespace: str) -> None:
    if rows < _FEWEST:
        raise InvalidInput(
            f"{namespace_words(namespace)} has {rows} rows with vectors; a report on tiers needs {_FEWEST}, "
            "and says little with fewer than a few thousand"
        )


def _warnings(
    session: Session,
    snapshot: Snapshot,
    answered: Sequence[AnsweredProbes],
    k: int,
    source: str,
    namespace: str,
) -> list[str]:
    """Warnings for the reader, above all where the caller's queries are unlike the stored rows."""
    count = sum(len(one.probes.vectors) for one in answered)
    told = [] if count >= 50 else [f"only {count} queries: the intervals are wide"]
    size = rows_in(snapshot, namespace)
    if source != calibrate.GIVEN:
        return told
    full, prefix = snapshot.dim or 0, snapshot.prefix_dim or 0
    probes = calibrate.stored(snapshot, namespace, min(100, size), size)
    stored = [answer_exactly(session, snapshot, probes, 2 * k + 8, sorted({prefix, full}))]
    for shortlist in (k, 2 * k):
        given = confidence.of_shares(shares_found(answered, k, prefix, shortlist, full), k)
        other = confidence.of_shares(shares_found(stored, k, prefix, shortlist, full), k)
        if given.high < other.low or given.low > other.high:
            harder = "harder" if given.mean < other.mean else "easier"
            told.append(
                f"your queries are {harder} than stored rows taken as queries: a shortlist of {shortlist} "
                f"finds {given.mean:.3f} [{given.low:.3f}, {given.high:.3f}] for them and {other.mean:.3f} "
                f"[{other.low:.3f}, {other.high:.3f}] for stored rows; calibrate with your queries"
            )
            break
    best = [float(np.median(one[0].exact[full].scores[:, 0])) for one in (answered, stored)]
    if abs(best[0] - best[1]) > 0.1:
        told.append(
            f"your queries lie apart from the stored rows: the best answer has a median score of "
            f"{best[0]:.2f}, for stored rows as queries {best[1]:.2f}"
        )
    return told


def _strata(
    session: Session,
    answered: Sequence[AnsweredProbes],
    k: int,
    dims: Sequence[int],
    by: str,
    full: int,
    prefix: int,
) -> list[Stratum]:
    """Recall by namespace, or by the value that a field has in the query's own row or its best answer."""
    values = [value for one in answered for value in _values(session, one, by, full)]
    ways = [(f"{d} dims, scan", d, k) for d in dims if d < full]
    ways += [(f"{prefix} + re-rank of {s}", prefix, s) for s in (2 * k, 5 * k) if prefix < full]
    common = sorted(set(values), key=lambda value: (-values.count(value), value))[:_STRATA]
    strata = []
    for name, d, shortlist in ways:
        shares = shares_found(answered, k, d, shortlist, full)
        for value in common:
            own = shares[[one == value for one in values]]
            span = confidence.of_shares(own, k)
            strata.append(Stratum(value, name, len(own), span.mean, span.low, span.high))
    return strata


def _values(session: Session, answered: AnsweredProbes, by: str, full: int) -> list[str]:
    count = len(answered.probes.vectors)
    if by == "namespace":
        return [answered.probes.namespace or "(unnamed)"] * count
    own = answered.probes.own
    keys = np.where(own >= 0, own, answered.exact[full].keys[:, 0]).tolist()
    with session.catalogue.read() as connection:
        found = {row.key: metadata_of(row.metadata) or {} for row in rows.by_key(connection, set(keys))}
    return [str(found.get(key, {}).get(by, "(none)")) for key in keys]
