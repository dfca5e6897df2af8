"""Queries whose equal scores go by id: the same order in every copy of the rows.

Row keys, which order ties otherwise, tell when a row was written, and differ between stores that hold the
same rows. Where the score of the last hit is that of the first that is left out, more rows are searched,
until all that have it are known.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mrlstore.search.explain import explained
from mrlstore.search.hydrate import hits_by_row, rows_of
from mrlstore.search.params import NOTHING, QueryParams
from mrlstore.search.queries import Queries, take_query
from mrlstore.search.query import search
from mrlstore.storage.session import Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.types import Result


def query(session: Session, latest: Snapshot, params: QueryParams, vector: Any) -> Result:
    """The k rows most similar to a vector; of equal scores those with the smallest ids, in their order."""
    queries = take_query(vector, latest.dim, latest.prefix_dim)
    return session.consistently(partial(_answer, params, queries), latest)


def _answer(params: QueryParams, queries: Queries, view: View) -> Result:
    k, asked = params.k, params.k + 1
    while True:
        hits, trace = search(view, params._replace(k=asked, projection=NOTHING), queries)
        scores = hits.scores_of(0)
        if len(scores) < asked or scores[-1] < scores[k - 1]:
            break
        hits.release()
        asked *= 2
    if params.min_score is not None:
        hits.cut(params.min_score)
    keys, result = hits.keys_of(0), hits.result()
    if trace is not None:
        result = explained(result, asked, queries, trace, keys)
    scores, ids, spaces = result.scores.tolist(), result.ids, hits.namespaces_of(0)
    places = sorted(range(len(ids)), key=lambda place: (-scores[place], ids[place], spaces[place]))[:k]
    with view.connection() as connection:
        stored = rows_of(connection, keys[places].tolist(), view.snapshot.generation)
    found = hits_by_row(view.snapshot, stored, [scores[place] for place in places], params.projection)
    return Result([row.id for row in stored], result.scores[places], result.plan, found)
