"""A batch of rows, all of it checked before anything is written."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import (
    check_column,
    check_document,
    check_ids,
    check_length,
    check_namespace,
    check_utf8,
    plain_number,
)
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.storage.vector_rows import as_matrix, check_dim, raw_array, to_unit_rows
from mrlstore.types import LIMITS


@dataclass(frozen=True)
class Batch:
    """Rows ready to be stored: every id once, vectors of unit length, metadata as JSON text.

    n rows, of which m have a vector.
    """

    namespace: str
    ids: list[str]
    metadata: list[str | None]
    documents: list[str | None]
    without_vector: NDArray[np.bool_]  # [n]
    vectors: NDArray[np.float16]  # [m, dim], unit rows
    norms: NDArray[np.float32]  # [m], original lengths

    @property
    def dim(self) -> int | None:
        """The vectors' dimension, None when there are none."""
        return self.vectors.shape[1] if len(self.vectors) else None


def make_batch(
    ids: Iterable[str],
    vectors: Any,
    metadatas: Sequence[Mapping[str, Any] | None] | None,
    documents: Sequence[str | None] | None,
    namespace: str,
    dim: int | None,
) -> Batch:
    """Check and convert everything; if an id is given twice, its last row is the one that counts.

    All arguments go together by position, see `checks.as_list`.
    """
    names = check_ids(ids, ordered=True)
    n = len(names)
    nothing: list[None] = [None] * n
    metadata = check_column("metadatas", metadatas, n)
    pages = check_column("documents", documents, n)
    check_namespace(namespace)
    matrix, without_vector = _split_vectors(vectors, n)
    if matrix is not None:
        check_dim(matrix.shape[1], dim)
    texts = [metadata_text(m, names[i]) for i, m in enumerate(nothing if metadata is None else metadata)]
    pages = [check_document(d, names[i]) for i, d in enumerate(nothing if pages is None else pages)]
    keep = sorted({name: row for row, name in enumerate(names)}.values())
    if len(keep) < n:
        if matrix is not None:
            matrix = matrix[np.isin(np.flatnonzero(~without_vector), keep)]
        names, without_vector = [names[i] for i in keep], without_vector[keep]
        texts, pages = [texts[i] for i in keep], [pages[i] for i in keep]
    if matrix is None:
        rows, norms = np.empty((0, dim or 0), dtype=np.float16), np.empty(0, dtype=np.float32)
    else:
        rows, norms = to_unit_rows(matrix, [names[i] for i in np.flatnonzero(~without_vector)])
    return Batch(namespace, names, texts, pages, without_vector, rows, norms)


class StoredVector(NamedTuple):
    """A vector as it is stored: its float16 unit row as bytes, and its original length."""

    row: bytes
    length: float


@dataclass(frozen=True)
class RowChange:
    """What an update does to one row; None leaves a part as it is."""

    metadata: Mapping[str, Any] | None = None  # keys to merge; a value of None removes the key
    document: str | None = None
    vector: StoredVector | None = None


def make_changes(
    ids: list[str], metadatas: object, documents: object, vectors: Any, dim: int | None
) -> dict[str, RowChange]:
    """The change of each id, checked; the changes of an id given twice are merged in order."""
    n = len(ids)
    metadata, pages = check_column("metadatas", metadatas, n), check_column("documents", documents, n)
    stored = _stored_vectors(ids, vectors, dim)
    changes: dict[str, RowChange] = {}
    for position, name in enumerate(ids):
        keys = None if metadata is None else metadata[position]
        page = None if pages is None else pages[position]
        vector = stored.get(position)
        metadata_text(keys, name)
        check_document(page, name)
        earlier = changes.get(name)
        if earlier is not None:
            keys = earlier.metadata if keys is None else {**(earlier.metadata or {}), **keys}
            page = earlier.document if page is None else page
            vector = earlier.vector if vector is None else vector
        changes[name] = RowChange(keys, page, vector)
    return changes


def _stored_vectors(ids: list[str], vectors: Any, dim: int | None) -> dict[int, StoredVector]:
    """The vectors that were given, checked and scaled, by the position of their id."""
    matrix, without_vector = _split_vectors(vectors, len(ids))
    if matrix is None:
        return {}
    check_dim(matrix.shape[1], dim)
    positions = np.flatnonzero(~without_vector).tolist()
    rows, lengths = to_unit_rows(matrix, [ids[position] for position in positions])
    pairs = zip(rows, lengths.tolist(), strict=True)
    return dict(zip(positions, (StoredVector(row.tobytes(), length) for row, length in pairs), strict=True))


def metadata_text(metadata: Mapping[str, Any] | None, name: str) -> str | None:
    """Metadata as compact JSON; InvalidInput names the place of a value that JSON cannot hold."""
    if metadata is None:
        return None
    what = f"metadata of {name!r}"
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"{what}: expected a dict, got {type(metadata).__name__}")
    flat = _is_flat(metadata)
    plain = metadata if flat else _plain(metadata, what, 1)
    try:
        text = _encode_flat(plain) if flat else _encode(plain)
    except (ValueError, RecursionError) as error:  # NaN, or an int of more than 4,300 digits
        raise InvalidInput(f"{what}: cannot be written as JSON ({error})") from error
    if check_utf8(text, what) > LIMITS.metadata_bytes:
        raise LimitExceeded(f"{what}: longer than {LIMITS.metadata_bytes} bytes as JSON")
    return text


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _flat_encoder() -> Callable[[Any], str]:
    """An encoder for dicts of scalars: json's inner function, called directly, takes a third of the time."""
    inner: Any = json.encoder
    if inner.c_make_encoder is None:  # an interpreter without the C accelerator of json
        return _encode
    parts = inner.c_make_encoder(None, None, inner.encode_basestring, None, ":", ",", False, False, False)
    return lambda flat: "".join(parts(flat, 0))


_encode_flat = _flat_encoder()
_STRING, _SCALARS = {str}, {str, int, float, bool, type(None)}


def _is_flat(metadata: Mapping[str, Any]) -> bool:
    """Whether it is a dict of plain scalars, as nearly all metadata is; these need no conversion."""
    return (
        type(metadata) is dict
        and _STRING.issuperset(map(type, metadata))
        and _SCALARS.issuperset(map(type, metadata.values()))
    )


def _plain(value: Any, what: str, depth: int) -> Any:
    """The value in plain Python types; `what` says where it is, for messages."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{what}: {value} is not finite, and JSON cannot hold it")
        return value
    number = plain_number(value) if isinstance(value, np.generic) else None
    if number is not None:
        return _plain(number, what, depth)
    if depth > LIMITS.metadata_depth:
        raise LimitExceeded(f"{what}: nested deeper than {LIMITS.metadata_depth} levels")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput(f"{what}: the key {key!r} is a {type(key).__name__}, not a string")
        return {key: _plain(inner, f"{what}[{key!r:.60}]", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{what}[{i}]", depth + 1) for i, inner in enumerate(value)]
    raise InvalidInput(
        f"{what}: a {type(value).__name__} cannot be stored; "
        f"use strings, numbers, booleans, None, lists and dicts{_hint(value)}"
    )


def _hint(value: Any) -> str:
    if isinstance(value, datetime.datetime | np.datetime64):
        return "; a time as text in UTC, or as a number, so that filters order it"
    return "; a date as text, value.isoformat()" if isinstance(value, datetime.date) else ""


def _split_vectors(vectors: Any, n: int) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
    """The vectors that were given, [m, dim], and which of the n rows are without one."""
    if vectors is None:
        return None, np.ones(n, dtype=np.bool_)
    if not isinstance(vectors, list | tuple):
        array = raw_array(vectors, "vectors")
        vectors = array.tolist() if array.dtype == object else array
    if isinstance(vectors, list | tuple) and any(vector is None for vector in vectors):
        check_length("vectors", vectors, n)
        there = [vector for vector in vectors if vector is not None]
        return (as_matrix(there) if there else None), np.array(
            [vector is None for vector in vectors], dtype=np.bool_
        )
    if n == 0 and hasattr(vectors, "__len__") and getattr(vectors, "ndim", 1) > 0 and len(vectors) == 0:
        return None, np.ones(0, dtype=np.bool_)
    matrix = as_matrix(vectors)
    check_length("vectors", matrix, n)
    return matrix, np.zeros(n, dtype=np.bool_)
