"""From a checked request to a Result: search a snapshot, then hydrate the hits from the same generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.core import Core
from mrlstore.errors import CorruptStore
from mrlstore.explain import explain
from mrlstore.plan import Effort
from mrlstore.search import Answer, Request, Searched, search
from mrlstore.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Hit, Plan, Result, SegmentPlan

_T = TypeVar("_T")
_OPTIMISTIC_TRIES = 2


@dataclass(frozen=True)
class Wanted:
    """What a hit is to carry, and the least score it needs."""

    metadata: bool = False
    document: bool = False
    vector: bool = False
    min_score: float | None = None


def answer(core: Core, latest: Snapshot, request: Request, wanted: Wanted) -> Result:
    """Answer one query from one generation: `latest`, if it has not moved."""
    return _consistently(
        core, latest, lambda snapshot, connection: _run(core, snapshot, request, wanted, connection)
    )


def answer_many(core: Core, latest: Snapshot, requests: Sequence[Request], wanted: Wanted) -> list[Result]:
    """Answer queries in the order given, all from one generation, on the store's threads."""

    def run(snapshot: Snapshot, connection: Connection | None) -> list[Result]:
        def one(request: Request) -> Result:
            return _run(core, snapshot, request, wanted, connection)

        if core.threads == 1 or connection is not None or len(requests) < 2:
            return [one(request) for request in requests]
        with ThreadPoolExecutor(
            min(core.threads, len(requests)), thread_name_prefix="mrlstore-query"
        ) as pool:
            return list(pool.map(one, requests))

    return _consistently(core, latest, run)


def _consistently(core: Core, latest: Snapshot, run: Callable[[Snapshot, Connection | None], _T]) -> _T:
    """Run on one generation.

    Twice without holding anything, checking afterwards that it has not moved; if it has both times, a third
    time wholly inside one read transaction.
    """
    for _ in range(_OPTIMISTIC_TRIES):
        try:
            return run(latest, None)
        except SnapshotMoved:
            latest = core.snapshots.latest()
    while True:
        try:
            with core.catalogue.read() as connection:
                return run(core.snapshots.at(connection), connection)
        except SnapshotMoved:  # another thread knows a newer generation than this transaction: begin again
            continue


def stored_vector(core: Core, namespace: str, id: str) -> NDArray[np.float32] | None:
    """The vector of a row in its original length, float32 [dim]; None if the row or its vector is missing."""
    while True:
        try:
            with core.catalogue.read() as connection:
                snapshot = core.snapshots.at(connection)
                found = next(rows.by_id(connection, namespace, [id]), None)
                if found is None or found.bare:
                    return None
                return vectors_of(snapshot, [found.key])[found.key]
        except SnapshotMoved:
            continue


def vectors_of(snapshot: Snapshot, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Original vectors, float32 [dim], by key; every key must have one."""
    vectors = {}
    for position, part, row in snapshot.locate(np.array(keys, dtype=np.int64)):
        vectors[keys[position]] = part.original(row)
    missing = set(keys) - set(vectors)
    if missing:
        raise CorruptStore(
            "catalogue.db", f"the vector of key {min(missing)} is in no segment and not in the tail"
        )
    return vectors


def fetch_metadata(
    connection: Connection, keys: NDArray[np.int64], generation: int
) -> list[dict[str, Any] | None]:
    """Metadata of rows by key, None where a row has none; SnapshotMoved if the generation is another."""
    if settings.generation(connection) != generation:
        raise SnapshotMoved
    texts = {row.key: row.metadata for row in rows.by_key(connection, keys.tolist())}
    return [parse_metadata(texts.get(key)) for key in keys.tolist()]


def parse_metadata(text: str | None) -> dict[str, Any] | None:
    """Metadata from its JSON text."""
    return rows.metadata_of(text)


def _run(
    core: Core, snapshot: Snapshot, request: Request, wanted: Wanted, connection: Connection | None
) -> Result:
    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        if connection is not None:
            return fetch_metadata(connection, keys, snapshot.generation)
        with core.catalogue.read() as own:
            return fetch_metadata(own, keys, snapshot.generation)

    started = 0.0
    if request.watch is not None:
        request.watch.clear()  # of a try that came to nothing
        started = time.perf_counter()
    found = search(snapshot, request, fetch)
    if core.audit is not None and not (request.exact or request.dim is not None):
        core.audit.offer(snapshot, request, found, fetch)
    searched = time.perf_counter() if request.watch is not None else 0.0
    count = len(found.scores)
    if wanted.min_score is not None:
        count = int(np.count_nonzero(found.scores >= wanted.min_score))
    names, told = found.ids()[:count], describe(snapshot.generation, request, found)
    scores = found.scores[:count]
    hits = None
    if wanted.metadata or wanted.document or wanted.vector:
        hits = _hits(core, snapshot, found, names, wanted, connection)
    result = Result(names, scores, told, hits)
    if request.watch is None:
        return result
    explained = explain(request, found, result.hits, started, searched)
    return Result(names, scores, replace(result.plan, explanation=explained), hits)


def describe(generation: int, request: Request, found: Answer) -> Callable[[], Plan]:
    """What was done, and the recall that calibration lets expect; made when it is asked for.

    What it keeps until then is small, and holds no segment open.
    """
    if request.exact or request.dim is not None:
        return partial(_plan, generation, None, found.searched, found.matching)
    effort = request.effort
    if found.matching:
        effort = request.effort_for(found.matching, sum(part.rows for part in found.searched))
    return partial(_plan, generation, effort, found.searched, found.matching)


def _plan(
    generation: int, effort: Effort | None, searched: tuple[Searched, ...], matching: int | None
) -> Plan:
    segments = tuple(SegmentPlan(*part) for part in searched)
    if effort is None:
        return Plan(generation, "exact", segments, matching)
    return Plan(
        generation, effort.name, segments, matching,
        target=effort.target, expected=effort.expected, remark=effort.remark,
    )  # fmt: skip


def _hits(
    core: Core,
    snapshot: Snapshot,
    found: Answer,
    names: list[str],
    wanted: Wanted,
    connection: Connection | None,
) -> list[Hit]:
    count = len(names)
    scores, keys, stored = found.scores[:count].tolist(), found.keys[:count].tolist(), {}
    if wanted.metadata or wanted.document:
        if connection is not None:
            stored = _rows(connection, keys, snapshot.generation)
        else:
            with core.catalogue.read() as own:
                stored = _rows(own, keys, snapshot.generation)
    return [
        Hit(
            name,
            score,
            parse_metadata(stored[key].metadata) if wanted.metadata else None,
            stored[key].document if wanted.document else None,
            part.original(row) if wanted.vector else None,
        )
        for name, score, key, (part, row) in zip(names, scores, keys, found.places[:count], strict=True)
    ]


def _rows(connection: Connection, keys: list[int], generation: int) -> dict[int, rows.Row]:
    if settings.generation(connection) != generation:
        raise SnapshotMoved
    stored = {row.key: row for row in rows.by_key(connection, keys)}
    if len(stored) < len(keys):
        missing = set(keys) - set(stored)
        words = f"the vector of key {min(missing)} has no row" if missing else "two vectors have one key"
        raise CorruptStore(connection.filename, words)
    return stored
