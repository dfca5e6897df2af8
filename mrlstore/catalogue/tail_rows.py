"""The catalogue's `tail` and `removed` tables: vectors not yet in a segment, and keys that are dead.

Every row carries the generation of the transaction that wrote it, so that a reader loads only what is newer
than its snapshot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import settings
from mrlstore.catalogue.connection import Connection, matches
from mrlstore.catalogue.rows import Row, is_whole
from mrlstore.errors import CorruptStore
from mrlstore.system.files import Buffer

_HEAD = struct.Struct("<qqd")
_REMOVAL = struct.Struct("<qq")
_SHORTEST, _LONGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # lengths of vectors
_SIGN, _EXPONENT = np.uint16(0x8000), np.uint16(0x7C00)  # bits of a float16; all of the latter: not finite


# Without an order: SQLite would read the whole tail to give these rows in the order of their keys.
SINCE: Final = (
    "SELECT tail.key, tail.vector, tail.norm, tail.gen, tail.crc, rows.namespace, rows.id, rows.bare,"
    " rows.metadata, CASE WHEN octet_length(rows.document) <= ?2 THEN rows.document END,"
    " ifnull(octet_length(rows.document) > ?2, 0), rows.crc"
    " FROM tail LEFT JOIN rows ON rows.key = tail.key WHERE tail.gen > ?1"
)


class TailRow(NamedTuple):
    """A committed row whose vector is not yet in a segment; `vector` is its float16 unit row as bytes."""

    key: int
    namespace: str
    id: str
    metadata: str | None
    vector: bytes
    norm: float
    document: str | None = None  # unless it is longer than was asked for
    has_texts: bool = False  # whether metadata and document are all that the row has, and match its crc


def insert(connection: Connection, generation: int, rows: Iterable[tuple[int, Buffer, float]]) -> None:
    """Add rows of (key, float16 bytes, original length), stamped with the transaction's generation."""
    connection.executemany(
        "INSERT INTO tail(key, vector, norm, gen, crc) VALUES (?, ?, ?, ?, ?)",
        ((key, vector, norm, generation, _crc(key, generation, norm, vector)) for key, vector, norm in rows),
    )


def since(
    connection: Connection,
    generation: int,
    longest: int = 0,
    *,
    dim: int | None = None,
    directions: bool = True,
) -> list[TailRow]:
    """Rows written after `generation`, in the order of their keys; documents of up to `longest` bytes.

    `dim` is the store's, read from the catalogue unless given. Without `directions` the caller finds out
    which vectors are zero or not finite.
    """
    found: Any = connection.execute(SINCE, (generation, longest))
    rows = []
    for key, vector, norm, gen, crc, namespace, id, bare, metadata, document, is_long, row_crc in found:
        if not matches(crc, _crc, key, gen, norm, vector) or id is None:
            raise CorruptStore(connection.filename, f"the tail row with key {key} does not match its crc")
        if gen < 1:
            raise CorruptStore(connection.filename, f"the tail row with key {key} is of generation {gen}")
        row = Row(key, namespace, id, bare, metadata, document)
        has_texts = not is_long and is_whole(row, row_crc)
        rows.append(TailRow(key, namespace, id, metadata, vector, norm, document, has_texts))
    rows.sort(key=lambda row: row.key)
    if rows:
        _check_vectors(connection, rows, dim or settings.dims(connection).dim or 0, directions)
    return rows


def without_direction(source: Path | str, key: int) -> CorruptStore:
    """The error for a vector that is zero or not finite."""
    return CorruptStore(source, f"the tail row with key {key} has no direction")


def _check_vectors(connection: Connection, rows: list[TailRow], dim: int, directions: bool) -> None:
    """Raise CorruptStore where a vector has other dims than the store, no direction, or no usable length."""
    for row in rows:
        if not _has_size(row.vector, row.norm, dim):
            raise CorruptStore(
                connection.filename,
                f"the tail row with key {row.key} has {len(row.vector) // 2} dims and length {row.norm:g}",
            )
    if directions:
        wrong = np.flatnonzero(_without_direction([row.vector for row in rows], dim))
        if len(wrong):
            raise without_direction(connection.filename, rows[wrong[0]].key)


def broken(connection: Connection) -> list[int]:
    """Keys of rows that do not match their crc, or that no write makes."""
    dim = settings.dims(connection).dim or 0
    found = connection.execute("SELECT key, vector, norm, gen, crc FROM tail")
    return [
        key
        for key, vector, norm, gen, crc in found
        if not matches(crc, _crc, key, gen, norm, vector)
        or gen < 1
        or not _has_size(vector, norm, dim)
        or _without_direction([vector], dim).any()
    ]


def _has_size(vector: bytes, norm: float, dim: int) -> bool:
    """Whether a vector has the store's dims, and a length that float32 holds."""
    return len(vector) == 2 * dim and _SHORTEST <= norm <= _LONGEST


def _without_direction(vectors: Sequence[bytes], dim: int) -> NDArray[np.bool_]:
    """Bool [n]: float16 vectors that are zero, or not finite."""
    bits = np.frombuffer(b"".join(vectors), dtype="<u2").reshape(len(vectors), dim)
    largest = (bits & ~_SIGN).max(axis=1, initial=0)
    return np.asarray((largest == 0) | (largest >= _EXPONENT))


def count(connection: Connection) -> int:
    """How many rows the tail has."""
    return int(connection.execute("SELECT count(*) FROM tail").get)


def drop(connection: Connection, keys: Iterable[int]) -> None:
    """Take rows out of the tail, because they are in a segment now, or removed."""
    connection.executemany("DELETE FROM tail WHERE key = ?", ((key,) for key in keys))


def remove(connection: Connection, generation: int, keys: Sequence[int]) -> None:
    """Record that these keys are dead from this generation on, in the tail and in segments."""
    drop(connection, keys)
    connection.executemany(
        "INSERT OR IGNORE INTO removed(gen, key, crc) VALUES (?, ?, ?)",
        ((generation, key, _removal_crc(generation, key)) for key in keys),
    )


def removed_since(connection: Connection, generation: int) -> list[int]:
    """Keys removed after `generation`."""
    keys = []
    for gen, key, crc in connection.execute("SELECT gen, key, crc FROM removed WHERE gen > ?", (generation,)):
        if not matches(crc, _removal_crc, gen, key):
            raise CorruptStore(connection.filename, f"the removal of key {key} does not match its crc")
        keys.append(key)
    return keys


def forget_removals(connection: Connection, keys: Iterable[int]) -> int:
    """Delete the removals of these keys; gives the greatest generation among them, 0 if there are none.

    The caller has made sure that no segment holds the keys any more.
    """
    dead = set(keys)
    known: Any = connection.execute("SELECT gen, key FROM removed").fetchall()
    purged = [(gen, key) for gen, key in known if key in dead]
    connection.executemany("DELETE FROM removed WHERE gen = ? AND key = ?", purged)
    return max((gen for gen, _ in purged), default=0)


def _removal_crc(generation: int, key: int) -> int:
    return zlib.crc32(_REMOVAL.pack(generation, key))


def _crc(key: int, generation: int, norm: float, vector: Buffer) -> int:
    return zlib.crc32(vector, zlib.crc32(_HEAD.pack(key, generation, norm)))
