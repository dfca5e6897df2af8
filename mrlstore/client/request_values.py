"""What callers give, as JSON; what is wrong in itself is refused here, by the checks of `Store`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mrlstore.checks import as_list, check_column, check_document, plain_number
from mrlstore.errors import InvalidInput
from mrlstore.storage.vector_rows import as_array, as_matrix, raw_array
from mrlstore.where import parse
from mrlstore.wire import array_json
from mrlstore.writing.batch import metadata_text


def json_text(body: Mapping[str, Any]) -> bytes:
    """A body as JSON; arguments that are None are left out, `namespace` apart."""
    given = {name: value for name, value in body.items() if value is not None or name == "namespace"}
    try:
        return json.dumps(given, default=_plain, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"an argument cannot be written as JSON: {error}") from error


def vector_json(vector: Any, place: str = "vector") -> dict[str, Any]:
    """One vector [dim] as float32."""
    array = as_array(vector, place)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        raise InvalidInput(
            f"{place}: expected real numbers of shape [dim], got dtype {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    return array_json(array)


def vectors_json(vectors: Any, place: str = "vectors") -> Any:
    """Vectors [n, dim] as float32; a list where some rows are None; None for none."""
    if vectors is None:
        return None
    if not isinstance(vectors, list | tuple):
        array = raw_array(vectors, place)
        vectors = array.tolist() if array.dtype == object else array
    if isinstance(vectors, list | tuple) and (not vectors or any(vector is None for vector in vectors)):
        return [
            None if vector is None else vector_json(vector, f"{place}[{at}]")
            for at, vector in enumerate(vectors)
        ]
    return array_json(as_matrix(vectors, place))


def examples_json(examples: Any, place: str) -> list[Any] | None:
    """Ids, and vectors as float32."""
    if examples is None:
        return None
    is_matrix = isinstance(examples, Iterable) and len(getattr(examples, "shape", ())) == 2
    given = list(examples) if is_matrix else as_list(examples, place)
    return [
        one if isinstance(one, str) else vector_json(one, f"{place}[{at}]") for at, one in enumerate(given)
    ]


def metadatas_json(metadatas: Any, ids: list[str]) -> list[Any] | None:
    """Metadata of these rows, in plain values."""
    given = check_column("metadatas", metadatas, len(ids))
    if given is None:
        return None
    return [_parsed(metadata_text(one, name)) for one, name in zip(given, ids, strict=True)]


def merged_json(metadatas: Any, ids: list[str] | None) -> Any:
    """What `update` merges: a dict for each row, or one for all that match a filter."""
    if ids is not None:
        return metadatas_json(metadatas, ids)
    return _parsed(metadata_text(metadatas, "all rows")) if isinstance(metadatas, Mapping) else metadatas


def documents_json(documents: Any, ids: list[str]) -> list[str | None] | None:
    """Documents of these rows."""
    given = check_column("documents", documents, len(ids))
    if given is None:
        return None
    return [check_document(one, name) for one, name in zip(given, ids, strict=True)]


def where_json(where: Any) -> Any:
    """A filter, checked as an embedded store checks it."""
    parse(where)
    return where


def names_json(values: Any) -> Any:
    """A text, None, or the list of an iterable: namespaces, and what hits carry."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else values


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic) and (number := plain_number(value)) is not None:
        return number
    if isinstance(value, np.ndarray | set | frozenset | range):
        return list(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")
