"""Rows: id, metadata and document of everything stored, and how many each namespace has."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import keywords
from mrlstore.catalogue.connection import Connection, matches
from mrlstore.errors import CorruptStore

_HEAD = struct.Struct("<qqiiii")
_decode = json.JSONDecoder().raw_decode
_METADATA_TYPES: Final = {dict, type(None)}
_WHOLE_NUMBER = (
    "namespace = ? AND id >= '0' AND id < ':' AND length(id) <= 20 AND id NOT GLOB '*[^0-9]*'"
    " AND (id = '0' OR id NOT GLOB '0*') AND (length(id) < 20 OR id <= '18446744073709551615')"
)
_COLUMNS = "key, namespace, id, bare, metadata, document, crc"


class Row(NamedTuple):
    """One row as the catalogue keeps it; metadata is JSON text.

    The row of a key never changes, with one exception: repair() marks a row whose vector is lost as being
    without one. A row that replaces another gets a new key, and no key is used again.
    """

    key: int
    namespace: str
    id: str
    without_vector: int  # 0 or 1; the column `bare`
    metadata: str | None
    document: str | None


class Removed(NamedTuple):
    """A row that was taken out."""

    key: int
    had_vector: bool


class Count(NamedTuple):
    """How many rows there are, and how many of them have no vector."""

    rows: int
    without_vector: int


def metadata_of(text: str | None) -> dict[str, Any] | None:
    """Metadata from its JSON text; CorruptStore if that is not a JSON object.

    A matching checksum does not prove that it is one: whoever forges a row can compute the checksum too.
    """
    if text is None:
        return None
    try:
        found, end = _decode(text)  # json.loads takes twice as long for a text this short
    except (ValueError, RecursionError) as error:
        raise CorruptStore("catalogue.db", f"metadata is not JSON ({error})") from error
    if end != len(text) or not isinstance(found, dict):
        raise CorruptStore("catalogue.db", "metadata is not a JSON object")
    return found


def metadata_of_texts(texts: bytes, count: int) -> list[dict[str, Any] | None]:
    """Metadata of several rows from their JSON texts in UTF-8, joined by commas, `null` where a row has none.

    Read at once they take two thirds of the time. CorruptStore as for `metadata_of`.
    """
    try:
        joined = str(b"[%b]" % texts, "utf-8")
        found, end = _decode(joined)
    except (ValueError, RecursionError) as error:
        raise CorruptStore("catalogue.db", f"metadata is not JSON ({error})") from error
    if end != len(joined) or len(found) != count or not {type(one) for one in found} <= _METADATA_TYPES:
        raise CorruptStore("catalogue.db", "metadata is not a JSON object")
    return found  # type: ignore[no-any-return]


def _crc(row: Row) -> int:
    key, namespace, id, without_vector, metadata, document = row
    space, name = namespace.encode(), id.encode()
    data = b"" if metadata is None else metadata.encode()
    text = b"" if document is None else document.encode()
    data_length = -1 if metadata is None else len(data)
    text_length = -1 if document is None else len(text)
    head = _HEAD.pack(key, without_vector, len(space), len(name), data_length, text_length)
    return zlib.crc32(b"".join((head, space, name, data, text)))


def is_whole(row: Row, crc: object) -> bool:
    """Whether a row matches its crc."""
    return matches(crc, _crc, row)


def insert(connection: Connection, rows: Sequence[Row]) -> None:
    """Add rows whose ids are not in the store; counts and the keyword index are updated with them."""
    connection.executemany(
        f"INSERT INTO rows({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((*row, _crc(row)) for row in rows),
    )
    documents = [(row.key, row.document) for row in rows if row.document]
    if documents:
        keywords.insert(connection, documents)
    _count(connection, ((row.namespace, row.without_vector) for row in rows), +1)


def remove(connection: Connection, namespace: str, ids: Iterable[str]) -> list[Removed]:
    """Take rows out by id; gives those that were there."""
    names = tuple(id.encode() for id in ids)  # as blobs: carray refuses a text that contains U+0000
    if not names:
        return []
    gone: Any = connection.execute(
        "DELETE FROM rows WHERE namespace = ? AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))"
        f" RETURNING key, bare, {keywords.INDEXED}",
        (namespace, apsw.carray(names)),
    ).fetchall()
    _count(connection, ((namespace, bool(bare)) for _, bare, _ in gone), -1)
    return _without_keywords(connection, gone)


def remove_namespace(connection: Connection, namespace: str) -> list[Removed]:
    """Take all rows of a namespace out; gives them."""
    gone: Any = connection.execute(
        f"SELECT key, bare, {keywords.INDEXED} FROM rows WHERE namespace = ?", (namespace,)
    ).fetchall()
    connection.execute("DELETE FROM rows WHERE namespace = ?", (namespace,))
    connection.execute("DELETE FROM namespaces WHERE name = ?", (namespace,))
    return _without_keywords(connection, gone)


def _without_keywords(connection: Connection, gone: list[tuple[int, int, int]]) -> list[Removed]:
    """Take removed rows, (key, bare, has a document), out of the keyword index as well."""
    indexed = [key for key, _, has_document in gone if has_document]
    if indexed:
        keywords.remove(connection, indexed)
    return [Removed(key, not bare) for key, bare, _ in gone]


def existing(connection: Connection, namespace: str, ids: Iterable[str]) -> list[str]:
    """Those of `ids` that are there, in their order."""
    found = connection.executemany(
        "SELECT id FROM rows WHERE namespace = ? AND id = ?", ((namespace, id) for id in ids)
    )
    return [id for (id,) in found]


def by_id(connection: Connection, namespace: str, ids: Iterable[str]) -> Iterator[Row]:
    """Rows by id, in the order of `ids`; missing ones are skipped."""
    found = connection.executemany(
        f"SELECT {_COLUMNS} FROM rows WHERE namespace = ? AND id = ?",
        ((namespace, id) for id in ids),
    )
    return (_checked(connection, raw) for raw in found)


def by_key(connection: Connection, keys: Iterable[int] | NDArray[np.int64]) -> Iterator[Row]:
    """Rows by key, in the order of `keys`, by one statement; missing ones are skipped."""
    wanted = keys if isinstance(keys, np.ndarray) else np.fromiter(keys, np.int64)
    if not len(wanted):
        return iter(())
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM carray(?) CROSS JOIN rows ON key = value",
        (apsw.carray(wanted, flags=apsw.SQLITE_CARRAY_INT64),),
    )
    return (_checked(connection, raw) for raw in found)


def in_order(
    connection: Connection,
    namespace: str | None,
    *,
    prefix: str | None = None,
    after: tuple[str, str] | None = None,
    without_vector_only: bool = False,
    limit: int = -1,
) -> list[tuple[int, str, str]]:
    """(key, namespace, id) ordered by (namespace, id), of one namespace or all, beginning after `after`."""
    clauses, bound = ["1"], []
    if namespace is not None:
        clauses.append("namespace = ?")
        bound.append(namespace)
    if prefix:
        clauses.append("id >= ?")
        bound.append(prefix)
        successor = _successor(prefix)
        if successor is not None:
            clauses.append("id < ?")
            bound.append(successor)
    if after is not None:
        clauses.append("(namespace, id) > (?, ?)")
        bound.extend(after)
    if without_vector_only:
        clauses.append("bare = 1")
    sql = f"SELECT key, namespace, id FROM rows WHERE {' AND '.join(clauses)} ORDER BY namespace, id LIMIT ?"
    return connection.execute(sql, (*bound, limit)).fetchall()  # type: ignore[return-value]


def whole_number_ids(
    connection: Connection, namespace: str, keys: NDArray[np.int64] | None = None
) -> NDArray[np.uint64]:
    """The ids that are whole numbers below 2**64, uint64, ascending; of some keys or all. No leading zeros.

    The index by id is read from "0" to ":", which takes 0.5 us for each id that begins with a digit.
    """
    if keys is not None and not len(keys):
        return np.empty(0, np.uint64)
    if keys is None:
        found = connection.execute(f"SELECT id FROM rows WHERE {_WHOLE_NUMBER}", (namespace,))
    else:
        found = connection.execute(
            f"SELECT id FROM carray(?) CROSS JOIN rows ON key = value WHERE {_WHOLE_NUMBER}",
            (apsw.carray(keys, flags=apsw.SQLITE_CARRAY_INT64), namespace),
        )
    return np.sort(np.fromiter((int(id) for (id,) in found), np.uint64))


def count(connection: Connection, namespace: str | None) -> Count:
    """How many rows a namespace has, or all of them together."""
    counts = namespaces(connection)
    chosen = counts.values() if namespace is None else [counts.get(namespace, Count(0, 0))]
    return Count(sum(one.rows for one in chosen), sum(one.without_vector for one in chosen))


def namespaces(connection: Connection) -> dict[str, Count]:
    """How many rows every namespace has that has any."""
    counts = {}
    for name, rows, bare, crc in connection.execute("SELECT name, rows, bare, crc FROM namespaces"):
        if not matches(crc, _count_crc, name, rows, bare):
            raise CorruptStore(connection.filename, f"the count of namespace {name!r} does not match its crc")
        counts[name] = Count(rows, bare)
    return counts


def only_namespace(connection: Connection, namespace: str) -> bool:
    """Whether no other namespace has rows."""
    other = connection.execute("SELECT 1 FROM namespaces WHERE name <> ? LIMIT 1", (namespace,)).get
    return other is None


def _count(connection: Connection, changed: Iterable[tuple[str, int]], sign: int) -> None:
    """Raise (sign +1) or lower (-1) the counts of namespaces by these (namespace, 1 if without a vector)."""
    changes: dict[str, list[int]] = {}
    for name, without_vector in changed:
        change = changes.setdefault(name, [0, 0])
        change[0] += sign
        change[1] += sign * without_vector
    for name, (rows_change, without_change) in changes.items():
        found = connection.execute("SELECT rows, bare FROM namespaces WHERE name = ?", (name,)).get
        rows_before, without_before = found or (0, 0)
        total, without = rows_before + rows_change, without_before + without_change
        if total == 0:
            connection.execute("DELETE FROM namespaces WHERE name = ?", (name,))
        else:
            connection.execute(
                "INSERT OR REPLACE INTO namespaces(name, rows, bare, crc) VALUES (?, ?, ?, ?)",
                (name, total, without, _count_crc(name, total, without)),
            )


def _count_crc(name: str, rows: int, without_vector: int) -> int:
    return zlib.crc32(f"{name}={rows},{without_vector}".encode())


def _checked(connection: Connection, raw: tuple[object, ...]) -> Row:
    *values, crc = raw
    row = Row(*values)  # type: ignore[arg-type]
    if not is_whole(row, crc):
        raise CorruptStore(connection.filename, f"the row with key {row.key} does not match its crc")
    return row


def _successor(prefix: str) -> str | None:
    """The smallest text greater than every text with this prefix, in UTF-8 order; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None
