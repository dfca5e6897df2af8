"""`PointQuery`: what a request for the nearest points asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.bodies import float_row, shown
from mrlstore.server.qdrant.filters import PointFilter, filter_of
from mrlstore.server.qdrant.point_ids import is_id, row_id
from mrlstore.server.refusals import invalid
from mrlstore.types import LIMITS

_LIMIT: Final = 10
_QUICK_K: Final = 100
_NOT_OFFERED: Final = ("lookup_from", "shard_key")
_KINDS: Final = ("nearest", "recommend", "order_by", "sample")

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Prefetch:
    """A first stage: so many points by a leading part of the vector."""

    vector: Vector
    limit: int
    using: str | None
    filter: PointFilter


@dataclass(frozen=True)
class PointQuery:
    """A query; one of `vector`, `id`, `like` and `order_by` is given, or `sample`, or nothing of it."""

    given: Mapping[str, Any]  # the request, of which with_payload and with_vector are read later
    limit: int
    offset: int
    using: str
    filter: PointFilter
    vector: Vector | None = None
    id: str | None = None
    like: tuple[Vector | str, ...] = ()  # examples, vectors or ids
    unlike: tuple[Vector | str, ...] = ()
    order_by: object = None
    sample: bool = False
    threshold: float | None = None
    exact: bool = False
    ef: int | None = None
    diversity: float | None = None
    candidates: int | None = None
    prefetch: Prefetch | None = None
    group_by: str | None = None
    group_size: int = field(default=3)

    @property
    def is_quick(self) -> bool:
        """Whether it is of the usual kind: by a vector, for few points, without a filter to be evaluated."""
        plain = self.filter.is_empty and self.prefetch is None and not self.exact and self.group_by is None
        few = self.limit + self.offset <= _QUICK_K
        return self.vector is not None and plain and few and self.diversity is None


def query_of(given: dict[str, Any]) -> PointQuery:
    """The query of a request to `/points/query`; HttpRefusal (400) for what is wrong or not offered."""
    asked = _with_kind(_common(given), given.get("query"))
    prefetch = _prefetch(given.get("prefetch"))
    if prefetch is None:
        return asked
    if asked.vector is None:
        raise invalid("prefetch: offered before a query by a vector alone")
    return replace(asked, prefetch=prefetch, filter=asked.filter.and_also(prefetch.filter))


def search_of(given: dict[str, Any]) -> PointQuery:
    """The query of a request to `/points/search`, which older clients send."""
    asked, vector = _common(given), given.get("vector")
    if isinstance(vector, dict):
        name = vector.get("name")
        if not isinstance(name, str):
            raise invalid(f"vector.name: expected a string, got {shown(name)}")
        return replace(asked, using=name, vector=float_row(vector.get("vector"), "vector.vector"))
    return replace(asked, vector=float_row(vector, "vector"))


def recommend_of(given: dict[str, Any]) -> PointQuery:
    """The query of a request to `/points/recommend`, which older clients send."""
    using = given.get("using")
    if isinstance(using, dict):
        using = using.get("name")
    return _recommend(_common({**given, "using": using}), given, "")


def groups_of(given: dict[str, Any]) -> PointQuery:
    """The query of a request to `/points/query/groups`: `limit` groups of `group_size` points."""
    asked = query_of(given)
    by, size = given.get("group_by"), given.get("group_size", 3)
    if not isinstance(by, str) or not by:
        raise invalid(f"group_by: expected the name of a field, got {shown(by)}")
    if type(size) is not int or not 1 <= size <= LIMITS.k:
        raise invalid(f"group_size: expected 1 to {LIMITS.k:,}, got {shown(size)}")
    if asked.prefetch is not None or asked.diversity is not None or asked.vector is None or asked.offset:
        raise invalid("groups are offered for a query by a vector, without prefetch, offset and mmr")
    return replace(asked, group_by=by, group_size=size)


def _common(given: dict[str, Any]) -> PointQuery:
    """What all kinds of queries have."""
    for name in _NOT_OFFERED:
        if given.get(name) is not None:
            raise invalid(f"{name} is not offered here")
    limit, offset, using, threshold = (
        given.get(name) for name in ("limit", "offset", "using", "score_threshold")
    )
    limit, offset = _LIMIT if limit is None else limit, 0 if offset is None else offset
    if type(limit) is not int or limit < 1 or type(offset) is not int or offset < 0:
        raise invalid(f"limit and offset: expected whole numbers, got {shown(limit)} and {shown(offset)}")
    if limit + offset > LIMITS.k:
        raise invalid(f"limit: with offset at most {LIMITS.k:,}, got {limit + offset:,}")
    if using is not None and not isinstance(using, str):
        raise invalid(f"using: expected the name of a vector, got {shown(using)}")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise invalid(f"score_threshold: expected a number, got {shown(threshold)}")
    params = given.get("params") or {}
    ef = params.get("hnsw_ef") if isinstance(params, dict) else None
    if not isinstance(params, dict) or (ef is not None and (type(ef) is not int or ef < 1)):
        raise invalid(f"params: got {shown(params)}")
    return PointQuery(
        given,
        limit,
        offset,
        using or "",
        filter_of(given.get("filter")),
        threshold=threshold,
        exact=params.get("exact") is True,
        ef=ef,
    )


def _with_kind(asked: PointQuery, query: object) -> PointQuery:
    if query is None:
        return asked
    if isinstance(query, list) or is_id(query):
        return _nearest(asked, query, "query")
    kind = next((name for name in _KINDS if isinstance(query, dict) and name in query), None)
    if not isinstance(query, dict) or kind is None:
        raise invalid(f"query: {shown(query)} is not offered here; {', '.join(_KINDS)} are")
    if kind == "nearest":
        return _with_diversity(_nearest(asked, query["nearest"], "query.nearest"), query.get("mmr"))
    if kind == "order_by":
        return replace(asked, order_by=query["order_by"])
    if kind == "sample":
        if query["sample"] != "random":
            raise invalid(f"query.sample: expected random, got {shown(query['sample'])}")
        return replace(asked, sample=True)
    return _recommend(asked, query["recommend"], "query.recommend.")


def _nearest(asked: PointQuery, given: object, place: str) -> PointQuery:
    if is_id(given):
        return replace(asked, id=row_id(given, place))
    if not isinstance(given, list):
        raise invalid(f"{place}: expected a vector or an id, got {shown(given)}")
    return replace(asked, vector=float_row(given, place))


def _with_diversity(asked: PointQuery, mmr: object) -> PointQuery:
    if mmr is None:
        return asked
    if not isinstance(mmr, dict):
        raise invalid(f"query.mmr: expected an object, got {shown(mmr)}")
    diversity, candidates = mmr.get("diversity"), mmr.get("candidates_limit")
    return replace(asked, diversity=0.5 if diversity is None else diversity, candidates=candidates)


def _recommend(asked: PointQuery, given: object, place: str) -> PointQuery:
    if not isinstance(given, dict):
        raise invalid(f"query.recommend: expected an object, got {shown(given)}")
    if given.get("strategy") not in (None, "average_vector"):
        raise invalid(f"{place}strategy: only average_vector is offered here")
    like, unlike = (_examples(given.get(name), f"{place}{name}") for name in ("positive", "negative"))
    if not like:
        raise invalid(f"{place}positive: give one example or more")
    return replace(asked, like=like, unlike=unlike)


def _examples(given: object, place: str) -> tuple[Vector | str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise invalid(f"{place}: expected a list of ids and vectors, got {shown(given)}")
    return tuple(
        row_id(each, f"{place}[{at}]") if is_id(each) else float_row(each, f"{place}[{at}]")
        for at, each in enumerate(given)
    )


def _prefetch(given: object) -> Prefetch | None:
    if given is None or given == [] or given == {}:
        return None
    stages = given if isinstance(given, list) else [given]
    if len(stages) != 1 or not isinstance(stages[0], dict):
        raise invalid("prefetch: one stage is offered here; several, and their fusion, are not")
    stage = stages[0]
    if stage.get("prefetch") or stage.get("score_threshold") is not None or stage.get("lookup_from"):
        raise invalid("prefetch: a stage has query, using, filter, params and limit here")
    inner = _with_kind(_common(stage), stage.get("query"))
    if inner.vector is None:
        raise invalid("prefetch: the query of a stage is a vector here")
    return Prefetch(inner.vector, inner.limit, stage.get("using"), inner.filter)
