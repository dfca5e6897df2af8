"""Queries with keywords: BM25 over the documents, alone or fused with the vectors' answer.

Two ranked lists become one by reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): a row
scores weight / (60 + rank) in each list that it is in. Ranks need no common scale, which cosines and BM25 do
not have. Everything is read in one transaction of the catalogue, so both lists and the rows are of one
generation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from mrlstore.catalogue import keywords, rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.checks import check_number
from mrlstore.errors import InvalidInput
from mrlstore.search.explain import explained
from mrlstore.search.hydrate import hits_by_row, rows_of
from mrlstore.search.keyword_terms import Lookup, Term, any_of, lookups, parse_keywords
from mrlstore.search.matching import matching_keys
from mrlstore.search.params import NOTHING, QueryParams
from mrlstore.search.picked import Picking
from mrlstore.search.queries import Queries, take_query
from mrlstore.search.query import search
from mrlstore.storage.session import Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.types import LIMITS, FusedRank, Hit, KeywordPlan, Namespaces, Plan, Result

RANK_CONSTANT: Final = 60
LEAST_DEPTH: Final = 100  # of both lists
MANY_DOCUMENTS: Final = 1_000  # from here on words that stand in more than half of them are left out

Ranked = list[tuple[int, float]]  # (row key, score), best first


class Fused(NamedTuple):
    """A row of the answer, and its ranks in the two lists, from 0; None: it is not in that list."""

    key: int
    score: float
    vector_rank: int | None
    keyword_rank: int | None


@dataclass(frozen=True)
class Keywords:
    """The words of a query, and how much words and vector weigh; checked."""

    terms: tuple[Term, ...]
    weights: tuple[float, float] | None  # of the vector's list, of the keywords' list


@dataclass(frozen=True)
class _KeywordList:
    """The rows that keywords found, and which terms were looked for."""

    ranked: Ranked
    searched: tuple[Term, ...]
    ignored: tuple[Term, ...]
    matching: int | None


def check_keywords(words: object, weights: object, min_score: object) -> Keywords:
    """The keywords of a query, checked; InvalidInput if they cannot be answered."""
    if words is None:
        raise InvalidInput("weights: there is nothing to weigh without keywords")
    if min_score is not None:
        raise InvalidInput(
            "min_score: is a cosine similarity, which scores with keywords are not; leave it out"
        )
    return Keywords(parse_keywords(words), _check_weights(weights))


def _check_weights(weights: object) -> tuple[float, float] | None:
    if weights is None:
        return None
    pair = list(weights) if isinstance(weights, list | tuple) else []
    numbers = [check_number(weight, "weights") for weight in pair]
    if len(numbers) != 2 or min(numbers) < 0 or not max(numbers):
        raise InvalidInput(f"weights: expected two numbers, not below 0 and not both 0, got {weights!r:.80}")
    return numbers[0], numbers[1]


def query(
    session: Session,
    latest: Snapshot,
    params: QueryParams,
    words: Keywords,
    vector: object = None,
    picking: Picking | None = None,
) -> Result:
    """The best k rows by keywords, or by keywords and vector, all of one generation.

    `picking` may pass over some of the best rows and leave out some ids.
    """
    if picking is not None:
        k, params = params.k, params._replace(k=picking.depth(params.k))
        return _page(query(session, latest, params, words, vector), picking, k)
    queries = None
    if vector is None:
        _refuse_vector_params(params, words)
    else:
        queries = take_query(vector, latest.dim, latest.prefix_dim)
    return session.consistently(partial(_answer, session, params, words, queries))


def _page(result: Result, picking: Picking, k: int) -> Result:
    """The k rows behind those that are passed over."""
    places = [place for place, id in enumerate(result.ids) if id not in picking.excluded]
    places = places[picking.offset : picking.offset + k]
    keyword_plan = result.plan.keywords
    assert keyword_plan is not None
    ranks = tuple(keyword_plan.hits[place] for place in places)
    plan = replace(result.plan, keywords=replace(keyword_plan, hits=ranks))
    hits = [result.hits[place] for place in places]
    return Result([hit.id for hit in hits], result.scores[places], plan, hits)


def _refuse_vector_params(params: QueryParams, words: Keywords) -> None:
    """Refuse what only concerns vectors, where there is none."""
    given = {name: getattr(params, name) for name in ("target_recall", "shortlist", "ef", "exact", "dim")}
    for name, value in (given | {"weights": words.weights}).items():
        if value is not None and value is not False:
            raise InvalidInput(f"{name}: concerns vectors, and only keywords are given")


def _answer(
    session: Session, params: QueryParams, words: Keywords, queries: Queries | None, view: View
) -> Result:
    times = [time.perf_counter()]
    with view.connection() as connection:
        if settings.get_int(connection, "format_version") < settings.FIRST_WITH_KEYWORDS:
            raise InvalidInput(
                f'{session.path} has no keyword index yet; open it once with mode="a", which makes it'
            )
        by_vector, plan, depth = Ranked(), Plan(view.snapshot.generation, "keywords", ()), params.k
        if queries is not None:
            depth = min(max(LEAST_DEPTH, 2 * params.k), LIMITS.k)  # rows of each list that are fused
            by_vector, plan = _by_vector(view, params._replace(k=depth, projection=NOTHING), queries)
        times.append(time.perf_counter())
        weights = words.weights or (1.0, 1.0)
        by_words = _by_words(connection, view.snapshot, params, words, depth)
        times.append(time.perf_counter())
        if queries is None:
            best = [Fused(key, score, None, rank) for rank, (key, score) in enumerate(by_words.ranked)]
            plan = replace(plan, matching=by_words.matching)
        else:
            best = fuse(by_vector, by_words.ranked, weights)[: params.k]
        stored = rows_of(connection, [row.key for row in best], view.snapshot.generation)
        hits = hits_by_row(view.snapshot, stored, [row.score for row in best], params.projection)
        times.append(time.perf_counter())
    keyword_plan = KeywordPlan(
        searched=tuple(map(str, by_words.searched)),
        ignored=tuple(map(str, by_words.ignored)),
        listed=len(by_words.ranked),
        depth=depth,
        weights=None if queries is None else weights,
        hits=tuple(_ranks(hits, best, by_vector, by_words.ranked)),
    )
    stages = ("vectors", "keywords", "rows")
    seconds = {name: times[i + 1] - times[i] for i, name in enumerate(stages) if i or queries is not None}
    return Result(
        [hit.id for hit in hits],
        np.array([hit.score for hit in hits], dtype=np.float32),
        replace(plan, seconds=seconds, keywords=keyword_plan),
        hits,
    )


def _by_vector(view: View, params: QueryParams, queries: Queries) -> tuple[Ranked, Plan]:
    """The vector's list, and how it came about."""
    hits, trace = search(view, params, queries)
    result, keys = hits.result(), hits.keys_of(0)
    if trace is not None:
        result = explained(result, params.k, queries, trace, keys)
    return list(zip(keys.tolist(), result.scores.tolist(), strict=True)), result.plan


def fuse(by_vector: Ranked, by_words: Ranked, weights: tuple[float, float]) -> list[Fused]:
    """All rows of both lists, best first; equal scores go by row key. A list that weighs 0 adds no row."""
    ranks: tuple[dict[int, int], ...] = tuple(
        {key: rank for rank, (key, _) in enumerate(ranked)} for ranked in (by_vector, by_words)
    )
    fused = []
    for key in ranks[0] | ranks[1]:
        here = [of_list.get(key) for of_list in ranks]
        score = sum(
            weight / (RANK_CONSTANT + rank + 1)
            for weight, rank in zip(weights, here, strict=True)
            if rank is not None
        )
        if score > 0:
            fused.append(Fused(key, score, here[0], here[1]))
    return sorted(fused, key=lambda row: (-row.score, row.key))


def _by_words(
    connection: Connection, snapshot: Snapshot, params: QueryParams, words: Keywords, count: int
) -> _KeywordList:
    """The best rows by BM25, of those that the namespace and the filter let through."""
    if not words.terms:
        return _KeywordList([], (), (), None)
    allowed = None
    tokenizer = str(settings.get(connection, "tokenizer"))
    looked_up = lookups(words.terms, tokenizer, keywords.question_cutter(connection))
    kept, ignored = _without_common(connection, looked_up)
    if params.where is not None or not _holds_all(connection, params.namespace):
        allowed = matching_keys(connection, snapshot, params.namespace, params.where)
    ranked = keywords.best(connection, any_of(kept), count, allowed)
    matching = None if params.where is None or allowed is None else len(allowed)
    return _KeywordList(ranked, tuple(one.term for one in kept), tuple(one.term for one in ignored), matching)


def _holds_all(connection: Connection, namespace: Namespaces) -> bool:
    """Whether no other namespace has rows."""
    if isinstance(namespace, str):
        return rows.only_namespace(connection, namespace)
    return namespace is None or set(rows.namespaces(connection)) <= set(namespace)


def _without_common(
    connection: Connection, terms: tuple[Lookup, ...]
) -> tuple[tuple[Lookup, ...], tuple[Lookup, ...]]:
    """The terms that are looked for, and those left out: in more than half of many documents.

    BM25 gives the latter no weight (FTS5 takes 1e-6), but they would make it score half of all rows or more.
    Where all terms are as common, none is left out.
    """
    total = keywords.documents(connection) if len(terms) > 1 else 0
    if total < MANY_DOCUMENTS:
        return terms, ()
    common = tuple(term for term in terms if keywords.at_least(connection, term.expression, total // 2 + 1))
    if len(common) == len(terms):
        return terms, ()
    return tuple(term for term in terms if term not in common), common


def _ranks(
    hits: Sequence[Hit], best: Sequence[Fused], by_vector: Ranked, by_words: Ranked
) -> list[FusedRank]:
    """Where each hit stood in both lists."""
    return [
        FusedRank(
            hit.id,
            rank,
            hit.score,
            None if row.vector_rank is None else row.vector_rank + 1,
            None if row.vector_rank is None else by_vector[row.vector_rank][1],
            None if row.keyword_rank is None else row.keyword_rank + 1,
            None if row.keyword_rank is None else by_words[row.keyword_rank][1],
        )
        for rank, (hit, row) in enumerate(zip(hits, best, strict=True), 1)
    ]
