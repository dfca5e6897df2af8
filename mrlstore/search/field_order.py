"""Rows in the order of a metadata field, and cursors into that order.

Values go False, True, numbers, strings by code points; equal ones by (namespace, id). Rows that have no such
value come last in both directions: those without the field, and those where it is null, a list or an object.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.connection import Connection
from mrlstore.errors import InvalidInput
from mrlstore.search.hydrate import metadata_of_keys
from mrlstore.search.matching import MatchingRows, matching_rows
from mrlstore.storage.segment import Segment
from mrlstore.storage.snapshot import Snapshot
from mrlstore.storage.tail import Tail
from mrlstore.where import MISSING, Node, Scalar, as_whole, order_key, resolve

Place = tuple[int, str, str]  # key, namespace, id
ValueKey = tuple[int, Any]

_PAGE: Final = 4_096  # rows whose metadata is read at a time


class FieldPlace(NamedTuple):
    """Where a row stands in the order of a field."""

    value: Scalar  # None: it has no value
    namespace: str
    id: str


class FieldOrder(NamedTuple):
    """By which field rows are ordered, and behind which place the order begins."""

    field: str
    descending: bool
    after: FieldPlace | None = None

    def cursor(self, place: FieldPlace) -> str:
        """The opaque text of a place, for `decoded`."""
        parts = [place.namespace, place.id, self.field, self.descending, place.value]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()

    def decoded(self, cursor: str) -> FieldOrder:
        """The same order, begun behind a cursor; InvalidInput if that is of another order, or of none."""
        try:
            parts = json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True))
            namespace, id, field, descending, value = parts
        except (ValueError, TypeError, AttributeError, RecursionError):
            parts = None
        if parts is None or not (isinstance(namespace, str) and isinstance(id, str)) or _is_no_scalar(value):
            raise InvalidInput(
                f"after: {cursor!r:.80} is not a cursor of a scan by order_by; take it from such a Record"
            )
        if (field, descending) != (self.field, self.descending):
            raise InvalidInput(f"after: the cursor is of another order: by {field!r:.80}")
        return self._replace(after=FieldPlace(value, namespace, id))


def _is_no_scalar(value: object) -> bool:
    return isinstance(value, list | dict) or value != value


class _Values:
    """The values of rows, each distinct one once."""

    def __init__(self) -> None:
        self.distinct: dict[ValueKey, Scalar] = {}
        self.numbers: dict[ValueKey, int] = {}  # of each, in the order of their appearance

    def number(self, value: Scalar) -> int:
        """The number of a value; -1 for none."""
        if value is None:
            return -1
        key = order_key(value)
        self.distinct.setdefault(key, value)
        return self.numbers.setdefault(key, len(self.numbers))


class InOrder(NamedTuple):
    """Rows in the order of a field."""

    places: list[Place]
    values: list[Scalar]  # of each row; None: it has none


def in_field_order(
    connection: Connection,
    snapshot: Snapshot,
    namespace: str | None,
    node: Node | None,
    places: list[Place],
    order: FieldOrder,
    limit: int | None,
) -> InOrder:
    """The first `limit` rows behind the cursor.

    `places` are those of all rows that match, in the order of (namespace, id).
    """
    known = _Values()
    keys, numbers = _numbered(connection, snapshot, namespace, node, order.field, known)
    in_order = sorted(known.numbers)
    values = [known.distinct[key] for key in in_order]
    ranks = np.full(len(values) + 1, np.inf)  # the last one is that of -1: no value
    sign = -1.0 if order.descending else 1.0
    for rank, key in enumerate(in_order):
        ranks[known.numbers[key]] = sign * rank
    by_key = np.argsort(keys)
    at = by_key[np.searchsorted(keys, np.array([key for key, _, _ in places], np.int64), sorter=by_key)]
    of_places = ranks[numbers[at]]
    chosen = np.arange(len(places))
    if order.after is not None:
        chosen = np.flatnonzero(_behind(order.after, of_places, places, in_order, sign))
    chosen = chosen[np.argsort(of_places[chosen], kind="stable")][:limit]
    found = [None if rank == np.inf else values[int(abs(rank))] for rank in of_places[chosen].tolist()]
    return InOrder([places[place] for place in chosen.tolist()], found)


def _behind(
    after: FieldPlace, ranks: NDArray[np.float64], places: list[Place], in_order: list[ValueKey], sign: float
) -> NDArray[np.bool_]:
    """Which of the places come behind another one, whose value no row may have any more."""
    rank = np.inf
    if after.value is not None:
        key = order_key(after.value)
        low, high = bisect_left(in_order, key), bisect_right(in_order, key)
        rank = sign * (low if low < high else low - 0.5)
    behind = ranks > rank
    for place in np.flatnonzero(ranks == rank).tolist():
        behind[place] = places[place][1:] > (after.namespace, after.id)
    return behind


def _numbered(
    connection: Connection,
    snapshot: Snapshot,
    namespace: str | None,
    node: Node | None,
    field: str,
    known: _Values,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The keys of all rows that match, and the number of each row's value."""
    keys, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for some in matching_rows(connection, snapshot, namespace, node):
        keys.append(some.keys)
        numbers.append(_of_holder(connection, snapshot, some, field, known))
    return np.concatenate(keys), np.concatenate(numbers)


def _of_holder(
    connection: Connection, snapshot: Snapshot, some: MatchingRows, field: str, known: _Values
) -> NDArray[np.int64]:
    """The number of each row's value."""
    if isinstance(some.holder, Tail):
        metadata = map(some.holder.buffer.parsed_metadata, some.rows.tolist())
        return np.array([known.number(sort_value(one, field)) for one in metadata], np.int64)
    found, undecided = np.full(len(some.keys), -1, np.int64), np.arange(len(some.keys))
    if isinstance(some.holder, Segment):
        held = some.holder.row_values(field, some.rows)
        found = np.array([*map(known.number, held.values), -1], np.int64)[held.numbers]
        undecided = held.undecided
    read = _read(connection, some.keys[undecided], snapshot.generation)
    found[undecided] = [known.number(sort_value(one, field)) for one in read]
    return found


def _read(
    connection: Connection, keys: NDArray[np.int64], generation: int
) -> Iterator[dict[str, Any] | None]:
    for start in range(0, len(keys), _PAGE):
        yield from metadata_of_keys(connection, keys[start : start + _PAGE], generation)


def sort_value(metadata: Mapping[str, Any] | None, field: str) -> Scalar:
    """The value that a row is sorted by; None if it has none."""
    value = resolve(metadata or {}, field)
    if value is MISSING or isinstance(value, list | dict) or value != value:
        return None
    return as_whole(value)
