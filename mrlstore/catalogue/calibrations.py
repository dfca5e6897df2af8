"""The catalogue's `calibration` table: one JSON text for each k and class of filters, with its crc."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from mrlstore.catalogue.connection import Connection, matches


class Stored(NamedTuple):
    """One calibration curve as it is stored."""

    k: int
    filters: str  # the class of filters that it holds for
    text: str  # JSON


def load(connection: Connection) -> tuple[Stored, ...]:
    """All calibrations, by k and class. One that does not match its crc is left out: queries need none."""
    return tuple(stored for stored, sound in _all(connection) if sound)


def replace(connection: Connection, entries: Iterable[Stored]) -> None:
    """Write calibrations; each replaces the one of the same k and class."""
    connection.executemany(
        "INSERT OR REPLACE INTO calibration(k, class, value, crc) VALUES (?, ?, ?, ?)",
        ((*entry, _crc(*entry)) for entry in entries),
    )


def clear(connection: Connection) -> None:
    """Delete all of them."""
    connection.execute("DELETE FROM calibration")


def problems(connection: Connection) -> list[str]:
    """A sentence for each calibration that does not match its crc."""
    return [
        f"the calibration for k {stored.k}, class {stored.filters!r} does not match its crc"
        for stored, sound in _all(connection)
        if not sound
    ]


def _all(connection: Connection) -> list[tuple[Stored, bool]]:
    """Every entry, and whether it matches its crc."""
    found = connection.execute("SELECT k, class, value, crc FROM calibration ORDER BY k, class")
    return [(Stored(*entry), _is_sound(_crc, crc, *entry)) for *entry, crc in found]


@lru_cache(maxsize=256)
def _is_sound(compute: Callable[..., int], crc: object, *entry: object) -> bool:
    """Whether an entry has this crc; remembered, because every reader loads all of them after each commit."""
    return matches(crc, compute, *entry)


def _crc(k: int, filters: str, text: str) -> int:
    return zlib.crc32(f"{k},{filters}={text}".encode())
