"""From a checked request to a Result: search a snapshot, then hydrate the hits from the same generation."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Connection
from mrlstore.errors import CorruptStore
from mrlstore.planning import access_path
from mrlstore.search.explain import explain
from mrlstore.search.fast_path import Best, shortcut
from mrlstore.search.group_search import Queries, prepare
from mrlstore.search.hydrate import hits_of, metadata_of_keys, rows_of, vectors_of
from mrlstore.search.params import NOTHING, Asked, Wanted
from mrlstore.search.searcher import Answer, Answers, Request, Search, Watch
from mrlstore.storage.segment import Fetch
from mrlstore.storage.session import Audit, Session, View
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Answered, Made, Result
from mrlstore.where import Node

_T = TypeVar("_T")
_RUN = 64  # queries of a batch that a thread takes at a time, at most


def at_once(
    session: Session, latest: Snapshot, asked: Asked, node: Node | None, vector: Any
) -> Result | None:
    """Answer a query that is like one before, and usual in every way; None leaves it to `answer`."""
    search: Search | None = latest.ready.get(asked, node)
    if search is None or search.shortcut is None or session.audit is not None:
        return None
    found: Best | None = search.shortcut(vector)
    if found is None:
        return None
    if asked.wanted is NOTHING:
        return Result(found.ids, found.scores, found.make_plan)
    try:
        return _result(session, None, latest.generation, found, asked.wanted)
    except SnapshotMoved:
        return None


def answer(session: Session, latest: Snapshot, asked: Asked, node: Node | None, query: Queries) -> Result:
    """Answer one query from one generation: `latest`, if it has not moved."""

    def run(view: View) -> Result:
        (result,) = _run(session, view.snapshot, asked, node, query, view.transaction).results()
        return result

    return session.consistently(run, latest)


def answer_many(
    session: Session, latest: Snapshot, asked: Asked, node: Node | None, vectors: NDArray[np.float32]
) -> list[Answered]:
    """Answer queries [m, dim] in the order given, all from one generation.

    This thread and up to `threads - 1` more take them in runs, each a few calls of the kernels: Python's lock
    is held between these alone.
    Raises NoDirection where `prepare` does.
    """
    count, dim = vectors.shape
    rounds = max(1, -(-count // (session.threads * _RUN)))  # as many runs for each thread, if none is held up
    size = 1 if asked.explain else max(1, -(-count // (session.threads * rounds)))
    prefix_dim = latest.prefix_dim or dim

    def run(view: View) -> list[Answered]:
        starts = range(0, count, size)
        answered = dict[int, Answered]()

        def work(left: Iterator[int]) -> None:
            room = np.empty((size, dim), np.float32)  # for all runs of a thread: new pages are not free
            for start in left:
                queries = prepare(vectors[start : start + size], prefix_dim, room)
                answered[start] = _run(session, view.snapshot, asked, node, queries, view.transaction)

        _together(1 if view.transaction is not None else min(session.threads, len(starts)), work, starts)
        return [answered[start] for start in starts]

    return session.consistently(run, latest)


def _together(threads: int, work: Callable[[Iterator[int]], None], starts: Iterable[int]) -> None:
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


def stored_vector(session: Session, namespace: str, id: str) -> NDArray[np.float32] | None:
    """The vector of a row in its original length, float32 [dim]; None if the row or its vector is missing."""

    def run(view: View) -> NDArray[np.float32] | None:
        with view.connection() as connection:
            found = next(rows.by_id(connection, namespace, [id]), None)
        if found is None or found.bare:
            return None
        return vectors_of(view.snapshot, [found.key])[found.key]

    return session.consistently(run)


def find(
    snapshot: Snapshot, asked: Asked, node: Node | None, queries: Queries, fetch: Fetch
) -> tuple[Answers, Watch | None]:
    """The best rows of a snapshot, which remembers how it was asked."""
    watch = Watch() if asked.explain else None
    search: Search | None = snapshot.ready.get(asked, node)
    if search is None:
        search = Search(snapshot, _request(snapshot, asked, node), fetch)
        search.shortcut = shortcut(asked, search)
        snapshot.ready.keep(asked, node, search, search.nbytes)
    if watch is None:
        return search(queries), None
    watch.ready = time.perf_counter()
    answers = search(queries, watch)
    watch.searched = time.perf_counter()
    return answers, watch


def explained(result: Result, asked: Asked, query: Queries, watch: Watch, found: Answer) -> Result:
    """The same, with an explanation in its plan."""
    told = explain(asked.k, query, watch, found, result)
    return Result(result.ids, result.scores, replace(result.plan, explanation=told), result.hits)


def _request(snapshot: Snapshot, asked: Asked, node: Node | None) -> Request:
    """What is looked for in a snapshot, with the effort that its calibration chooses."""
    if asked.ef is None and asked.shortlist is None:
        effort = snapshot.calibration.effort(asked.k, asked.target_recall)
    else:
        effort = access_path.effort(asked.k, asked.ef, asked.shortlist)
    return Request(asked.k, asked.namespace, node, effort, asked.exact, asked.dim)


def _run(
    session: Session,
    snapshot: Snapshot,
    asked: Asked,
    node: Node | None,
    queries: Queries,
    connection: Connection | None,
) -> Answered:
    """Answer queries from one snapshot."""
    answers, watch = find(snapshot, asked, node, queries, _fetch(session, snapshot, connection))
    if session.audit is not None and answers.outline.effort is not None:
        _offer(session.audit, session, snapshot, _request(snapshot, asked, node), queries, answers)
    kept = answers.kept() if asked.wanted is NOTHING and watch is None else None
    if kept is not None:
        return kept
    results = [_result(session, connection, snapshot.generation, found, asked.wanted) for found in answers]
    if watch is not None:
        results = [explained(results[0], asked, queries, watch, answers[0])]
    return Made(results)


def _offer(
    audit: Audit,
    session: Session,
    snapshot: Snapshot,
    request: Request,
    queries: Queries,
    answers: Answers,
) -> None:
    """Let the audit take some of these queries; it asks for their exact answers later."""
    for number, found in enumerate(answers):
        if not audit.takes():
            continue
        vector = queries.vectors[number : number + 1].copy()
        query = Queries(vector, queries.prefix_norms[number : number + 1])
        fetch = _fetch(session, snapshot, None)  # a connection is ours for as long as we run
        exact = partial(_exact_scores, snapshot, request._replace(exact=True), query, fetch)
        audit.offer(request.k, found.scores, exact)


def _exact_scores(snapshot: Snapshot, request: Request, query: Queries, fetch: Fetch) -> NDArray[np.float32]:
    """The scores of the exact best rows, best first."""
    return Search(snapshot, request, fetch)(query)[0].scores


def _fetch(session: Session, snapshot: Snapshot, connection: Connection | None) -> Fetch:
    """What reads the metadata of rows of a snapshot."""

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        with _reading(session, connection) as own:
            return metadata_of_keys(own, keys, snapshot.generation)

    return fetch


def _reading(session: Session, connection: Connection | None) -> AbstractContextManager[Connection]:
    """The connection of the transaction that is under way, or one without any."""
    return session.catalogue.connection() if connection is None else nullcontext(connection)


def _result(
    session: Session, connection: Connection | None, generation: int, found: Answer | Best, wanted: Wanted
) -> Result:
    """An answer with what is wanted of its hits' rows and vectors."""
    ids, scores, stored, vectors = found.ids, found.scores, None, None
    if wanted.min_score is not None:
        scores = scores[: int(np.count_nonzero(scores >= wanted.min_score))]
        ids = ids[: len(scores)]
    if not (wanted.metadata or wanted.document or wanted.vector):
        return Result(ids, scores, found.make_plan)
    if wanted.metadata or wanted.document:
        keys = found.keys.tolist()[: len(ids)]
        if len(set(keys)) < len(keys):
            raise CorruptStore(session.catalogue.path, "two vectors have one key")
        with _reading(session, connection) as own:
            stored = rows_of(own, keys, generation)
    if wanted.vector:
        vectors = [part.original(row) for part, row in found.places()[: len(ids)]]
    return Result(ids, scores, found.make_plan, hits_of(ids, scores.tolist(), stored, vectors, wanted))
