"""Rows: id, metadata and document of everything stored, and how many each namespace has."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import keywords
from mrlstore.catalogue.connection import Connection, matches
from mrlstore.errors import CorruptStore

_HEAD = struct.Struct("<qqiiii")
_decode = json.JSONDecoder().raw_decode
_COLUMNS = "key, namespace, id, bare, metadata, document, crc"


class Row(NamedTuple):
    """One row as the catalogue keeps it: metadata is JSON text; `bare` rows have no vector.

    A key's row never changes, but that repair() may make it bare: what replaces it gets a new key, and no key
    is used again.
    """

    key: int
    namespace: str
    id: str
    bare: int  # 0 or 1
    metadata: str | None
    document: str | None


def metadata_of(text: str | None) -> dict[str, Any] | None:
    """Metadata from its JSON text; CorruptStore if that is none: no checksum protects from forgeries."""
    if text is None:
        return None
    try:
        found, end = _decode(text)  # half of the time that json.loads takes for so little
    except (ValueError, RecursionError) as error:
        raise CorruptStore("catalogue.db", f"metadata are not JSON ({error})") from error
    if end != len(text) or not isinstance(found, dict):
        raise CorruptStore("catalogue.db", "metadata are no JSON object")
    return found


def _crc(row: Row) -> int:
    key, namespace, id, bare, metadata, document = row
    space, name = namespace.encode(), id.encode()
    data = b"" if metadata is None else metadata.encode()
    text = b"" if document is None else document.encode()
    data_length = -1 if metadata is None else len(data)
    text_length = -1 if document is None else len(text)
    head = _HEAD.pack(key, bare, len(space), len(name), data_length, text_length)
    return zlib.crc32(b"".join((head, space, name, data, text)))


def insert(connection: Connection, rows: Sequence[Row]) -> None:
    """Add rows whose ids are not there; counts and the keyword index follow."""
    connection.executemany(
        f"INSERT INTO rows({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((*row, _crc(row)) for row in rows),
    )
    documents = [(row.key, row.document) for row in rows if row.document]
    if documents:
        keywords.insert(connection, documents)
    _count(connection, ((row.namespace, row.bare) for row in rows), +1)


def remove(connection: Connection, namespace: str, ids: Iterable[str]) -> list[tuple[int, bool]]:
    """Take rows out by id and give (key, bare) of those that were there."""
    names = tuple(id.encode() for id in ids)  # as blobs: carray takes no text with a zero character in it
    if not names:
        return []
    gone: Any = connection.execute(
        "DELETE FROM rows WHERE namespace = ? AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))"
        f" RETURNING key, bare, {keywords.INDEXED}",
        (namespace, apsw.carray(names)),
    ).fetchall()
    _count(connection, ((namespace, bool(bare)) for _, bare, _ in gone), -1)
    return _without_keywords(connection, gone)


def remove_namespace(connection: Connection, namespace: str) -> list[tuple[int, bool]]:
    """Take all rows of a namespace out and give (key, bare) of each."""
    gone: Any = connection.execute(
        f"SELECT key, bare, {keywords.INDEXED} FROM rows WHERE namespace = ?", (namespace,)
    ).fetchall()
    connection.execute("DELETE FROM rows WHERE namespace = ?", (namespace,))
    connection.execute("DELETE FROM namespaces WHERE name = ?", (namespace,))
    return _without_keywords(connection, gone)


def _without_keywords(connection: Connection, gone: list[tuple[int, int, int]]) -> list[tuple[int, bool]]:
    """Take rows that are gone, (key, bare, has a document), out of the keyword index; give (key, bare)."""
    indexed = [key for key, _, has_document in gone if has_document]
    if indexed:
        keywords.remove(connection, indexed)
    return [(key, bool(bare)) for key, bare, _ in gone]


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
    bare_only: bool = False,
    limit: int = -1,
) -> list[tuple[int, str, str]]:
    """(key, namespace, id) in the order of (namespace, id), of one namespace or all, behind `after`."""
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
    if bare_only:
        clauses.append("bare = 1")
    sql = f"SELECT key, namespace, id FROM rows WHERE {' AND '.join(clauses)} ORDER BY namespace, id LIMIT ?"
    return connection.execute(sql, (*bound, limit)).fetchall()  # type: ignore[return-value]


def count(connection: Connection, namespace: str | None) -> tuple[int, int]:
    """(rows, rows without a vector) of a namespace, or of all."""
    counts = namespaces(connection)
    chosen = counts.values() if namespace is None else [counts.get(namespace, (0, 0))]
    return sum(rows for rows, _ in chosen), sum(bare for _, bare in chosen)


def namespaces(connection: Connection) -> dict[str, tuple[int, int]]:
    """(rows, rows without a vector) of every namespace that has rows."""
    counts = {}
    for name, rows, bare, crc in connection.execute("SELECT name, rows, bare, crc FROM namespaces"):
        if not matches(crc, _count_crc, name, rows, bare):
            raise CorruptStore(connection.filename, f"the count of namespace {name!r} does not match its crc")
        counts[name] = (rows, bare)
    return counts


def only_namespace(connection: Connection, namespace: str) -> bool:
    """Whether no other namespace has rows."""
    other = connection.execute("SELECT 1 FROM namespaces WHERE name <> ? LIMIT 1", (namespace,)).get
    return other is None


def _count(connection: Connection, changed: Iterable[tuple[str, int]], sign: int) -> None:
    changes: dict[str, list[int]] = {}
    for name, bare in changed:
        change = changes.setdefault(name, [0, 0])
        change[0] += sign
        change[1] += sign * bare
    for name, (rows_change, bare_change) in changes.items():
        found = connection.execute("SELECT rows, bare FROM namespaces WHERE name = ?", (name,)).get
        rows_before, bare_before = found or (0, 0)
        total, without = rows_before + rows_change, bare_before + bare_change
        if total == 0:
            connection.execute("DELETE FROM namespaces WHERE name = ?", (name,))
        else:
            connection.execute(
                "INSERT OR REPLACE INTO namespaces(name, rows, bare, crc) VALUES (?, ?, ?, ?)",
                (name, total, without, _count_crc(name, total, without)),
            )


def _count_crc(name: str, rows: int, bare: int) -> int:
    return zlib.crc32(f"{name}={rows},{bare}".encode())


def _checked(connection: Connection, raw: tuple[object, ...]) -> Row:
    *values, crc = raw
    row = Row(*values)  # type: ignore[arg-type]
    if not matches(crc, _crc, row):
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
