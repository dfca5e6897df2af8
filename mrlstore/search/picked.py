"""Queries whose answer is picked from more rows than it has: pages, diverse hits, rows left out.

The candidates are the best rows by score. Diverse hits are picked from them by maximal marginal relevance
(Carbonell and Goldstein, SIGIR 1998) on the full stored vectors.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.search.explain import explained
from mrlstore.search.hits import Hits
from mrlstore.search.hydrate import hits_by_row, rows_of
from mrlstore.search.params import NOTHING, QueryParams
from mrlstore.search.queries import Queries, take_query
from mrlstore.search.query import search
from mrlstore.storage.session import Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.products import product
from mrlstore.types import Result

LEAST_CANDIDATES: Final = 100
CANDIDATES_PER_HIT: Final = 4
MOST_DIVERSE: Final = 1_000  # candidates: of 3,072 dims, 1,000 hits of 1,000 take about a second


class Picking(NamedTuple):
    """How the answer is picked from the candidates."""

    offset: int = 0  # best ones that are passed over
    diversity: float | None = None  # 0: by score alone, 1: by distance from the hits before alone
    candidates: int | None = None  # among which diverse hits are picked
    excluded: frozenset[str] = frozenset()  # ids that are left out

    def depth(self, k: int) -> int:
        """How many candidates are searched for k hits."""
        if self.diversity is None:
            return self.offset + k + len(self.excluded)
        return self.among(k) + len(self.excluded)

    def among(self, k: int) -> int:
        """Among how many candidates diverse hits are picked."""
        if self.candidates is not None:
            return self.candidates
        return max(self.offset + k, min(max(LEAST_CANDIDATES, CANDIDATES_PER_HIT * k), MOST_DIVERSE))


def query(session: Session, latest: Snapshot, params: QueryParams, picking: Picking, vector: Any) -> Result:
    """The k rows that are picked for a vector, all of one generation."""
    queries = take_query(vector, latest.dim, latest.prefix_dim)
    return session.consistently(partial(_answer, params, picking, queries), latest)


def _answer(params: QueryParams, picking: Picking, queries: Queries, view: View) -> Result:
    depth = picking.depth(params.k)
    hits, trace = search(view, params._replace(k=depth, projection=NOTHING), queries)
    if params.min_score is not None:
        hits.cut(params.min_score)
    keys, result = hits.keys_of(0), hits.result()
    if trace is not None:
        result = explained(result, depth, queries, trace, keys)
    searched = time.perf_counter()
    places = [place for place, id in enumerate(result.ids) if id not in picking.excluded]
    if picking.diversity is not None:
        places = places[: picking.among(params.k)]
        units = _units(hits, places, params.dim)
        picked = diverse(units, result.scores[places], picking.offset + params.k, picking.diversity)
        places = [places[place] for place in picked]
    places = places[picking.offset : picking.offset + params.k]
    scores = result.scores[places]
    with view.connection() as connection:
        stored = rows_of(connection, keys[places].tolist(), view.snapshot.generation)
    found = hits_by_row(view.snapshot, stored, scores.tolist(), params.projection)
    plan = result.plan
    seconds = {**plan.seconds, "picking": time.perf_counter() - searched}
    return Result([row.id for row in stored], scores, replace(plan, seconds=seconds), found)


def diverse(
    units: NDArray[np.float32], scores: NDArray[np.float32], count: int, diversity: float
) -> list[int]:
    """Pick up to `count` of n rows, each the best by (1 - diversity) * score - diversity * likeness.

    units: float32 [n, dim], of unit length. scores: float32 [n], best first. The likeness of a row is its
    greatest cosine with a row that was picked before; the first is that of the best score.
    """
    picked: list[int] = []
    left, merit = np.ones(len(units), dtype=np.bool_), scores.astype(np.float64)
    likeness = np.full(len(units), -np.inf)
    while len(picked) < min(count, len(units)):
        place = int(np.argmax(np.where(left, merit, -np.inf)))
        picked.append(place)
        left[place] = False
        likeness = np.maximum(likeness, product(units, units[place]))
        merit = (1.0 - diversity) * scores.astype(np.float64) - diversity * likeness
    return picked


def _units(hits: Hits, places: list[int], dim: int | None) -> NDArray[np.float32]:
    """The stored vectors of hits, float32 [n, dim], of unit length."""
    found = list(hits.places_of(0))
    return unit_rows([holder.original(row) for holder, row in (found[place] for place in places)], dim)


def unit_rows(vectors: list[NDArray[np.float32]], dim: int | None) -> NDArray[np.float32]:
    """The first `dim` numbers of stored vectors, float32 [n, dim], brought to unit length."""
    if not vectors:
        return np.empty((0, 0), np.float32)
    wide = np.stack([vector[:dim] for vector in vectors]).astype(np.float64)
    lengths = np.sqrt(np.vecdot(wide, wide))[:, None]
    return np.asarray(wide / np.maximum(lengths, np.finfo(np.float64).tiny), dtype=np.float32)
