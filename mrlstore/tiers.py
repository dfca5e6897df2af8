"""The tier report: what each length of prefix, alone and in two stages, gives and costs on one's own data.

Recall of scans is measured by exact ranks over all rows; latencies and the losses of graphs on a sample of
the rows, with a graph of its own for every tier, so that each is judged at its best. `tierpage` turns a
report into pages and plots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore import calibrate, graph, intervals, statistics, truth
from mrlstore.catalogue import rows
from mrlstore.core import Core
from mrlstore.efforts import Probes
from mrlstore.errors import InvalidInput
from mrlstore.group import Found, Group, Query, prepare, search_exact, search_graph
from mrlstore.intervals import Interval
from mrlstore.query import parse_metadata
from mrlstore.snapshot import Snapshot
from mrlstore.tierreport import GOAL, Kind, Stratum, Tier, TierReport, recommend
from mrlstore.types import Progress
from mrlstore.vectors import inverse_lengths

DIMS: Final = (256, 512, 768, 1536, 3072)
SHORTLISTS: Final = (1, 2, 3, 5, 6, 10, 20)  # times k
_EFS: Final = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_TIMED: Final = 100  # queries that are timed
_ROUNDS: Final = 3
_STRATA: Final = 12
_KEY_BYTES: Final = 12  # row key and 1 / length

Qrels = Mapping[Hashable, Mapping[str, float]]  # query -> id -> grade


@dataclass(frozen=True)
class _Asked:
    """Queries of one namespace with their exact answers."""

    probes: Probes
    exact: Mapping[int, truth.Nearest]  # by dim, over all rows

    def accepted(self, number: int, k: int, dim: int) -> NDArray[np.int64]:
        return self.exact[dim].accepted(number, k)


@dataclass
class _Timing:
    """Seconds of single queries, and queries per second."""

    seconds: NDArray[np.float64]
    qps_one: float
    qps_all: float | None
    found: list[NDArray[np.int64]] = field(default_factory=list)  # keys, best first, by query


def tier_report(
    core: Core,
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
    progress: Callable[[Progress], None],
) -> TierReport:
    """Measure; see `RecallTools.tier_report`. `answer` asks the store as it stands: (keys, seconds)."""
    started = time.perf_counter()
    snapshot = core.snapshots.latest()
    assert snapshot.dim is not None
    assert snapshot.prefix_dim is not None
    full, prefix = snapshot.dim, snapshot.prefix_dim
    lengths = sorted({d for d in (*dims, prefix) if 0 < d < full} | {full})
    source = calibrate.GIVEN if queries is not None else calibrate.STORED
    groups = _questions(snapshot, queries, namespace, by, count)
    lists = sorted({k * times for times in SHORTLISTS})
    progress(Progress("exact answers", 0, 1))
    asked = [_ask(core, snapshot, probes, lists[-1] + 8, lengths) for probes in groups]
    progress(Progress("exact answers", 1, 1))
    curves = {
        d: tuple((s, float(np.mean(_shares(asked, k, d, s, full)))) for s in lists)
        for d in lengths
        if d < full
    }
    bench = _Bench(core, snapshot, asked[0], k, sample, qrels)
    tiers: list[Tier] = []
    for number, d in enumerate(lengths):
        progress(Progress("tiers", number, len(lengths)))
        tiers += bench.measure(d, lists, asked)
    progress(Progress("tiers", len(lengths), len(lengths)))
    stats = statistics.stats(core)
    tiers += bench.as_it_stands(answer, asked, stats.bytes_on_disk, stats.bytes_by_kind["index"])
    warnings = _warnings(core, snapshot, asked, k, source, namespace)
    report = TierReport(
        path=str(core.path), k=k, dim=full, prefix_dim=prefix, rows=snapshot.rows(), sample=bench.rows,
        queries=sum(len(one.probes.vectors) for one in asked), source=source, threads=core.threads,
        bytes_on_disk=stats.bytes_on_disk, tiers=tuple(tiers), curves=curves,
        recommendation=recommend(tiers, full), warnings=tuple(warnings),
        strata=tuple(_strata(core, asked, k, lengths, by, full, prefix)) if by is not None else (),
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    return report


def _questions(
    snapshot: Snapshot, queries: NDArray[np.float32] | None, namespace: str, by: str | None, count: int
) -> list[Probes]:
    if queries is not None:
        return [Probes(namespace, queries, np.full(len(queries), -1, dtype=np.int64))]
    sizes = {namespace: _size(snapshot, namespace)}
    if by == "namespace":
        names = {name for part in snapshot.segments for name in part.segment.namespaces()}
        if snapshot.tail is not None:
            names |= set(snapshot.tail.buffer.numbers)
        counted = {name: _size(snapshot, name) for name in names | {namespace}}
        sizes = dict(sorted(counted.items(), key=lambda item: -item[1])[:_STRATA])
    sizes = {name: size for name, size in sizes.items() if size > 1}
    total = sum(sizes.values())
    if total < 20:
        raise InvalidInput(
            f"tier_report: namespace {namespace!r} has {total} rows with vectors; 20 are needed"
        )
    return [
        calibrate.stored(snapshot, name, min(-(-count * size // total), size), size)
        for name, size in sizes.items()
    ]


def _size(snapshot: Snapshot, namespace: str) -> int:
    return sum(
        len(block.keys) if block.live is None else int(np.count_nonzero(block.live))
        for block in truth.rows_of(snapshot, namespace)
    )


def _ask(core: Core, snapshot: Snapshot, probes: Probes, depth: int, dims: Sequence[int]) -> _Asked:
    blocks = truth.rows_of(snapshot, probes.namespace)
    found = truth.nearest(blocks, probes.vectors, depth, dims=dims, own=probes.own, threads=core.threads)
    return _Asked(probes, {d: found[d, "all"] for d in dims})


def _shares(asked: Sequence[_Asked], k: int, d: int, shortlist: int, full: int) -> NDArray[np.float64]:
    """Recall@k of each query where the best `shortlist` by the first d dims are re-ranked in full."""
    return np.array(
        [
            share_found(one.accepted(number, k, full), one.exact[d].keys[number, :shortlist], k)
            for one in asked
            for number in range(len(one.probes.vectors))
        ]
    )


def share_found(accepted: NDArray[np.int64], found: NDArray[np.int64], k: int) -> float:
    """The share of the true best k that was found; `accepted` may be more than k where scores are equal."""
    wanted = min(k, len(accepted))
    return min(int(np.isin(accepted, found).sum()), wanted) / wanted if wanted else 1.0


def ndcg(ids: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """NDCG@k with gains 2^grade - 1 discounted by log2(rank + 1)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.array([2 ** grades.get(id, 0) - 1 for id in ids[:k]])
    best = np.sort([2**grade - 1 for grade in grades.values()])[::-1][:k]
    ideal = float(np.sum(best * discounts[: len(best)]))
    return float(np.sum(gains * discounts[: len(gains)])) / ideal if ideal > 0 else 0.0


class _Bench:
    """A sample of the rows in memory, on which every tier is built and timed."""

    def __init__(
        self, core: Core, snapshot: Snapshot, asked: _Asked, k: int, sample: int, qrels: Qrels | None
    ) -> None:
        self.core, self.k, self.qrels, self.asked = core, k, qrels, asked
        size = _size(snapshot, asked.probes.namespace)
        wanted = size if qrels is not None else min(sample, size)  # every judged row is to be findable
        chosen = calibrate.stored(snapshot, asked.probes.namespace, wanted, size)
        self.vectors, self.keys = chosen.vectors.astype(np.float16), chosen.own
        self.rows, self.whole = len(self.keys), self.vectors.shape[1]
        self.prefix = snapshot.prefix_dim or self.whole
        probes = asked.probes
        self.queries, self.own = probes.vectors[:_TIMED], probes.own[:_TIMED]
        self.names = self._names() if qrels is not None else {}

    def measure(self, d: int, lists: Sequence[int], asked: Sequence[_Asked]) -> list[Tier]:
        """Scan, graph and, below the full length, two stages at several shortlists."""
        blocks = iter([truth.Rows(self.vectors, self.keys, None)])
        exact = truth.nearest(
            blocks, self.queries, self.k + 8, dims=(d, self.whole), own=self.own, threads=self.core.threads
        )
        here, goal = exact[d, "all"], exact[self.whole, "all"]
        alone = self._group(d)
        indexed = self._index(alone, d)
        scanned = self._time(lambda query, k: search_exact(alone, query, k), d)
        ef, walked = self._enough(indexed, here, d)
        recall = intervals.of_shares(_shares(asked, self.k, d, self.k, self.whole), self.k)
        index_bytes = _index_bytes(indexed)
        tiers = [
            self._tier("scan", d, 0, 0, recall, scanned, 2 * d + _KEY_BYTES, 2 * d + 4),
            self._tier("graph", d, 0, ef, self._recall(walked, goal), walked,
                       2 * d + _KEY_BYTES + index_bytes, index_bytes),
        ]  # fmt: skip
        if d < self.whole:
            both = Group(self.vectors, inverse_lengths(self.vectors), self.keys, indexed.index)
            disk = 2 * self.whole + _KEY_BYTES + index_bytes
            for s in lists:
                wide = max(ef, s)

                def ask(query: Query, k: int, wide: int = wide, s: int = s) -> Found:
                    return search_graph(both, query, k, wide, s)

                timed = self._time(ask, self.whole)
                tiers.append(
                    self._tier("two-stage", d, s, wide, self._recall(timed, goal), timed, disk, index_bytes)
                )
        return tiers

    def as_it_stands(
        self,
        answer: Callable[[NDArray[np.float32], int, float], tuple[list[int], float]],
        asked: Sequence[_Asked],
        on_disk: int,
        in_index: int,
    ) -> list[Tier]:
        """The store's own `query` at three targets, all of Python included."""
        tiers = []
        rows_held = max(sum(_size(self.core.snapshots.latest(), one.probes.namespace) for one in asked), 1)
        one = asked[0]
        for target in (0.9, 0.95, 0.99):
            shares, seconds, found = [], [], []
            for number in range(min(len(one.probes.vectors), _TIMED)):
                own = int(one.probes.own[number])
                keys, elapsed = answer(one.probes.vectors[number], self.k + (own >= 0), target)
                kept = [key for key in keys if key != own][: self.k]
                found.append(np.array(kept, dtype=np.int64))
                accepted = one.accepted(number, self.k, self.whole)
                shares.append(share_found(accepted, found[-1], self.k))
                seconds.append(elapsed)
            span = intervals.of_shares(np.array(shares), self.k)
            spent = np.array(seconds)
            timing = _Timing(spent, 1 / float(spent.mean()), None, found)
            disk, memory = on_disk / rows_held, in_index / rows_held
            tier = self._tier("store", self.prefix, 0, 0, span, timing, disk, memory)
            tiers.append(_renamed(tier, f"this store, target {target:g}", rows_held))
        return tiers

    def _tier(
        self, kind: Kind, d: int, shortlist: int, ef: int, recall: Interval, timed: _Timing, disk: float,
        memory: float,
    ) -> Tier:  # fmt: skip
        name = {
            "scan": f"{d} dims, scan", "graph": f"{d} dims, graph", "store": "",
            "two-stage": f"{d} + re-rank of {shortlist}",
        }[kind]  # fmt: skip
        p50, p95 = (float(np.percentile(timed.seconds, p)) * 1000 for p in (50, 95))
        return Tier(
            name, kind, d, shortlist, ef, self.rows, recall.mean, recall.low, recall.high,
            self._ndcg(timed), p50, p95, timed.qps_one, timed.qps_all, disk, memory,
        )  # fmt: skip

    def _group(self, d: int) -> Group:
        if d == self.whole:
            rows_d = self.vectors
        else:
            wide = self.vectors[:, :d].astype(np.float32)
            wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
            rows_d = wide.astype(np.float16)
        return Group(rows_d, inverse_lengths(rows_d), self.keys)

    def _index(self, group: Group, d: int) -> Group:
        settings = self.core.settings
        arrays, info = graph.build_index(
            group.vectors, np.array([0, self.rows]), prefix_dim=d, m=settings.m,
            ef_construction=settings.ef_construction, threads=self.core.threads,
        )  # fmt: skip
        index = graph.open_index(arrays, info, 0, 0, self.rows)
        return Group(group.vectors, group.inv_norms, group.keys, index)

    def _enough(self, group: Group, here: truth.Nearest, d: int) -> tuple[int, _Timing]:
        """The least ef that finds nearly all of what a scan of these dims finds, and its timing."""
        for ef in (max(self.k, round(ef * (self.k / 10) ** 0.5)) for ef in _EFS):
            wide, s = min(ef, self.rows), min(5 * self.k, ef, self.rows)

            def ask(query: Query, k: int, wide: int = wide, s: int = s) -> Found:
                return search_graph(group, query, k, wide, s)

            found = self._answers(ask, d)
            if self._recall(_Timing(np.zeros(1), 0, 0, found), here).mean >= GOAL or wide == self.rows:
                break
        return wide, self._time(ask, d)

    def _answers(self, ask: Callable[[Any, int], Found], d: int) -> list[NDArray[np.int64]]:
        return [self._answer(ask, number, d)[0] for number in range(len(self.queries))]

    def _answer(
        self, ask: Callable[[Any, int], Found], number: int, d: int
    ) -> tuple[NDArray[np.int64], float]:
        own = int(self.own[number])
        started = time.perf_counter()
        found = ask(prepare(self.queries[number, :d], min(d, self.prefix)), self.k + (own >= 0))
        elapsed = time.perf_counter() - started
        keys = self.keys[found.rows]
        return keys[keys != own][: self.k], elapsed

    def _time(self, ask: Callable[[Any, int], Found], d: int) -> _Timing:
        numbers = list(range(len(self.queries)))
        answers = [self._answer(ask, number, d) for number in numbers]  # the round that is not timed
        seconds = np.median(
            [[self._answer(ask, number, d)[1] for number in numbers] for _ in range(_ROUNDS)], axis=0
        )
        threads = self.core.threads
        with ThreadPoolExecutor(threads) as pool:
            shares = [_ROUNDS * numbers[i::threads] for i in range(threads)]
            started = time.perf_counter()
            list(pool.map(lambda share: [self._answer(ask, number, d) for number in share], shares))
            qps_all = _ROUNDS * len(numbers) / (time.perf_counter() - started)
        return _Timing(seconds, 1 / float(seconds.mean()), qps_all, [keys for keys, _ in answers])

    def _recall(self, timed: _Timing, exact: truth.Nearest) -> Interval:
        shares = [
            share_found(exact.accepted(number, self.k), keys, self.k)
            for number, keys in enumerate(timed.found)
        ]
        return intervals.of_shares(np.array(shares), self.k)

    def _names(self) -> dict[int, str]:
        with self.core.catalogue.read() as connection:
            return {row.key: row.id for row in rows.by_key(connection, self.keys.tolist())}

    def _ndcg(self, timed: _Timing) -> float | None:
        if self.qrels is None or not timed.found:
            return None
        values = [
            ndcg([self.names.get(key, "") for key in keys.tolist()], self.qrels[number], self.k)
            for number, keys in enumerate(timed.found)
            if number in self.qrels
        ]
        return float(np.mean(values)) if values else None


def _renamed(tier: Tier, name: str, count: int) -> Tier:
    return Tier(**{**asdict(tier), "name": name, "rows": count})


def _index_bytes(group: Group) -> float:
    """Bytes of codes and links of one row."""
    index = group.index
    assert index is not None
    arrays = (index.codes, index.neighbours, index.entries, index.entry_codes)
    return sum(array.nbytes for array in arrays if array is not None) / max(len(group.keys), 1)


def _warnings(
    core: Core, snapshot: Snapshot, asked: Sequence[_Asked], k: int, source: str, namespace: str
) -> list[str]:
    """What a reader should know: above all whether the caller's queries are unlike the stored rows."""
    count = sum(len(one.probes.vectors) for one in asked)
    told = [] if count >= 50 else [f"only {count} queries: the intervals are wide"]
    size = _size(snapshot, namespace)
    if source != calibrate.GIVEN or size < 20:
        return told
    full, prefix = snapshot.dim or 0, snapshot.prefix_dim or 0
    probes = calibrate.stored(snapshot, namespace, min(100, size), size)
    stored = [_ask(core, snapshot, probes, 2 * k + 8, sorted({prefix, full}))]
    for shortlist in (k, 2 * k):
        given = intervals.of_shares(_shares(asked, k, prefix, shortlist, full), k)
        other = intervals.of_shares(_shares(stored, k, prefix, shortlist, full), k)
        if given.high < other.low or given.low > other.high:
            harder = "harder" if given.mean < other.mean else "easier"
            told.append(
                f"your queries are {harder} than stored rows taken as queries: a shortlist of {shortlist} "
                f"finds {given.mean:.3f} [{given.low:.3f}, {given.high:.3f}] for them and {other.mean:.3f} "
                f"[{other.low:.3f}, {other.high:.3f}] for stored rows; calibrate with your queries"
            )
            break
    best = [float(np.median(one[0].exact[full].scores[:, 0])) for one in (asked, stored)]
    if abs(best[0] - best[1]) > 0.1:
        told.append(
            f"your queries lie apart from the stored rows: the best answer has a median score of "
            f"{best[0]:.2f}, for stored rows as queries {best[1]:.2f}"
        )
    return told


def _strata(
    core: Core, asked: Sequence[_Asked], k: int, dims: Sequence[int], by: str, full: int, prefix: int
) -> list[Stratum]:
    """Recall by namespace, or by the value that a field has in the query's own row or its best answer."""
    values = [value for one in asked for value in _values(core, one, by, full)]
    ways = [(f"{d} dims, scan", d, k) for d in dims if d < full]
    ways += [(f"{prefix} + re-rank of {s}", prefix, s) for s in (2 * k, 5 * k) if prefix < full]
    common = sorted(set(values), key=lambda value: (-values.count(value), value))[:_STRATA]
    strata = []
    for name, d, shortlist in ways:
        shares = _shares(asked, k, d, shortlist, full)
        for value in common:
            own = shares[[one == value for one in values]]
            span = intervals.of_shares(own, k)
            strata.append(Stratum(value, name, len(own), span.mean, span.low, span.high))
    return strata


def _values(core: Core, asked: _Asked, by: str, full: int) -> list[str]:
    count = len(asked.probes.vectors)
    if by == "namespace":
        return [asked.probes.namespace or "(unnamed)"] * count
    own = asked.probes.own
    keys = np.where(own >= 0, own, asked.exact[full].keys[:, 0]).tolist()
    with core.catalogue.read() as connection:
        found = {row.key: parse_metadata(row.metadata) or {} for row in rows.by_key(connection, set(keys))}
    return [str(found.get(key, {}).get(by, "(none)")) for key in keys]
