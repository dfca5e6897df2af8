"""From checked parameters and a vector to a Result: search a snapshot, hydrate from the same generation."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Overtaken
from mrlstore.search.explain import Trace, explained
from mrlstore.search.hits import Hits
from mrlstore.search.hydrate import metadata_of_keys, vectors_of
from mrlstore.search.params import NOTHING, QueryParams
from mrlstore.search.queries import NoDirection, Queries, prepare, take_query, take_vectors
from mrlstore.search.searcher import Searcher, known_searcher, searcher_for
from mrlstore.storage.segment import Fetch
from mrlstore.storage.session import AnswerAudit, Answered, Session, View
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved
from mrlstore.storage.vector_rows import with_directions
from mrlstore.types import BatchResult, Result

_RUN: Final = 64  # queries of a batch that one thread takes at a time, at most


def query(session: Session, latest: Snapshot, params: QueryParams, vector: Any) -> Result:
    """Answer one query from one generation: `latest`, if its rows have not been removed meanwhile."""
    searcher = known_searcher(latest, params)
    if searcher is not None and session.audit is None:
        hits = searcher.one(vector)
        if hits is not None:
            if params.projection is NOTHING:
                return hits.result()
            try:
                return hits.hydrated(View(session, latest), 0, params.projection)
            except (SnapshotMoved, Overtaken):
                pass  # begin again below
    queries = take_query(vector, latest.dim, latest.prefix_dim)
    (result,) = session.consistently(partial(answer, session, params, queries), latest).results()
    return result


def query_batch(session: Session, latest: Snapshot, params: QueryParams, vectors: Any) -> BatchResult:
    """Answer queries [m, dim] in the order given, all from one generation."""
    matrix = take_vectors(vectors, latest.dim, "vectors")
    try:
        runs = _answer_many(session, latest, params, matrix)
    except NoDirection:  # rescale what float32 squares do not hold, or name the row without a direction
        runs = _answer_many(session, latest, params, with_directions(matrix, "vectors"))
    return BatchResult(runs, params.k)


def answer(session: Session, params: QueryParams, queries: Queries, view: View) -> Hits:
    """The hits of some queries, or of one that is explained; they hold no segment open."""
    hits, trace = search(view, params, queries)
    if session.audit is not None and params.by_codes:
        _offer(session.audit, session, view.snapshot, params, queries, hits)
    if params.min_score is not None:
        hits.cut(params.min_score)
    if params.projection == NOTHING and trace is None:
        hits.release()
        return hits
    results = [hits.hydrated(view, number, params.projection) for number in range(len(hits))]
    if trace is not None:
        results = [explained(results[0], params.k, queries, trace, hits.keys_of(0))]
    hits.keep(results)
    return hits


def search(view: View, params: QueryParams, queries: Queries) -> tuple[Hits, Trace | None]:
    """The best rows of a snapshot, and with params.explain how they were found."""
    trace = Trace() if params.explain else None
    searcher = searcher_for(view.snapshot, params, _fetch(view))
    if trace is None:
        return searcher.search(queries), None
    trace.ready = time.perf_counter()
    hits = searcher.search(queries, trace)
    trace.searched = time.perf_counter()
    return hits, trace


def search_once(view: View, params: QueryParams, queries: Queries) -> tuple[Hits, None]:
    """The best rows for a filter that no other query will have: nothing is kept for one."""
    return Searcher(view.snapshot, params, _fetch(view)).search(queries), None


def stored_vector(session: Session, namespace: str, id: str) -> NDArray[np.float32] | None:
    """The vector of a row in its original length, float32 [dim]; None if the row or its vector is missing."""

    def run(view: View) -> NDArray[np.float32] | None:
        with view.connection() as connection:
            found = next(rows.by_id(connection, namespace, [id]), None)
        if found is None or found.without_vector:
            return None
        return vectors_of(view.snapshot, [found.key])[found.key]

    return session.consistently(run)


def _answer_many(
    session: Session, latest: Snapshot, params: QueryParams, vectors: NDArray[np.float32]
) -> list[Hits]:
    """Answer queries in runs, which this thread and up to `threads - 1` others take.

    A run is a few calls of the kernels; only between these is Python's lock held. Raises NoDirection where
    `prepare` does.
    """
    count, dim = vectors.shape
    rounds = max(1, -(-count // (session.threads * _RUN)))  # as many runs for each thread, if none is held up
    size = 1 if params.explain else max(1, -(-count // (session.threads * rounds)))
    starts = range(0, count, size)

    def run(view: View) -> list[Hits]:
        answered = dict[int, Hits]()

        def work(left: Iterator[int]) -> None:
            units = np.empty((size, dim), np.float32)  # for all runs of this thread: new pages cost faults
            for start in left:
                queries = prepare(vectors[start : start + size], latest.prefix_dim or dim, units)
                answered[start] = answer(session, params, queries, view)

        _share_out(1 if view.transaction is not None else min(session.threads, len(starts)), work, starts)
        return [answered[start] for start in starts]

    return session.consistently(run, latest)


def _share_out(threads: int, work: Callable[[Iterator[int]], None], starts: Iterable[int]) -> None:
    """Work on this thread, and on others beside it, until no start is left; where one fails all stop."""
    left = iter(starts)
    if threads < 2:
        work(left)
        return

    def share() -> None:
        try:
            work(left)
        finally:
            deque(left, maxlen=0)

    with ThreadPoolExecutor(threads - 1, thread_name_prefix="mrlstore-query") as pool:
        others = []
        try:
            with suppress(RuntimeError):  # no more threads, at the interpreter's end for example
                for _ in range(threads - 1):
                    others.append(pool.submit(share))
            work(left)
        finally:
            deque(left, maxlen=0)
        for other in others:
            other.result()


def _offer(
    audit: AnswerAudit,
    session: Session,
    snapshot: Snapshot,
    params: QueryParams,
    queries: Queries,
    hits: Hits,
) -> None:
    """Let the audit take some of these queries; it asks for their exact answers later."""
    for number in range(len(hits)):
        if not audit.takes():
            continue
        query = queries.part(number, number + 1)
        own = query._replace(vectors=query.vectors.copy())
        exact = partial(_exact_scores, View(session, snapshot), params._replace(exact=True), own)
        namespace = params.namespace if isinstance(params.namespace, str) else None
        audit.offer(Answered(params.k, namespace, own.vectors[0], hits.scores_of(number), exact))


def _exact_scores(view: View, params: QueryParams, query: Queries) -> NDArray[np.float32]:
    """The scores of the exact best rows, best first."""
    return Searcher(view.snapshot, params, _fetch(view)).search(query).scores_of(0)


def _fetch(view: View) -> Fetch:
    """What reads the metadata of rows of a snapshot by their keys."""

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        with view.connection() as connection:
            return metadata_of_keys(connection, keys, view.snapshot.generation)

    return fetch
