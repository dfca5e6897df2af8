"""Calibrations as the catalogue keeps them: for each k and class of filters one JSON text, with its crc."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from mrlstore.catalogue.connection import Connection, matches

Stored = tuple[int, str, str]  # k, class, JSON


def load(connection: Connection) -> tuple[Stored, ...]:
    """All calibrations, ordered. One that does not match its crc is left out: it is only advice."""
    return tuple(stored for stored, sound in _all(connection) if sound)


def replace(connection: Connection, entries: Iterable[Stored]) -> None:
    """Write these in place of those of the same k and class."""
    connection.executemany(
        "INSERT OR REPLACE INTO calibration(k, class, value, crc) VALUES (?, ?, ?, ?)",
        ((k, name, value, _crc(k, name, value)) for k, name, value in entries),
    )


def clear(connection: Connection) -> None:
    """Forget all of them."""
    connection.execute("DELETE FROM calibration")


def problems(connection: Connection) -> list[str]:
    """Which do not match their crc, in words, for verify()."""
    return [
        f"the calibration for k {k}, class {name!r} does not match its crc"
        for (k, name, _), sound in _all(connection)
        if not sound
    ]


def _all(connection: Connection) -> list[tuple[Stored, bool]]:
    """Every entry, and whether it matches its crc."""
    found: Any = connection.execute("SELECT k, class, value, crc FROM calibration ORDER BY k, class")
    return [((k, name, value), matches(crc, _crc, k, name, value)) for k, name, value, crc in found]


def _crc(k: int, name: str, value: str) -> int:
    return zlib.crc32(f"{k},{name}={value}".encode())
