"""Points are read by id, page by page, and counted."""

from __future__ import annotations

from typing import Any, Final

from mrlstore.server.bodies import check_numbers, parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.operations import Answer
from mrlstore.server.qdrant.answers import answered_with
from mrlstore.server.qdrant.filters import Clause, PointFilter, filter_of
from mrlstore.server.qdrant.payloads import Payload, PayloadSelector, payload_selector
from mrlstore.server.qdrant.point_ids import point_id, row_id, row_ids
from mrlstore.server.qdrant.point_order import points_in_order
from mrlstore.server.qdrant.vector_layout import Row, VectorLayout, absent_point, answered, names_of
from mrlstore.server.refusals import HttpRefusal, invalid
from mrlstore.types import Include, Record

_MAX_PAGE: Final = 10_000
_PAGE: Final = 10  # points of a page where no limit is given


class PointShape:
    """Which of payload and vectors the points of an answer have."""

    def __init__(self, index: ServedIndex, given: dict[str, Any], *, payload: bool) -> None:
        """Read `with_payload`, whose default is `payload`, and `with_vector` of a request."""
        self._metric = index.facts.metric
        self._layout = VectorLayout.of(index.facts, index.store.dim)
        self.payload: PayloadSelector = payload_selector(given.get("with_payload"), payload)
        self._vector, self._names = names_of(given.get("with_vector"), self._layout)

    @property
    def include(self) -> tuple[Include, ...]:
        """What has to be read of the rows."""
        parts: list[Include] = ["metadata"] if self.payload.wanted else []
        return (*parts, "vector") if self._vector else tuple(parts)

    def check(self, index: ServedIndex, points: int) -> None:
        """Refuse answers that would have too many numbers."""
        if self._vector:
            check_numbers(points, index.store.dim)

    def point(self, id: str, metadata: Payload | None, vector: Row | None, **more: float) -> dict[str, Any]:
        """A point of an answer, from what a row holds."""
        found: dict[str, Any] = {"id": point_id(id), **more}
        if self.payload.wanted:
            found["payload"] = self.payload.of(metadata)
        if self._vector:
            row = answered(vector, self._metric)
            found["vector"] = {} if row is None else self._layout.written(row, self._names)
        return found


def retrieve(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /points: points by id; missing ones are left out."""
    call.require_namespace("")
    given = parse_object(body)
    shape, ids = PointShape(index, given, payload=True), row_ids(given.get("ids"), "ids")
    shape.check(index, len(ids))
    rows = index.store.get(ids, include=shape.include)
    return answered_with(call, [shape.point(row.id, row.metadata, row.vector) for row in rows])


def retrieve_one(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """GET /points/ID."""
    call.require_namespace("")
    text = str(call.scope["path_params"]["id"])
    id = row_id(int(text) if text.isdecimal() else text, "id")
    shape = PointShape(index, {"with_vector": True}, payload=True)
    rows = index.store.get([id], include=shape.include)
    if not rows:
        raise HttpRefusal(404, "NOT_FOUND", f"Point with id {id:.60} does not exist")
    return answered_with(call, shape.point(rows[0].id, rows[0].metadata, rows[0].vector))


def scroll(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /points/scroll: a page of the points that match, in the order of their ids."""
    call.require_namespace("")
    given = parse_object(body)
    shape, limit = PointShape(index, given, payload=True), checked_limit(given.get("limit"), _PAGE)
    chosen, offset = filter_of(given.get("filter")), given.get("offset")
    shape.check(index, limit)
    if given.get("order_by") is not None:
        if offset is not None:
            raise invalid("offset: with order_by, start_from says where a page begins")
        rows, following = ordered_rows(index, chosen, given["order_by"], limit, shape.include), None
    else:
        start = None if offset is None else row_id(offset, "offset")
        found = points_in_order(index.store, chosen, start, limit + 1, shape.include)
        rows = found[:limit]
        following = point_id(found[limit].id) if len(found) > limit else None
    points = [shape.point(row.id, row.metadata, row.vector) for row in rows]
    return answered_with(call, {"points": points, "next_page_offset": following})


def count(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /points/count: always exact."""
    call.require_namespace("")
    chosen, store = filter_of(parse_object(body).get("filter")), index.store
    if chosen.only is not None:
        found = len(store.get(chosen.names(chosen.only), where=chosen.where, include=()))
    else:
        found = store.count(chosen.where)
        if chosen.without:
            found -= len(store.get(sorted(chosen.without), where=chosen.where, include=()))
    return answered_with(call, {"count": found})


def facet(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /facet: the values of a field, and how many points have each."""
    call.require_namespace("")
    given = parse_object(body)
    key, chosen = given.get("key"), filter_of(given.get("filter"))
    if not isinstance(key, str):
        raise invalid(f"key: expected the name of a field, got {shown(key)}")
    if chosen.only is not None or chosen.without:
        raise invalid("filter: has_id is not offered for facets")
    facets = index.store.facets(key, where=chosen.where)
    hits = [{"value": one.value, "count": one.count} for one in facets if one.value is not None]
    return answered_with(call, {"hits": hits[: checked_limit(given.get("limit"), _PAGE)]})


def checked_limit(given: object, default: int) -> int:
    """How many points a request asks for."""
    if given is None:
        return default
    if type(given) is not int or not 1 <= given <= _MAX_PAGE:
        raise invalid(f"limit: expected 1 to {_MAX_PAGE:,}, got {shown(given)}")
    return given


def ordered_rows(
    index: ServedIndex, chosen: PointFilter, order_by: object, limit: int, include: tuple[Include, ...]
) -> list[Record]:
    """Points by a field, those that have it; `order_by` is its name, or an object with key and direction."""
    given = {"key": order_by} if isinstance(order_by, str) else order_by
    if not isinstance(given, dict) or not isinstance(given.get("key"), str):
        raise invalid(f"order_by: expected the name of a field, got {shown(order_by)}")
    key, direction, start = given["key"], given.get("direction") or "asc", given.get("start_from")
    if direction not in ("asc", "desc"):
        raise invalid(f"order_by.direction: expected asc or desc, got {shown(direction)}")
    if chosen.only is not None or chosen.without:
        raise invalid("order_by: not together with has_id")
    conditions: list[Clause] = [{key: {"$gte": -float("inf")}}]
    if start is not None:
        conditions = [{key: {"$gte" if direction == "asc" else "$lte": start}}]
    if chosen.where is not None:
        conditions.append(chosen.where)
    found = index.store.scan(
        {"$and": conditions}, order_by=key, descending=direction == "desc", limit=limit, include=include
    )
    return list(found)


def needed_vector(index: ServedIndex, id: str) -> Row:
    """The vector of a stored point; HttpRefusal (404) where it is not there."""
    rows = index.store.get([id], include=("vector",))
    if not rows or rows[0].vector is None:
        raise absent_point(id)
    return rows[0].vector
