"""From a checked request to a Result: search a snapshot, then hydrate the hits from the same generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
from mrlstore.search import Answer, Request, Searched, search_many
from mrlstore.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Hit, Plan, Result, SegmentPlan

_T = TypeVar("_T")
_RUN = 64  # queries of a batch that a thread takes at a time


@dataclass(frozen=True)
class Wanted:
    """What a hit is to carry, and the least score it needs."""

    metadata: bool = False
    document: bool = False
    vector: bool = False
    min_score: float | None = None


def answer(core: Core, latest: Snapshot, request: Request, wanted: Wanted) -> Result:
    """Answer one query from one generation: `latest`, if it has not moved."""
    try:
        return _run(core, latest, (request,), wanted, None)[0]
    except SnapshotMoved:
        return _consistently(core, lambda snapshot, own: _run(core, snapshot, (request,), wanted, own)[0])


def answer_many(core: Core, latest: Snapshot, requests: Sequence[Request], wanted: Wanted) -> list[Result]:
    """Answer queries in the order given, all from one generation, on the store's threads.

    Threads take them in runs, each a few calls of the kernels: Python's lock is held between these alone.
    """
    size = max(1, min(_RUN, -(-len(requests) // core.threads)))
    if requests and requests[0].watch is not None:  # each is told about by itself
        size = 1
    runs = [requests[i : i + size] for i in range(0, len(requests), size)]

    def run(snapshot: Snapshot, connection: Connection | None) -> list[Result]:
        def one(some: Sequence[Request]) -> list[Result]:
            return _run(core, snapshot, some, wanted, connection)

        if core.threads == 1 or connection is not None or len(runs) < 2:
            return [result for some in runs for result in one(some)]
        with ThreadPoolExecutor(min(core.threads, len(runs)), thread_name_prefix="mrlstore-query") as pool:
            return [result for results in pool.map(one, runs) for result in results]

    try:
        return run(latest, None)
    except SnapshotMoved:
        return _consistently(core, run)


def _consistently(core: Core, run: Callable[[Snapshot, Connection | None], _T]) -> _T:
    """Run on one generation: once more on the newest without holding anything, then in a read transaction."""
    with suppress(SnapshotMoved):
        return run(core.snapshots.latest(), None)
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
    core: Core,
    snapshot: Snapshot,
    requests: Sequence[Request],
    wanted: Wanted,
    connection: Connection | None,
) -> list[Result]:
    """Answer requests that differ in their query alone."""

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        with _reading(core, connection) as own:
            return fetch_metadata(own, keys, snapshot.generation)

    first, started = requests[0], 0.0
    if first.watch is not None:
        first.watch.clear()  # of a try that came to nothing
        started = time.perf_counter()
    answers = search_many(snapshot, requests, fetch)
    if core.audit is not None and not (first.exact or first.dim is not None):
        for request, found in zip(requests, answers, strict=True):
            core.audit.offer(snapshot, request, found, fetch)
    searched = time.perf_counter() if first.watch is not None else 0.0
    scores, names = [found.scores for found in answers], [found.ids() for found in answers]
    if wanted.min_score is not None:
        scores = [some[: int(np.count_nonzero(some >= wanted.min_score))] for some in scores]
        names = [ids[: len(some)] for ids, some in zip(names, scores, strict=True)]
    plans = [describe(snapshot.generation, first, found) for found in answers]
    hits = _hits(core, snapshot, answers, scores, names, wanted, connection)
    results = list(map(Result, names, scores, plans, hits))
    if first.watch is not None:
        (result,), (found,) = results, answers
        explained = explain(first, found, result.hits, started, searched)
        return [Result(result.ids, result.scores, replace(result.plan, explanation=explained), hits[0])]
    return results


@contextmanager
def _reading(core: Core, connection: Connection | None) -> Iterator[Connection]:
    """The transaction that is under way, or one of its own."""
    if connection is not None:
        yield connection
    else:
        with core.catalogue.read() as own:
            yield own


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
    answers: Sequence[Answer],
    scores: Sequence[NDArray[np.float32]],
    names: Sequence[list[str]],
    wanted: Wanted,
    connection: Connection | None,
) -> list[list[Hit]] | list[None]:
    """The hits of each answer with what is wanted; None where that is nothing."""
    if not (wanted.metadata or wanted.document or wanted.vector):
        return [None] * len(answers)
    keys = [found.keys[: len(some)].tolist() for found, some in zip(answers, scores, strict=True)]
    stored: dict[int, rows.Row] = {}
    if wanted.metadata or wanted.document:
        with _reading(core, connection) as own:
            stored = _rows(own, keys, snapshot.generation)
    return [
        [
            Hit(
                name,
                score,
                parse_metadata(stored[key].metadata) if wanted.metadata else None,
                stored[key].document if wanted.document else None,
                part.original(row) if wanted.vector else None,
            )
            for name, score, key, (part, row) in zip(*hit, found.places(), strict=False)
        ]
        for found, *hit in zip(answers, names, map(np.ndarray.tolist, scores), keys, strict=True)
    ]


def _rows(connection: Connection, keys: list[list[int]], generation: int) -> dict[int, rows.Row]:
    """The rows of all answers; no answer names a row twice, and all are there."""
    if settings.generation(connection) != generation:
        raise SnapshotMoved
    if any(len(set(some)) < len(some) for some in keys):
        raise CorruptStore(connection.filename, "two vectors have one key")
    asked = {key for some in keys for key in some}
    stored = {row.key: row for row in rows.by_key(connection, asked)}
    if len(stored) < len(asked):
        missing = asked - set(stored)
        raise CorruptStore(connection.filename, f"the vector of key {min(missing)} has no row")
    return stored
