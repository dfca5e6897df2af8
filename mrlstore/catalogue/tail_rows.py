"""The catalogue's `tail` and `removed` tables: vectors not yet in a segment, and keys that are dead.

Every row carries the generation of the transaction that wrote it, so that a reader loads only what is newer
than its snapshot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mrlstore.catalogue.connection import Connection, matches
from mrlstore.errors import CorruptStore
from mrlstore.system.files import Buffer

_HEAD = struct.Struct("<qqd")
_REMOVAL = struct.Struct("<qq")


@dataclass(frozen=True, slots=True)
class TailRow:
    """A committed row whose vector is not yet in a segment; `vector` is its float16 unit row as bytes."""

    key: int
    namespace: str
    id: str
    metadata: str | None
    vector: bytes
    norm: float


def insert(connection: Connection, generation: int, rows: Iterable[tuple[int, Buffer, float]]) -> None:
    """Add rows of (key, float16 bytes, original length), stamped with the transaction's generation."""
    connection.executemany(
        "INSERT INTO tail(key, vector, norm, gen, crc) VALUES (?, ?, ?, ?, ?)",
        ((key, vector, norm, generation, _crc(key, generation, norm, vector)) for key, vector, norm in rows),
    )


def since(connection: Connection, generation: int) -> list[TailRow]:
    """Rows written after `generation`, in the order of their keys."""
    found = connection.execute(
        "SELECT tail.key, tail.vector, tail.norm, tail.gen, tail.crc, rows.namespace, rows.id, rows.metadata"
        " FROM tail LEFT JOIN rows ON rows.key = tail.key WHERE tail.gen > ? ORDER BY tail.key",
        (generation,),
    )
    rows = []
    for key, vector, norm, gen, crc, namespace, id, metadata in found:
        if not matches(crc, _crc, key, gen, norm, vector) or id is None:
            raise CorruptStore(connection.filename, f"the tail row with key {key} does not match its crc")
        rows.append(TailRow(key, namespace, id, metadata, vector, norm))
    return rows


def broken(connection: Connection) -> list[int]:
    """Keys of rows that do not match their crc."""
    found = connection.execute("SELECT key, vector, norm, gen, crc FROM tail")
    return [key for key, vector, norm, gen, crc in found if not matches(crc, _crc, key, gen, norm, vector)]


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
