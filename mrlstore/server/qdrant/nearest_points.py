"""The nearest points: queries are run on the store, and their hits written as points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.bodies import check_hits, check_numbers, parse_object, shown
from mrlstore.server.chosen_rows import nearest_of
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import Metric, ServedIndex
from mrlstore.server.metric_scores import scores_of
from mrlstore.server.operations import Answer
from mrlstore.server.qdrant.answers import answered_with
from mrlstore.server.qdrant.point_order import points_in_order
from mrlstore.server.qdrant.point_query import (
    PointQuery,
    Vector,
    groups_of,
    query_of,
    recommend_of,
    search_of,
)
from mrlstore.server.qdrant.point_reads import PointShape, needed_vector, ordered_rows
from mrlstore.server.qdrant.vector_layout import VectorLayout, is_leading_part
from mrlstore.server.refusals import invalid
from mrlstore.types import LIMITS, Hit

Points = list[dict[str, Any]]

_MAX_SEARCHES: Final = 1_000  # of one request


def parse_query(call: HttpCall, body: bytes) -> PointQuery:
    """POST /points/query: what it asks for."""
    call.require_namespace("")
    return query_of(parse_object(body))


def parse_search(call: HttpCall, body: bytes) -> PointQuery:
    """POST /points/search: what it asks for."""
    call.require_namespace("")
    return search_of(parse_object(body))


def is_quick(asked: PointQuery) -> bool:
    """Whether a query is answered without a thread."""
    return asked.is_quick


def query(index: ServedIndex, call: HttpCall, asked: PointQuery) -> Answer:
    """The answer to a query."""
    return answered_with(call, {"points": points_of(index, asked)})


def parse_recommend(call: HttpCall, body: bytes) -> PointQuery:
    """POST /points/recommend: what it asks for."""
    call.require_namespace("")
    return recommend_of(parse_object(body))


def search(index: ServedIndex, call: HttpCall, asked: PointQuery) -> Answer:
    """The answer to a search, of which older clients want a bare list."""
    return answered_with(call, points_of(index, asked))


def batch(
    parse: Callable[[dict[str, Any]], PointQuery], wrap: Callable[[Points], Any]
) -> Callable[[ServedIndex, HttpCall, bytes], Answer]:
    """The work of a route with several queries, each answered as alone."""

    def work(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        call.require_namespace("")
        searches = parse_object(body).get("searches")
        if not isinstance(searches, list) or not all(isinstance(each, dict) for each in searches):
            raise invalid(f"searches: expected a list of queries, got {shown(searches)}")
        if len(searches) > _MAX_SEARCHES:
            raise invalid(f"searches: {len(searches):,} queries; at most {_MAX_SEARCHES:,} in one request")
        asked = [parse(each) for each in searches]
        check_hits(sum(each.limit for each in asked))
        if any(each.given.get("with_vector") for each in asked):
            check_numbers(sum(each.limit for each in asked), index.store.dim)
        return answered_with(call, [wrap(points_of(index, each)) for each in asked])

    return work


def groups(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /points/query/groups: the groups with the best points."""
    call.require_namespace("")
    asked = groups_of(parse_object(body))
    shape = PointShape(index, dict(asked.given), payload=False)
    question = _question(index, asked)
    if asked.filter.only is not None or asked.filter.without:
        raise invalid("filter: has_id is not offered for groups")
    if index.store.dim is None:
        return answered_with(call, {"groups": []})
    shape.check(index, asked.limit * asked.group_size)
    found = index.store.query(
        question.vector,
        asked.limit,
        where=asked.filter.where,
        include=shape.include,
        min_score=_least_cosine(asked.threshold, index.facts.metric, question.vector),
        group_by=asked.group_by,
        group_size=asked.group_size,
        exact=asked.exact and question.dim is None,
        dim=question.dim,
    )
    written = [
        {"id": group.value, "hits": _scored(shape, group.hits, index.facts.metric, question.vector)}
        for group in found.groups or ()
    ]
    return answered_with(call, {"groups": written})


def points_of(index: ServedIndex, asked: PointQuery) -> Points:
    """The points that a query finds, best first."""
    shape = PointShape(index, dict(asked.given), payload=False)
    shape.check(index, asked.limit + asked.offset)
    if index.store.dim is None:
        return []
    if asked.like:
        return _scored(shape, _recommended(index, asked, shape), "cosine", None)
    if asked.vector is None and asked.id is None:
        return _unranked(index, asked, shape)
    question = _question(index, asked)
    hits = _hits(index, asked, shape, question)
    return _scored(shape, hits, index.facts.metric, question.vector)


class _VectorOfQuery(NamedTuple):
    """The vector that is searched for, float32 [dim of the store], and how many of its numbers count."""

    vector: Vector
    dim: int | None  # None: all


def _question(index: ServedIndex, asked: PointQuery) -> _VectorOfQuery:
    """What a query by a vector or an id searches for."""
    layout = VectorLayout.of(index.facts, index.store.dim)
    length = layout.length_of(asked.using)
    part = None if asked.using == layout.whole else length
    if asked.id is not None:
        return _VectorOfQuery(needed_vector(index, asked.id), part)
    vector = asked.vector
    assert vector is not None
    if layout.dim is not None and len(vector) != length:
        raise invalid(f"Vector dimension error: expected dim: {length}, got {len(vector)}")
    if part is not None and layout.dim is not None:  # the numbers behind the part do not count
        vector = np.concatenate([vector, np.zeros(layout.dim - len(vector), np.float32)])
    return _VectorOfQuery(vector, part)


def _hits(index: ServedIndex, asked: PointQuery, shape: PointShape, searched: _VectorOfQuery) -> list[Hit]:
    chosen, store = asked.filter, index.store
    question, dim = searched.vector, searched.dim
    least = _least_cosine(asked.threshold, index.facts.metric, question)
    left_out = chosen.without if asked.id is None else chosen.without | {asked.id}
    most = asked.limit + asked.offset
    shortlist = None if asked.prefetch is None else _shortlist(index, asked, question)
    if shortlist is not None:
        most = min(most, shortlist)
    depth = min(most + len(left_out), LIMITS.k)
    if most + len(left_out) > LIMITS.k:
        raise invalid(f"limit: with offset and the ids that are left out at most {LIMITS.k:,}")
    if chosen.only is not None:
        ids = sorted(chosen.only - left_out)
        found = nearest_of(store, ids, question, most, where=chosen.where, include=shape.include, dim=dim)
        return [hit for hit in found if least is None or hit.score >= least][asked.offset :]
    result = store.query(
        question,
        depth,
        where=chosen.where,
        include=shape.include,
        min_score=least,
        exact=asked.exact and dim is None and shortlist is None,
        ef=None if asked.ef is None or asked.exact or dim is not None else max(asked.ef, depth),
        shortlist=None if shortlist is None else max(shortlist, depth),
        dim=dim,
        diversity=asked.diversity,
        candidates=asked.candidates,
    )
    return [hit for hit in result if hit.id not in left_out][asked.offset : most]


def _shortlist(index: ServedIndex, asked: PointQuery, question: Vector) -> int:
    """How many points the first stage of a query lets through to the second."""
    stage = asked.prefetch
    assert stage is not None
    layout = VectorLayout.of(index.facts, index.store.dim)
    if stage.using is not None and len(stage.vector) != layout.length_of(stage.using):
        raise invalid(f"prefetch: {len(stage.vector)} numbers are not the length of {stage.using!r:.60}")
    if asked.using != layout.whole or not is_leading_part(stage.vector, question):
        raise invalid(
            "prefetch: the stage's vector has to be a leading part of the query's, which is the whole vector"
        )
    return stage.limit


def _recommended(index: ServedIndex, asked: PointQuery, shape: PointShape) -> list[Hit]:
    if index.facts.metric != "cosine" or asked.using != VectorLayout.of(index.facts, None).whole:
        raise invalid("query.recommend: offered for the whole vector, by Cosine")
    if asked.filter.only is not None or asked.filter.without:
        raise invalid("query.recommend: not together with has_id")
    for example in (*asked.like, *asked.unlike):
        if isinstance(example, str):
            needed_vector(index, example)  # refuses what is not there as Qdrant does
    result = index.store.query(
        positive=list(asked.like),
        negative=list(asked.unlike) or None,
        k=asked.limit + asked.offset,
        where=asked.filter.where,
        include=shape.include,
        min_score=asked.threshold,
        exact=asked.exact,
    )
    return list(result)[asked.offset :]


def _unranked(index: ServedIndex, asked: PointQuery, shape: PointShape) -> Points:
    """Points without a question: by a field, by chance, or in the order of their ids."""
    most, store = asked.limit + asked.offset, index.store
    if asked.order_by is not None:
        rows = ordered_rows(index, asked.filter, asked.order_by, most, shape.include)
    elif asked.sample:
        if asked.filter.only is not None or asked.filter.without:
            raise invalid("query: has_id is not offered for a sample")
        rows = store.sample(most, where=asked.filter.where, namespace="", include=shape.include)
    else:
        rows = points_in_order(store, asked.filter, None, most, shape.include)
    return [
        shape.point(row.id, row.metadata, row.vector, version=0, score=0.0) for row in rows[asked.offset :]
    ]


def _scored(shape: PointShape, hits: Iterable[Hit], metric: Metric, question: Vector | None) -> Points:
    found = list(hits)
    cosines = np.array([hit.score for hit in found], dtype=np.float32)
    scores = cosines if question is None else _qdrant_scores(metric, cosines, question)
    return [
        shape.point(hit.id, hit.metadata, hit.vector, version=0, score=score)
        for hit, score in zip(found, scores.tolist(), strict=True)
    ]


def _qdrant_scores(metric: Metric, cosines: NDArray[np.float32], question: Vector) -> NDArray[np.float32]:
    """Scores by the distance of the collection; that of Euclid is not squared."""
    scores = scores_of(metric, cosines, question)
    return np.sqrt(scores) if metric == "euclidean" else scores


def _least_cosine(threshold: float | None, metric: Metric, question: Vector) -> float | None:
    """The cosine from which a score passes the threshold, for rows of length 1 where it is not the score."""
    if threshold is None or metric == "cosine":
        return threshold
    length = float(np.linalg.norm(question.astype(np.float64)))
    if metric == "dotproduct":
        return threshold / length
    return (length * length + 1 - max(threshold, 0) ** 2) / (2 * length)
