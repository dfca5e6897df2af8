"""Rows in requests and answers of the data plane: ids, values, metadata."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.bodies import float_row, shown
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.metric_scores import check_lengths
from mrlstore.server.refusals import invalid
from mrlstore.types import Record

MAX_ROWS: Final = 10_000  # of one upsert
DEFAULT_NAMESPACE: Final = "__default__"  # the other name of the namespace ""


class UpsertRows(NamedTuple):
    """Rows to be stored, by position."""

    ids: list[str]
    vectors: NDArray[np.float32]  # [rows, dim]
    metadatas: list[dict[str, Any] | None]


def rows_of(vectors: object, index: ServedIndex) -> UpsertRows:
    """The rows of an upsert, all checked; HttpRefusal (400) names the first that is wrong."""
    if not isinstance(vectors, list) or not vectors:
        raise invalid(f"vectors: expected a list of one or more, got {shown(vectors)}")
    if len(vectors) > MAX_ROWS:
        raise invalid(f"vectors: {len(vectors):,} rows; at most {MAX_ROWS:,} in one request")
    ids, values, metadatas = [], [], []
    dim = index.store.dim
    for at, vector in enumerate(vectors):
        place = f"vectors[{at}]"
        if not isinstance(vector, dict):
            raise invalid(f"{place}: expected an object with id and values, got {shown(vector)}")
        refuse_sparse(vector.get("sparseValues"), place)
        row = float_row(vector.get("values"), f"{place}.values", dim)
        dim = len(row)
        ids.append(checked_id(vector.get("id"), f"{place}.id"))
        values.append(row)
        metadatas.append(metadata_of(vector.get("metadata"), f"{place}.metadata"))
    matrix = np.stack(values)
    check_lengths(index.facts.metric, matrix)
    return UpsertRows(ids, matrix, metadatas)


def checked_id(id: object, place: str) -> str:
    """An id, as far as JSON can be wrong about it; the store checks its length."""
    if not isinstance(id, str) or not id:
        raise invalid(f"{place}: expected a string that is not empty, got {shown(id)}")
    return id


def checked_ids(ids: object) -> list[str]:
    """The ids of a delete."""
    if not isinstance(ids, list) or not ids:
        raise invalid(f"ids: expected a list of one or more strings, got {shown(ids)}")
    return [checked_id(id, f"ids[{at}]") for at, id in enumerate(ids)]


def metadata_of(metadata: object, place: str) -> dict[str, Any] | None:
    """Metadata without nulls, which the service drops."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise invalid(f"{place}: expected an object, got {shown(metadata)}")
    return {key: value for key, value in metadata.items() if value is not None}


def refuse_sparse(given: object, place: str) -> None:
    """Sparse vectors are not offered; an empty one is none."""
    if given:
        raise invalid(f"{place}: sparse vectors are not offered here")


def space_of(namespace: object) -> str:
    """The store's name of a namespace: absent, "" and "__default__" are the one without a name."""
    if namespace is None or namespace == DEFAULT_NAMESPACE:
        return ""
    if not isinstance(namespace, str):
        raise invalid(f"namespace: expected a string, got {shown(namespace)}")
    return namespace


def stored_vector(row: Record) -> dict[str, Any]:
    """A row as `fetch` gives it."""
    vector: dict[str, Any] = {"id": row.id, "values": [] if row.vector is None else row.vector}
    if row.metadata:
        vector["metadata"] = row.metadata
    return vector
