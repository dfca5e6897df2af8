"""A sample of the rows in memory, on which every tier is built and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.planning import confidence
from mrlstore.planning.confidence import Interval
from mrlstore.recall import calibrate, ground_truth
from mrlstore.recall.tiers.answered import AnsweredProbes, rows_in, share_found, shares_found
from mrlstore.recall.tiers.figures import GOAL, Kind, Tier
from mrlstore.search.group_search import Exact, Walk, search_group
from mrlstore.search.queries import Queries, prepare
from mrlstore.search.workspace import GroupHits
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import Snapshot
from mrlstore.storage.vector_rows import inverse_lengths
from mrlstore.system.threads import Threads

_EFS: Final = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_TIMED: Final = 100  # queries whose latency is measured
_ROUNDS: Final = 3
_KEY_BYTES: Final = 12  # row key and 1 / length

Qrels = Mapping[Hashable, Mapping[str, float]]  # query -> id -> grade


@dataclass
class Timing:
    """Seconds of single queries, and queries per second."""

    seconds: NDArray[np.float64]
    qps_one: float
    qps_all: float | None
    found: list[NDArray[np.int64]] = field(default_factory=list)  # keys, best first, by query


class Bench:
    """What is built and timed on the sample."""

    def __init__(
        self,
        session: Session,
        snapshot: Snapshot,
        answered: AnsweredProbes,
        k: int,
        sample: int,
        qrels: Qrels | None,
    ) -> None:
        self.session, self.k, self.qrels, self.answered = session, k, qrels, answered
        size = rows_in(snapshot, answered.probes.namespace)
        wanted = (
            size if qrels is not None else min(sample, size)
        )  # with judgements every judged row must be in the sample
        chosen = calibrate.stored(snapshot, answered.probes.namespace, wanted, size)
        self.vectors, self.keys = chosen.vectors.astype(np.float16), chosen.own
        self.rows, self.whole = len(self.keys), self.vectors.shape[1]
        self.prefix = snapshot.prefix_dim or self.whole
        probes = answered.probes
        self.queries, self.own = probes.vectors[:_TIMED], probes.own[:_TIMED]
        self.names = self._names() if qrels is not None else {}

    def measure(self, d: int, lists: Sequence[int], answered: Sequence[AnsweredProbes]) -> list[Tier]:
        """Scan, graph and, below the full length, two stages at several shortlists."""
        blocks = iter([ground_truth.Rows(self.vectors, self.keys, None)])
        nearest = ground_truth.nearest(
            blocks, self.queries, self.k + 8, dims=(d, self.whole), own=self.own, threads=self.session.threads
        )
        here, goal = nearest[d, "all"], nearest[self.whole, "all"]
        alone = self._group(d)
        indexed = self._index(alone, d)
        scanned = self._time(lambda query, k: search_group(Exact(alone, k), query), d)
        ef, walked = self._enough(indexed, here, d)
        recall = confidence.of_shares(shares_found(answered, self.k, d, self.k, self.whole), self.k)
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

                def search(query: Queries, k: int, wide: int = wide, s: int = s) -> GroupHits:
                    return search_group(Walk(both, k, wide, s), query)

                timed = self._time(search, self.whole)
                tiers.append(
                    self._tier("two-stage", d, s, wide, self._recall(timed, goal), timed, disk, index_bytes)
                )
        return tiers

    def as_it_stands(
        self,
        answer: Callable[[NDArray[np.float32], int, float], tuple[list[int], float]],
        answered: Sequence[AnsweredProbes],
        on_disk: int,
        in_index: int,
    ) -> list[Tier]:
        """The store's own `query` at three recall targets, its time in Python included."""
        tiers = []
        rows_held = max(
            sum(rows_in(self.session.snapshots.latest(), one.probes.namespace) for one in answered), 1
        )
        one = answered[0]
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
            span = confidence.of_shares(np.array(shares), self.k)
            spent = np.array(seconds)
            timing = Timing(spent, 1 / float(spent.mean()), None, found)
            disk, memory = on_disk / rows_held, in_index / rows_held
            tier = self._tier("store", self.prefix, 0, 0, span, timing, disk, memory)
            tiers.append(_renamed(tier, f"this store, target {target:g}", rows_held))
        return tiers

    def _tier(
        self, kind: Kind, d: int, shortlist: int, ef: int, recall: Interval, timed: Timing, disk: float,
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
        settings = self.session.settings
        arrays, info = build_index(
            group.vectors, np.array([0, self.rows]), prefix_dim=d, m=settings.m,
            ef_construction=settings.ef_construction, threads=self.session.threads, builder=settings.graph,
        )  # fmt: skip
        index = open_index(arrays, info, 0, 0, self.rows)
        return Group(group.vectors, group.inv_norms, group.keys, index)

    def _enough(self, group: Group, here: ground_truth.Nearest, d: int) -> tuple[int, Timing]:
        """The smallest ef that finds the share GOAL of what a scan of these dims finds, and its timing."""
        for ef in (max(self.k, round(ef * (self.k / 10) ** 0.5)) for ef in _EFS):
            wide, s = min(ef, self.rows), min(5 * self.k, ef, self.rows)

            def search(query: Queries, k: int, wide: int = wide, s: int = s) -> GroupHits:
                return search_group(Walk(group, k, wide, s), query)

            found = self._answers(search, d)
            if self._recall(Timing(np.zeros(1), 0, 0, found), here).mean >= GOAL or wide == self.rows:
                break
        return wide, self._time(search, d)

    def _answers(self, search: Callable[[Any, int], GroupHits], d: int) -> list[NDArray[np.int64]]:
        return [self._answer(search, number, d)[0] for number in range(len(self.queries))]

    def _answer(
        self, search: Callable[[Any, int], GroupHits], number: int, d: int
    ) -> tuple[NDArray[np.int64], float]:
        own = int(self.own[number])
        started = time.perf_counter()
        found = search(prepare(self.queries[number, :d], min(d, self.prefix)), self.k + (own >= 0))
        elapsed = time.perf_counter() - started
        keys = self.keys[found.rows[0, : found.counts[0, 0]]]
        return keys[keys != own][: self.k], elapsed

    def _time(self, search: Callable[[Any, int], GroupHits], d: int) -> Timing:
        numbers = list(range(len(self.queries)))
        answers = [
            self._answer(search, number, d) for number in numbers
        ]  # a first round, to warm the caches; it is not timed
        seconds = np.median(
            [[self._answer(search, number, d)[1] for number in numbers] for _ in range(_ROUNDS)], axis=0
        )
        threads = self.session.threads
        with Threads(threads) as pool:
            shares = [_ROUNDS * numbers[i::threads] for i in range(threads)]
            started = time.perf_counter()
            list(pool.map(lambda share: [self._answer(search, number, d) for number in share], shares))
            qps_all = _ROUNDS * len(numbers) / (time.perf_counter() - started)
        return Timing(seconds, 1 / float(seconds.mean()), qps_all, [keys for keys, _ in answers])

    def _recall(self, timed: Timing, exact: ground_truth.Nearest) -> Interval:
        shares = [
            share_found(exact.accepted(number, self.k), keys, self.k)
            for number, keys in enumerate(timed.found)
        ]
        return confidence.of_shares(np.array(shares), self.k)

    def _names(self) -> dict[int, str]:
        with self.session.catalogue.read() as connection:
            return {row.key: row.id for row in rows.by_key(connection, self.keys.tolist())}

    def _ndcg(self, timed: Timing) -> float | None:
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


def ndcg(ids: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """NDCG@k with gains 2^grade - 1 discounted by log2(rank + 1)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.array([2 ** grades.get(id, 0) - 1 for id in ids[:k]])
    best = np.sort([2**grade - 1 for grade in grades.values()])[::-1][:k]
    ideal = float(np.sum(best * discounts[: len(best)]))
    return float(np.sum(gains * discounts[: len(gains)])) / ideal if ideal > 0 else 0.0
