"""From a checked request to a Result: search a snapshot, then hydrate the hits from the same generation."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore import plan
from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Connection
from mrlstore.core import Core
from mrlstore.errors import CorruptStore
from mrlstore.explain import explain
from mrlstore.group import Queries, prepare
from mrlstore.hydrate import hits_of, metadata_of_keys, rows_of, vectors_of
from mrlstore.search import Answer, Outline, Request, Search, Watch
from mrlstore.segment import Fetch
from mrlstore.shortcut import Best, shortcut
from mrlstore.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Hit, Result
from mrlstore.wanted import NOTHING, Asked, Wanted
from mrlstore.where import Node

_T = TypeVar("_T")
_RUN = 64  # queries of a batch that a thread takes at a time


def at_once(core: Core, latest: Snapshot, asked: Asked, node: Node | None, vector: Any) -> Result | None:
    """Answer a query that is like one before, and usual in every way; None leaves it to `answer`."""
    search: Search | None = latest.ready.get(asked, node)
    if search is None or search.shortcut is None or core.audit is not None:
        return None
    found: Best | None = search.shortcut(vector)
    if found is None:
        return None
    if asked.wanted is NOTHING:
        return Result(found.ids, found.scores, found.plan)
    try:
        with core.catalogue.connection() as connection:
            hits = _hits(connection, latest.generation, found, found.ids, asked.wanted)
    except SnapshotMoved:
        return None
    return Result(found.ids, found.scores, found.plan, hits)


def answer(core: Core, latest: Snapshot, asked: Asked, node: Node | None, query: Queries) -> Result:
    """Answer one query from one generation: `latest`, if it has not moved."""
    try:
        return _run(core, latest, asked, node, query, None)[0]
    except SnapshotMoved:
        return _consistently(core, lambda snapshot, own: _run(core, snapshot, asked, node, query, own)[0])


def answer_many(
    core: Core, latest: Snapshot, asked: Asked, node: Node | None, vectors: NDArray[np.float32]
) -> list[Result]:
    """Answer queries [m, dim] in the order given, all from one generation, on the store's threads.

    Threads take them in runs, each a few calls of the kernels: Python's lock is held between these alone.
    Raises NoDirection where `prepare` does.
    """
    count, dim = vectors.shape
    size = 1 if asked.explain else max(1, min(_RUN, -(-count // core.threads)))
    prefix_dim = latest.prefix_dim or dim

    def run(snapshot: Snapshot, connection: Connection | None) -> list[Result]:
        results: list[Any] = [None] * count
        starts = range(0, count, size)
        left = iter(starts)

        def work() -> None:
            room = np.empty((size, dim), np.float32)  # for all runs of a thread: new pages are not free
            for start in left:
                queries = prepare(vectors[start : start + size], prefix_dim, room)
                found = _run(core, snapshot, asked, node, queries, connection)
                results[start : start + len(found)] = found

        _together(1 if connection is not None else min(core.threads, len(starts)), work, left)
        return results

    try:
        return run(latest, None)
    except SnapshotMoved:
        return _consistently(core, run)


def _together(threads: int, work: Callable[[], None], left: Iterator[Any]) -> None:
    """Work on this thread and on others, until nothing is left; where one fails the others stop."""

    def share() -> None:
        try:
            work()
        finally:
            deque(left, maxlen=0)

    if threads < 2:
        return work()
    with ThreadPoolExecutor(threads - 1, thread_name_prefix="mrlstore-query") as pool:
        others = [pool.submit(share) for _ in range(threads - 1)]
        share()
        for other in others:
            other.result()


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


def find(
    snapshot: Snapshot, asked: Asked, node: Node | None, queries: Queries, fetch: Fetch
) -> tuple[Outline, list[Answer], Watch | None]:
    """The best rows of a snapshot, which remembers how it was asked."""
    watch = Watch() if asked.explain else None
    search: Search | None = snapshot.ready.get(asked, node)
    if search is None:
        search = Search(snapshot, _request(snapshot, asked, node), fetch)
        search.shortcut = shortcut(asked, search)
        snapshot.ready.keep(asked, node, search, search.nbytes)
    if watch is None:
        return search.outline, search(queries), None
    watch.ready = time.perf_counter()
    answers = search(queries, watch)
    watch.searched = time.perf_counter()
    return search.outline, answers, watch


def explained(result: Result, asked: Asked, query: Queries, watch: Watch, found: Answer) -> Result:
    """The same, with an explanation in its plan."""
    told = explain(asked.k, query, watch, found, result)
    return Result(result.ids, result.scores, replace(result.plan, explanation=told), result.hits)


def _request(snapshot: Snapshot, asked: Asked, node: Node | None) -> Request:
    """What is looked for in a snapshot, with the effort that its calibration chooses."""
    if asked.ef is None and asked.shortlist is None:
        effort = snapshot.calibration.effort(asked.k, asked.target_recall)
    else:
        effort = plan.effort(asked.k, asked.ef, asked.shortlist)
    return Request(asked.k, asked.namespace, node, effort, asked.exact, asked.dim)


def _run(
    core: Core,
    snapshot: Snapshot,
    asked: Asked,
    node: Node | None,
    queries: Queries,
    connection: Connection | None,
) -> list[Result]:
    """Answer queries from one snapshot."""

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        with _reading(core, connection) as own:
            return metadata_of_keys(own, keys, snapshot.generation)

    outline, answers, watch = find(snapshot, asked, node, queries, fetch)
    if core.audit is not None and outline.effort is not None:
        core.audit.offer(snapshot, _request(snapshot, asked, node), queries, answers, fetch)
    results = _results(core, snapshot, asked.wanted, outline, answers, connection)
    if watch is None:
        return results
    return [explained(results[0], asked, queries, watch, answers[0])]


def _results(
    core: Core,
    snapshot: Snapshot,
    wanted: Wanted,
    outline: Outline,
    answers: Sequence[Answer],
    connection: Connection | None,
) -> list[Result]:
    plans = [partial(outline.plan, found.counts()) for found in answers]
    scores = [found.scores for found in answers]
    if wanted is NOTHING:
        return [
            Result(found.names(), some, plan)
            for found, some, plan in zip(answers, scores, plans, strict=True)
        ]
    names = [found.ids() for found in answers]
    if wanted.min_score is not None:
        scores = [some[: int(np.count_nonzero(some >= wanted.min_score))] for some in scores]
        names = [ids[: len(some)] for ids, some in zip(names, scores, strict=True)]
    if not (wanted.metadata or wanted.document or wanted.vector):
        return list(map(Result, names, scores, plans))
    with _reading(core, connection) as own:
        hits = [_hits(own, snapshot.generation, *found, wanted) for found in zip(answers, names, strict=True)]
    return list(map(Result, names, scores, plans, hits))


def _reading(core: Core, connection: Connection | None) -> AbstractContextManager[Connection]:
    """The connection of the transaction that is under way, or one without any."""
    return core.catalogue.connection() if connection is None else nullcontext(connection)


def _hits(
    connection: Connection, generation: int, found: Answer | Best, ids: list[str], wanted: Wanted
) -> list[Hit]:
    """The hits of an answer, as far as it has `ids`, with what is wanted."""
    stored, vectors, count = None, None, len(ids)
    if wanted.metadata or wanted.document:
        keys = found.keys.tolist()[:count]
        if len(set(keys)) < count:
            raise CorruptStore(connection.filename, "two vectors have one key")
        stored = rows_of(connection, keys, generation)
    if wanted.vector:
        vectors = [part.original(row) for part, row in found.places()[:count]]
    return hits_of(ids, found.scores.tolist(), stored, vectors, wanted)
