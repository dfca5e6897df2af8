"""The data plane: rows of one index are written, searched, read, listed and removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.integrations.pinecone.filters import where_of
from mrlstore.server.bodies import check_numbers, dump, flag, float_row, parse_object, shown
from mrlstore.server.http_call import HttpCall, one_of
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.metric_scores import check_lengths, scores_of
from mrlstore.server.operations import Answer
from mrlstore.server.pinecone.row_fields import (
    checked_id,
    checked_ids,
    metadata_of,
    refuse_sparse,
    rows_of,
    space_of,
    stored_vector,
)
from mrlstore.server.refusals import invalid
from mrlstore.types import LIMITS, Hit, Include, Record

_PAGE: Final = 100  # rows of a page where no limit is given
_MAX_PAGE: Final = 1_000
_QUICK_K: Final = 100
_USAGE: Final = {"readUnits": 1}  # nothing is charged for here


def upsert(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /vectors/upsert: all rows or none; durable when this is answered."""
    given = parse_object(body)
    space = _space(call, given.get("namespace"))
    rows = rows_of(given.get("vectors"), index)
    count = index.store.upsert(rows.ids, rows.vectors, rows.metadatas, namespace=space)
    return _written(index, {"upsertedCount": count})


class Query(NamedTuple):
    """What a query asks for; either `vector` or `id` is given."""

    namespace: str  # as it was sent
    space: str  # the store's name of it
    top_k: int
    vector: NDArray[np.float32] | None
    id: str | None
    where: dict[str, Any] | None
    include: tuple[Include, ...]


def parse_query(call: HttpCall, body: bytes) -> Query:
    """POST /query: what it asks for; refused where it is wrong."""
    given = parse_object(body)
    namespace, top_k, values, id = (given.get(name) for name in ("namespace", "topK", "vector", "id"))
    space = _space(call, namespace)
    refuse_sparse(given.get("sparseVector"), "sparseVector")
    if type(top_k) is not int or not 1 <= top_k <= LIMITS.k:
        raise invalid(f"topK: expected 1 to {LIMITS.k:,}, got {shown(top_k)}")
    if (not values) == (not id):
        raise invalid("query: give either vector or id")
    include: list[Include] = ["metadata"] if flag(given, "includeMetadata") else []
    if flag(given, "includeValues"):
        include.append("vector")
    return Query(
        namespace or "",
        space,
        top_k,
        None if id else float_row(values, "vector", zero=True),
        checked_id(id, "id") if id else None,
        where_of(given.get("filter")),
        tuple(include),
    )


def is_quick(asked: Query) -> bool:
    """Whether a query is of the usual kind: by a vector, for few rows, without a filter to be evaluated."""
    return asked.vector is not None and asked.where is None and asked.top_k <= _QUICK_K


def query(index: ServedIndex, call: HttpCall, asked: Query) -> Answer:
    """The nearest rows to a vector, or to that of a stored row."""
    store, vector, lsn, dim = index.store, asked.vector, index.store.generation, index.store.dim
    if "vector" in asked.include:
        check_numbers(asked.top_k, dim)
    if asked.id is not None:
        found = store.get([asked.id], namespace=asked.space, include=("vector",))
        vector = found[0].vector if found else None
    elif vector is not None and dim is not None and len(vector) != dim:
        raise invalid(f"vector: {len(vector)} numbers, but the index has dimension {dim}")
    matches: list[dict[str, Any]] = []
    if vector is not None and dim is not None:
        nearest = _nearest(store, asked, vector)
        scores = scores_of(index.facts.metric, nearest.cosines, vector).tolist()
        for row, score in zip(nearest.rows, scores, strict=True):
            match = {"id": row.id, "score": score, "values": [] if row.vector is None else row.vector}
            if row.metadata:
                match["metadata"] = row.metadata
            matches.append(match)
    answer = {"matches": matches, "namespace": asked.namespace, "usage": _USAGE}
    return Answer(dump(answer), headers=_seen(lsn))


class _RowsByCosine(NamedTuple):
    """Rows and their cosines, best first."""

    rows: Sequence[Hit | Record]
    cosines: NDArray[np.float32]


def _nearest(store: Store, asked: Query, vector: NDArray[np.float32]) -> _RowsByCosine:
    """The nearest rows. To a vector of zeros, by which clients list rows, all are as near."""
    if not vector.any():
        found = store.scan(asked.where, namespace=asked.space, include=asked.include, limit=asked.top_k)
        rows = list(found)
        return _RowsByCosine(rows, np.zeros(len(rows), np.float32))
    hits = store.query(vector, asked.top_k, where=asked.where, namespace=asked.space, include=asked.include)
    return _RowsByCosine(hits, hits.scores)


def fetch(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """GET /vectors/fetch?ids=a&ids=b: rows by id; missing ones are left out."""
    asked = call.query()
    namespace, ids = one_of(asked, "namespace"), [value for name, value in asked if name == "ids"]
    space, lsn = _space(call, namespace), index.store.generation
    check_numbers(len(ids), index.store.dim)
    rows = index.store.get(checked_ids(ids), namespace=space, include=("metadata", "vector"))
    answer = {
        "vectors": {row.id: stored_vector(row) for row in rows},
        "namespace": namespace or "",
        "usage": _USAGE,
    }
    return Answer(dump(answer), headers=_seen(lsn))


def fetch_by_metadata(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /vectors/fetch_by_metadata: one page of the rows that match, in the order of their ids."""
    given = parse_object(body)
    space, lsn = _space(call, given.get("namespace")), index.store.generation
    rows, token = _page(
        index, space, _some(given.get("filter")), given.get("limit"), given.get("paginationToken")
    )
    answer: dict[str, Any] = {
        "vectors": {row.id: stored_vector(row) for row in rows},
        "namespace": given.get("namespace") or "",
        "usage": _USAGE,
    }
    if token is not None:
        answer["pagination"] = {"next": token}
    return Answer(dump(answer), headers=_seen(lsn))


def update(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /vectors/update: a row by id, or the metadata of all that match. A missing id is not an error."""
    given = parse_object(body)
    space = _space(call, given.get("namespace"))
    refuse_sparse(given.get("sparseValues"), "sparseValues")
    id, filter, values = given.get("id"), given.get("filter"), given.get("values")
    changes, dry_run = metadata_of(given.get("setMetadata"), "setMetadata"), flag(given, "dryRun")
    if (id is None) == (filter is None):
        raise invalid("update: give either id or filter")
    if id is None:
        if values:
            raise invalid("update: values go by id, not by filter")
        where = _some(filter)
        if dry_run or not changes:
            return _written(index, {"matchedRecords": index.store.count(where, namespace=space)})
        count = index.store.update(where=where, metadatas=changes, namespace=space)
        return _written(index, {"matchedRecords": count})
    name = checked_id(id, "id")
    vector = None
    if values:
        vector = float_row(values, "values", index.store.dim)[None]
        check_lengths(index.facts.metric, vector)
    if not dry_run and (changes or vector is not None):
        index.store.update([name], [changes] if changes else None, vectors=vector, namespace=space)
    return _written(index, {})


def delete(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /vectors/delete: rows by id, by filter, or all of a namespace; exactly one of the three."""
    given = parse_object(body)
    space = _space(call, given.get("namespace"))
    ids, filter, everything = given.get("ids") or None, given.get("filter") or None, flag(given, "deleteAll")
    if (ids is not None) + (filter is not None) + everything != 1:
        raise invalid("delete: give exactly one of ids, filter and deleteAll")
    if everything:
        index.store.clear(space)
    elif ids is not None:
        index.store.delete(checked_ids(ids), namespace=space)
    else:
        index.store.delete(where=_some(filter), namespace=space)
    return _written(index, {})


def list_ids(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """GET /vectors/list: one page of ids, in the order of their bytes."""
    asked = call.query()
    namespace, limit = one_of(asked, "namespace"), one_of(asked, "limit")
    space, lsn = _space(call, namespace), index.store.generation
    if limit is not None and not limit.isdecimal():
        raise invalid(f"limit: expected a number, got {shown(limit)}")
    rows, token = _page(
        index,
        space,
        None,
        None if limit is None else int(limit),
        one_of(asked, "paginationToken"),
        prefix=one_of(asked, "prefix"),
        include=(),
    )
    answer: dict[str, Any] = {
        "vectors": [{"id": row.id} for row in rows], "namespace": namespace or "", "usage": _USAGE
    }  # fmt: skip
    if token is not None:
        answer["pagination"] = {"next": token}
    return Answer(dump(answer), headers=_seen(lsn))


def _space(call: HttpCall, namespace: object) -> str:
    """The store's name of a namespace that the key opens."""
    space = space_of(namespace)
    call.require_namespace(space)
    return space


def _page(
    index: ServedIndex,
    space: str,
    where: dict[str, Any] | None,
    limit: object,
    token: object,
    *,
    prefix: str | None = None,
    include: tuple[Include, ...] = ("metadata", "vector"),
) -> tuple[list[Record], str | None]:
    """The rows of a page, and the token of the next one where there is one."""
    size = _PAGE if limit is None else limit
    if type(size) is not int or not 1 <= size <= _MAX_PAGE:
        raise invalid(f"limit: expected 1 to {_MAX_PAGE:,}, got {shown(limit)}")
    if token is not None and not isinstance(token, str):
        raise invalid(f"paginationToken: expected a string, got {shown(token)}")
    if "vector" in include:
        check_numbers(size, index.store.dim)
    found = index.store.scan(
        where, namespace=space, prefix=prefix, include=include, limit=size + 1, after=token or None
    )
    rows = list(found)
    return rows[:size], rows[size - 1].cursor if len(rows) > size else None


def _some(filter: object) -> dict[str, Any]:
    """A filter that is not empty, as a `where`."""
    where = where_of(filter) if isinstance(filter, dict) else None
    if where is None:
        raise invalid(f"filter: expected an object with one or more conditions, got {shown(filter)}")
    return where


def _written(index: ServedIndex, answer: dict[str, Any]) -> Answer:
    """The answer to a write, with the generation from which on every reader sees it."""
    lsn = str(index.store.generation)
    return Answer(dump(answer), headers=(("x-pinecone-request-lsn", lsn), ("x-pinecone-lsn-committed", lsn)))


def _seen(lsn: int) -> tuple[tuple[str, str], ...]:
    """The headers of a read: the answer holds at least what was written up to this generation."""
    return (("x-pinecone-max-indexed-lsn", str(lsn)), ("x-pinecone-lsn-reconciled", str(lsn)))
