"""From a checked request to a Result: search a snapshot, then hydrate the hits from the same generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore import plan
from mrlstore.catalogue import rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.core import Core
from mrlstore.errors import CorruptStore
from mrlstore.explain import explain
from mrlstore.group import Queries, prepare
from mrlstore.search import Answer, Outline, Request, Search, Watch
from mrlstore.segment import Fetch
from mrlstore.shortcut import shortcut
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
    result: Result | None = search.shortcut(vector)
    return result


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
    count = len(vectors)
    size = 1 if asked.explain else max(1, min(_RUN, -(-count // core.threads)))
    runs = [vectors[i : i + size] for i in range(0, count, size)]
    prefix_dim = latest.prefix_dim or vectors.shape[1]

    def run(snapshot: Snapshot, connection: Connection | None) -> list[Result]:
        def one(some: NDArray[np.float32]) -> list[Result]:
            return _run(core, snapshot, asked, node, prepare(some, prefix_dim), connection)

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
            return fetch_metadata(own, keys, snapshot.generation)

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
    hits = _hits(core, snapshot, answers, scores, names, wanted, connection)
    return list(map(Result, names, scores, plans, hits))


@contextmanager
def _reading(core: Core, connection: Connection | None) -> Iterator[Connection]:
    """The transaction that is under way, or one of its own."""
    if connection is not None:
        yield connection
    else:
        with core.catalogue.read() as own:
            yield own


def _hits(
    core: Core,
    snapshot: Snapshot,
    answers: Sequence[Answer],
    scores: Sequence[NDArray[np.float32]],
    names: Sequence[list[str]],
    wanted: Wanted,
    connection: Connection | None,
) -> list[list[Hit]]:
    """The hits of each answer with what is wanted."""
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
