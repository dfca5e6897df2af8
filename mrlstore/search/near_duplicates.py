"""Near duplicates: groups of rows whose vectors are nearly equal, found by searching with the rows.

The rows are gone through in the order of (namespace, id). A row that is in no group yet is a query: what it
finds above the threshold, and what is in no group either, becomes its group. So every duplicate is compared
with the row that stands for it and not with a chain of others, and the rows that stand for groups, with
those that are alone, have no near duplicates among themselves. This is leader clustering (Hartigan,
Clustering Algorithms, 1975).

A search costs what any query does. Where all of its hits lie above the threshold there may be more of them,
and the row is searched with again, deeper each time and exactly in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.search.hits import Hits
from mrlstore.search.hydrate import hits_by_row, rows_of
from mrlstore.search.matching import matching_keys
from mrlstore.search.params import QueryParams
from mrlstore.search.queries import Queries, prepare
from mrlstore.search.query import search, search_once
from mrlstore.search.records import records_of
from mrlstore.storage.session import Session, View
from mrlstore.storage.vector_rows import with_directions
from mrlstore.system.job import Job, callback_errors
from mrlstore.system.threads import Threads
from mrlstore.types import DuplicateGroup, Namespaces
from mrlstore.where import Node

FIRST_DEPTH: Final = 16  # hits of the first search with a row
DEEPER: Final = (256, 4_096)  # hits of the searches after it; the last has all rows
TIE: Final = 2e-6  # the score of two equal vectors differs from 1 by up to so much
_RUN: Final = 64  # rows that one thread searches with at a time
_PHASE: Final = "looking for duplicates"


class _NearRows(NamedTuple):
    """A row and its near duplicates, most similar first, by their keys."""

    key: int
    others: list[int]
    scores: list[float]


def duplicates(
    session: Session,
    current: Callable[[Session], Session],
    params: QueryParams,
    above: float,
    limit: int | None,
    job: Job,
) -> Iterator[DuplicateGroup]:
    """Groups of the rows that `params` lets pass, each given when it is found.

    `current` gives the session for a run of rows, another one after a fork. Which rows are looked at is
    settled at one generation; each run is searched with and read at the newest one, so that rows which are
    removed meanwhile are left out.
    """
    keys = session.consistently(partial(_keys_in_order, params.namespace, params.where))
    finder = _DuplicateFinder(params, above, keys)

    def groups() -> Iterator[DuplicateGroup]:
        given, size = 0, _RUN * session.threads
        for start in range(0, len(keys), size):
            with callback_errors():
                job.step(_PHASE, start, len(keys))
            here = current(session)
            run = partial(finder.run, keys[start : start + size], here.threads)
            for keys_of_group, group in here.consistently(run, here.snapshots.latest()):
                finder.take(keys_of_group)
                yield group
                given += 1
                if given == limit:
                    return
        with callback_errors():
            job.step(_PHASE, len(keys), len(keys))

    return iter(()) if limit == 0 else groups()


def _keys_in_order(namespace: Namespaces, node: Node | None, view: View) -> NDArray[np.int64]:
    """The keys of the rows that match, in the order of (namespace, id); int64 [n]."""
    names = sorted(namespace) if isinstance(namespace, tuple) else (namespace,)
    with view.connection() as connection:
        places = (rows.in_order(connection, name) for name in names)
        keys = np.fromiter((key for of_one in places for key, _, _ in of_one), np.int64)
        if node is None:
            return keys
        return keys[np.isin(keys, matching_keys(connection, view.snapshot, namespace, node))]


class _DuplicateFinder:
    """What all runs share: which rows are looked at, and which of them are in a group already."""

    def __init__(self, params: QueryParams, above: float, keys: NDArray[np.int64]) -> None:
        self.params, self.least = params, np.float32(above - TIE)
        self.keys = np.sort(keys)
        self.taken: set[int] = set()

    def take(self, group: _NearRows) -> None:
        """Note that these rows are in a group."""
        self.taken.update(group.others, (group.key,))

    def run(
        self, keys: NDArray[np.int64], threads: int, view: View
    ) -> list[tuple[_NearRows, DuplicateGroup]]:
        """The groups that some of these rows stand for, all of one generation; nothing is taken yet."""
        left = [key for key in keys.tolist() if key not in self.taken]
        found = {place.position: place for place in view.snapshot.locate(np.array(left, np.int64))}
        places = [(left[position], found[position]) for position in sorted(found)]
        if not places:
            return []
        vectors = np.stack([place.holder.original(place.row) for _, place in places])
        queries = prepare(with_directions(vectors, "vector"), view.snapshot.prefix_dim or vectors.shape[1])
        hits = self._search(view, queries, threads)
        groups, taken = [], set[int]()
        for number, (key, _) in enumerate(places):
            if key not in taken:
                of_run, place = divmod(number, _RUN)
                found_keys, scores = self._near(view, queries.part(number, number + 1), hits[of_run], place)
                pairs = zip(found_keys.tolist(), scores.tolist(), strict=True)
                near = [
                    (other, score)
                    for other, score in pairs
                    if other != key and other not in self.taken and other not in taken
                ]
                if near:
                    groups.append(_NearRows(key, [other for other, _ in near], [score for _, score in near]))
                    taken.update(groups[-1].others, (key,))
        return [(group, self._read(view, group)) for group in groups]

    def _search(self, view: View, queries: Queries, threads: int) -> list[Hits]:
        """The hits of the first depth, for each `_RUN` queries."""
        params = self.params._replace(k=FIRST_DEPTH)
        parts = [queries.part(start, start + _RUN) for start in range(0, len(queries.vectors), _RUN)]

        def hits(part: Queries) -> Hits:
            return search(view, params, part)[0]

        if view.transaction is not None or len(parts) == 1 or threads == 1:
            return list(map(hits, parts))
        with Threads(threads) as pool:
            return list(pool.map(hits, parts))

    def _near(
        self, view: View, query: Queries, hits: Hits, number: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The keys and scores of all rows above the threshold, best first, of those that are looked at."""
        depth = FIRST_DEPTH
        for deeper in (*DEEPER, view.snapshot.rows() + max(DEEPER)):
            scores = hits.scores_of(number)
            if len(scores) < depth or scores[-1] < self.least:
                break
            params = self.params._replace(k=deeper, exact=deeper > max(DEEPER))
            hits, number, depth = search_once(view, params, query)[0], 0, deeper
        keys, scores = hits.keys_of(number), hits.scores_of(number)
        near = (scores >= self.least) & self._looked_at(keys)
        return keys[near], scores[near]

    def _looked_at(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these keys are of rows that matched when the call began."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.asarray(self.keys[places] == keys)

    def _read(self, view: View, group: _NearRows) -> DuplicateGroup:
        """The group with what its rows carry."""
        with view.connection() as connection:
            stored = rows_of(connection, [group.key, *group.others], view.snapshot.generation)
            (first,) = records_of(view, stored[:1], self.params.projection)
        return DuplicateGroup(
            first, hits_by_row(view.snapshot, stored[1:], group.scores, self.params.projection)
        )
