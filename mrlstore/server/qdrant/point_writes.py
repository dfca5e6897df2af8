"""Points are stored, changed and removed. Each call is one transaction, or changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mrlstore.server.bodies import dump, parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.metric_scores import check_lengths
from mrlstore.server.operations import Answer
from mrlstore.server.qdrant.answers import answered_with, completed, written
from mrlstore.server.qdrant.filters import PointFilter, filter_of
from mrlstore.server.qdrant.payloads import Payload, field_names, without
from mrlstore.server.qdrant.point_ids import new_row_id, row_id, row_ids
from mrlstore.server.qdrant.vector_layout import Row, VectorLayout
from mrlstore.server.refusals import invalid
from mrlstore.types import Conflict

MAX_ROWS: Final = 10_000  # of one upsert
_MODES: Final[dict[str, Conflict]] = {"upsert": "replace", "insert_only": "skip"}

Body = dict[str, Any]
Write = Callable[[ServedIndex, Body], None]


def upsert(index: ServedIndex, given: Body) -> None:
    """Store points, whole: a payload or vector that is there already is replaced."""
    _refuse_shards(given)
    mode = given.get("update_mode") or "upsert"
    if not isinstance(mode, str) or mode not in _MODES or given.get("update_filter") is not None:
        raise invalid("update_mode and update_filter: only upsert and insert_only are offered here")
    points = given["points"] if "points" in given else _points_of_batch(given.get("batch"))
    if not isinstance(points, list):
        raise invalid(f"points: expected a list, got {shown(points)}")
    if len(points) > MAX_ROWS:
        raise invalid(f"points: {len(points):,} of them; at most {MAX_ROWS:,} in one request")
    layout = VectorLayout.of(index.facts, index.store.dim)
    ids, rows, payloads = [], [], []
    for at, point in enumerate(points):
        place = f"points[{at}]"
        if not isinstance(point, dict):
            raise invalid(f"{place}: expected an object with id and vector, got {shown(point)}")
        ids.append(new_row_id(point.get("id"), f"{place}.id"))
        rows.append(layout.row_of(point.get("vector"), f"{place}.vector"))
        payloads.append(payload_of(point.get("payload"), f"{place}.payload"))
    if ids:
        index.store.upsert(ids, _checked(index, rows), payloads, on_conflict=_MODES[mode])


def update_vectors(index: ServedIndex, given: Body) -> None:
    """Replace vectors, and keep payloads; points that are not there are passed over."""
    points = given.get("points")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise invalid(f"points: expected a list of points, got {shown(points)}")
    layout = VectorLayout.of(index.facts, index.store.dim)
    ids = [row_id(point.get("id"), f"points[{at}].id") for at, point in enumerate(points)]
    rows = [layout.row_of(point.get("vector"), f"points[{at}].vector") for at, point in enumerate(points)]
    if ids:
        index.store.update(ids, vectors=_checked(index, rows))


def delete(index: ServedIndex, given: Body) -> None:
    """Remove points by id or by filter; the filter `{}` removes all."""
    ids, chosen = _selection(given)
    if ids is None and chosen.is_empty:
        index.store.clear()
        return
    ids = ids if ids is not None else _named(index, chosen)
    if ids is None:
        index.store.delete(where=chosen.where)
    elif ids:
        index.store.delete(ids)


def set_payload(index: ServedIndex, given: Body) -> None:
    """Merge fields into payloads; a field that is given as null is removed."""
    if given.get("key") is not None:
        raise invalid("key: fields are set at the outermost level of a payload here")
    payload = _payload(given)
    ids, chosen = _selection(given)
    ids = ids if ids is not None else _named(index, chosen)
    if not payload:
        return
    if ids is None and chosen.where is not None:
        index.store.update(where=chosen.where, metadatas=payload)
        return
    ids = [row.id for row in index.store.scan(include=())] if ids is None else ids
    index.store.update(ids, [payload] * len(ids))


def overwrite_payload(index: ServedIndex, given: Body) -> None:
    """Put payloads in the place of others."""
    payload = _payload(given)
    _rewrite(index, given, lambda known: payload)


def delete_payload(index: ServedIndex, given: Body) -> None:
    """Remove fields of payloads; a dotted name reaches into objects."""
    keys = field_names(given.get("keys"), "keys")
    _rewrite(index, given, lambda known: without(known, keys))


def clear_payload(index: ServedIndex, given: Body) -> None:
    """Remove payloads, and keep vectors."""
    _rewrite(index, given, lambda known: {})


WRITES: Final[dict[str, Write]] = {
    "upsert": upsert,
    "delete": delete,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
}


def operation(write: Write) -> Callable[[ServedIndex, HttpCall, bytes], Answer]:
    """The work of the route of a write."""

    def work(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        call.require_namespace("")
        write(index, parse_object(body))
        return written(index, call)

    return work


def batch(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /points/batch: several writes, one after the other; the first that is wrong ends it."""
    call.require_namespace("")
    operations = parse_object(body).get("operations")
    if not isinstance(operations, list):
        raise invalid(f"operations: expected a list, got {shown(operations)}")
    writes: list[tuple[Write, Body]] = []
    for at, each in enumerate(operations):
        name = next(iter(each)) if isinstance(each, dict) and len(each) == 1 else None
        if name not in WRITES:
            raise invalid(f"operations[{at}]: expected one of {', '.join(WRITES)}, got {shown(each)}")
        given = {"points": each[name]} if isinstance(each[name], list) else each[name]
        if not isinstance(given, dict):
            raise invalid(f"operations[{at}]: expected an object, got {shown(given)}")
        writes.append((WRITES[name], given))
    results = []
    for write, given in writes:
        write(index, given)
        results.append(completed(index))
    return answered_with(call, results)


def payload_of(given: object, place: str) -> Payload | None:
    """A payload; None where there is none."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid(f"{place}: expected an object, got {shown(given)}")
    return given


def _payload(given: Body) -> Payload:
    payload = payload_of(given.get("payload"), "payload")
    if payload is None:
        raise invalid("payload: expected an object, got null")
    return payload


def _points_of_batch(given: object) -> list[Body]:
    """The points of lists of their ids, vectors and payloads."""
    if not isinstance(given, dict):
        raise invalid("upsert: give points, or batch")
    ids, vectors, payloads = (given.get(name) for name in ("ids", "vectors", "payloads"))
    if not isinstance(ids, list):
        raise invalid(f"batch.ids: expected a list, got {shown(ids)}")
    if isinstance(vectors, dict):
        if not all(isinstance(each, list) and len(each) == len(ids) for each in vectors.values()):
            raise invalid(f"batch.vectors: expected {len(ids):,} vectors of each name")
        vectors = [{name: each[at] for name, each in vectors.items()} for at in range(len(ids))]
    payloads = [None] * len(ids) if payloads is None else payloads
    for name, each in (("vectors", vectors), ("payloads", payloads)):
        if not isinstance(each, list) or len(each) != len(ids):
            raise invalid(f"batch.{name}: expected a list of {len(ids):,}, got {shown(each)}")
    return [
        {"id": id, "vector": vector, "payload": payload}
        for id, vector, payload in zip(ids, vectors or [], payloads, strict=True)
    ]


def _checked(index: ServedIndex, rows: list[Row | None]) -> Row | list[Row | None] | None:
    """Vectors as the store takes them, of a length that the metric of the index allows."""
    there = [row for row in rows if row is not None]
    if not there:
        return None
    if any(len(row) != len(there[0]) for row in there):
        raise invalid("points: the vectors have different lengths")
    matrix = np.stack(there)
    check_lengths(index.facts.metric, matrix)
    return matrix if len(there) == len(rows) else rows


def _selection(given: Body) -> tuple[list[str] | None, PointFilter]:
    """The points that a write is about: ids, or a filter."""
    _refuse_shards(given)
    points, filter = given.get("points"), given.get("filter")
    if (points is None) == (filter is None):
        raise invalid("give either points or filter")
    return None if points is None else row_ids(points, "points"), filter_of(filter)


def _named(index: ServedIndex, chosen: PointFilter) -> list[str] | None:
    """The ids of what a filter chooses, where it names ids; None where a `where` says it all."""
    if chosen.only is not None:
        found = index.store.get(chosen.names(chosen.only), where=chosen.where, include=())
        return [row.id for row in found]
    if chosen.without:
        return chosen.names(row.id for row in index.store.scan(chosen.where, include=()))
    return None


def _rewrite(index: ServedIndex, given: Body, change: Callable[[Payload], Payload]) -> None:
    """Put in the place of each chosen payload what `change` makes of it."""
    ids, chosen = _selection(given)
    ids = ids if ids is not None else _named(index, chosen)
    if ids is not None:
        rows = index.store.get(ids, include=("metadata",))
    else:
        rows = list(index.store.scan(chosen.where, include=("metadata",)))
    changes: dict[str, Payload] = {}
    for row in rows:
        known = row.metadata or {}
        after = change(known)
        if dump(known) != dump(after):  # 1 and true differ
            changes[row.id] = {**dict.fromkeys(known), **after}
    if changes:
        index.store.update(list(changes), list(changes.values()))


def _refuse_shards(given: Body) -> None:
    if given.get("shard_key") is not None:
        raise invalid("shard_key: shards are not offered here")
