"""Reading rows as records: by id, in order, by chance; and counting them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Row, metadata_of
from mrlstore.errors import InvalidInput
from mrlstore.search.field_order import FieldOrder, FieldPlace, InOrder, Place, in_field_order
from mrlstore.search.hydrate import rows_of, vectors_of
from mrlstore.search.matching import matching_keys
from mrlstore.search.params import Projection, Selection
from mrlstore.storage.session import Session, View
from mrlstore.system import late
from mrlstore.types import Record
from mrlstore.where import Node

_PAGE = 256
_to_json = json.JSONEncoder(default=repr).encode  # json.dumps makes an encoder anew for each text


def get(session: Session, namespace: str, selection: Selection, projection: Projection) -> list[Record]:
    """The selected rows, of one generation: in the order of the ids that are given, or of all ids."""

    def run(view: View) -> list[Record]:
        with view.connection() as connection:
            node, limit = selection.node, selection.limit
            if selection.ids is None:
                places = _selected(view, connection, namespace, selection)
                found = list(rows.by_key(connection, (key for key, _, _ in places)))
            else:
                found = list(rows.by_id(connection, namespace, selection.ids))
                if node is not None:
                    found = [row for row in found if node.matches(metadata_of(row.metadata))]
            return records_of(view, found[:limit], projection)

    return session.consistently(run)


def scan(
    session: Session,
    current: Callable[[Session], Session],
    namespace: str | None,
    selection: Selection,
    projection: Projection,
    order: FieldOrder | None = None,
) -> Iterator[Record]:
    """Rows in the order of (namespace, id), or of a field; namespace None means all.

    `current` gives the session for a page, another one after a fork. Which rows is settled at one generation;
    they are read page by page. One that is removed before its page is reached is left out, one that is
    replaced is given as it is then, if it still matches.
    """

    def select(view: View) -> InOrder:
        with view.connection() as connection:
            if order is None:
                return InOrder(_selected(view, connection, namespace, selection), [])
            places = _selected(view, connection, namespace, selection._replace(limit=None))
            return in_field_order(
                connection, view.snapshot, namespace, selection.node, places, order, selection.limit
            )

    found = session.consistently(select)

    def pages() -> Iterator[Record]:
        for start in range(0, len(found.places), _PAGE):
            places = found.places[start : start + _PAGE]
            if order is None:
                cursors = [encode_cursor(space, id) for _, space, id in places]
            else:
                values = found.values[start : start + _PAGE]
                pairs = zip(values, places, strict=True)
                cursors = [order.cursor(FieldPlace(value, space, id)) for value, (_, space, id) in pairs]
            yield from _page(current(session), places, selection.node, projection, cursors)

    return pages()


def sample(
    session: Session,
    n: int,
    namespace: str | None,
    node: Node | None,
    seed: int | None,
    projection: Projection,
) -> list[Record]:
    """Up to n of the rows that match, chosen by chance, each with the same chance; of one generation."""

    def run(view: View) -> list[Record]:
        with view.connection() as connection:
            keys = np.sort(matching_keys(connection, view.snapshot, namespace, node)).tolist()
            chosen = late.random.Random(seed).sample(keys, min(n, len(keys)))
            return records_of(view, rows_of(connection, chosen, view.snapshot.generation), projection)

    return session.consistently(run)


def count(session: Session, namespace: str | None, node: Node | None) -> int:
    """How many rows there are, or match."""

    def run(view: View) -> int:
        with view.connection() as connection:
            if node is None:
                return rows.count(connection, namespace).rows
            return len(matching_keys(connection, view.snapshot, namespace, node))

    return session.consistently(run)


def whole_number_ids(session: Session, namespace: str, node: Node | None) -> NDArray[np.uint64]:
    """The ids that are whole numbers below 2**64, of all rows or those that match, ascending."""

    def run(view: View) -> NDArray[np.uint64]:
        with view.connection() as connection:
            keys = None if node is None else matching_keys(connection, view.snapshot, namespace, node)
            return rows.whole_number_ids(connection, namespace, keys)

    return session.consistently(run)


def namespaces(session: Session) -> dict[str, int]:
    """How many rows each namespace has."""

    def run(view: View) -> dict[str, int]:
        with view.connection() as connection:
            return {name: count.rows for name, count in rows.namespaces(connection).items()}

    return session.consistently(run)


def encode_cursor(namespace: str, id: str) -> str:
    """The opaque place of a row in a scan.

    A damaged catalogue may give bytes for a text. They pass here: reading the row tells of the damage.
    """
    return base64.urlsafe_b64encode(_to_json([namespace, id]).encode()).decode()


def decode_cursor(cursor: str) -> tuple[str, str]:
    """The (namespace, id) of a cursor; InvalidInput if it is not one of ours."""
    try:
        namespace, id = json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True))
        if isinstance(namespace, str) and isinstance(id, str):
            return namespace, id
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise InvalidInput(f"after: {cursor!r:.80} is not a cursor; take it from a Record's .cursor")


def _selected(view: View, connection: Connection, namespace: str | None, selection: Selection) -> list[Place]:
    """The rows by prefix, filter and limit, in the order of (namespace, id)."""
    node, limit, prefix, after = selection.node, selection.limit, selection.prefix, selection.after
    if node is None:
        most = -1 if limit is None else limit
        return rows.in_order(connection, namespace, prefix=prefix, after=after, limit=most)
    matching = set(matching_keys(connection, view.snapshot, namespace, node).tolist())
    found: list[Place] = []
    count = -1 if limit is None else max(_PAGE, 2 * limit)  # read at a time; all, if all are asked for
    while matching and (limit is None or len(found) < limit):
        places = rows.in_order(connection, namespace, prefix=prefix, after=after, limit=count)
        found += [place for place in places if place[0] in matching]
        if count < 0 or len(places) < count:
            break
        after, count = places[-1][1:], 2 * count
    return found[:limit]


def _page(
    session: Session, places: list[Place], node: Node | None, projection: Projection, cursors: list[str]
) -> list[Record]:

    def run(view: View) -> list[Record]:
        with view.connection() as connection:
            found = {row.key: row for row in rows.by_key(connection, (key for key, _, _ in places))}
            current = [found.get(key) or _successor(connection, space, id, node) for key, space, id in places]
            pairs = zip(current, cursors, strict=True)
            there = [(row, cursor) for row, cursor in pairs if row is not None]
            return records_of(view, [row for row, _ in there], projection, [cursor for _, cursor in there])

    return session.consistently(run)


def _successor(connection: Connection, namespace: str, id: str, node: Node | None) -> Row | None:
    """The row that has replaced one with this id, if there is one that matches."""
    row = next(rows.by_id(connection, namespace, [id]), None)
    return row if row is not None and (node is None or node.matches(metadata_of(row.metadata))) else None


def records_of(
    view: View, found: list[Row], projection: Projection, cursors: list[str] | None = None
) -> list[Record]:
    """Records of rows; without cursors with those of the order of (namespace, id)."""
    if cursors is None:
        cursors = [encode_cursor(row.namespace, row.id) for row in found]
    vectors: dict[int, NDArray[np.float32]] = {}
    if projection.vector:
        keys = [row.key for row in found if not row.without_vector]
        vectors = vectors_of(view.snapshot, keys)
    return [
        Record(
            row.id,
            row.namespace,
            metadata_of(row.metadata) if projection.metadata else None,
            row.document if projection.document else None,
            vectors.get(row.key),
            cursor,
        )
        for row, cursor in zip(found, cursors, strict=True)
    ]
