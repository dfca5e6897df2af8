"""The catalogue's mark, and its `operations` table: how far a copy of a log of writes has come.

A store that follows a log commits with each entry the place of that entry, its mark, and for each client the
number and the result of its last operation. So the rows, the mark and the results are always of one moment:
what is read again from the log after a crash is known to have been applied. A store without a log has the
mark (0, 0).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from mrlstore.catalogue import settings
from mrlstore.catalogue.connection import Connection, matches
from mrlstore.checks import check_utf8
from mrlstore.errors import CorruptStore, InvalidInput

FIRST_WITH_MARKS: Final = 6  # the first format version with a mark
MOST_CLIENTS: Final = 10_000  # the last operations of so many clients are kept, those of the newest marks
RESULT_BYTES: Final = 4_096
TABLE: Final = """
CREATE TABLE IF NOT EXISTS operations(
    client TEXT PRIMARY KEY, number INTEGER NOT NULL, result TEXT NOT NULL, place INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS operations_by_place ON operations(place);
"""
_EPOCH, _PLACE, _FORGOTTEN = "mark_epoch", "mark_place", "forgotten_place"


class Mark(NamedTuple):
    """A place in a log of writes, and the epoch of the entry there. Places rise, and epochs with them."""

    epoch: int
    place: int


NO_MARK: Final = Mark(0, 0)


class ClientOperation(NamedTuple):
    """The last operation of a client that was applied: its number, which rises with each, and its result."""

    client: str
    number: int
    result: str


def load(connection: Connection) -> Mark:
    """The mark of the newest commit; (0, 0) in stores of a format before 6."""
    if connection.execute("SELECT 1 FROM settings WHERE name = ?", (_PLACE,)).get is None:
        return NO_MARK
    return Mark(settings.get_int(connection, _EPOCH), settings.get_int(connection, _PLACE))


def move(connection: Connection, mark: Mark) -> None:
    """Set the mark in a write transaction; InvalidInput where it does not lie behind the one before."""
    before = load(connection)
    if mark.place <= before.place or mark.epoch < before.epoch:
        raise InvalidInput(f"mark: {tuple(mark)} does not lie behind {tuple(before)}, where the store stands")
    settings.put(connection, _EPOCH, mark.epoch)
    settings.put(connection, _PLACE, mark.place)


def last_operation(connection: Connection, client: str) -> ClientOperation | None:
    """The last operation of a client; None where none is kept, see `forgotten`."""
    found = connection.execute(
        "SELECT client, number, result, place, crc FROM operations WHERE client = ?", (client,)
    ).get
    if found is None:
        return None
    *values, crc = found
    if not matches(crc, _crc, *values):
        raise CorruptStore(connection.filename, f"the last operation of {client!r} does not match its crc")
    return ClientOperation(*values[:3])


def keep_operations(connection: Connection, operations: Iterable[ClientOperation], place: int) -> None:
    """Store the last operations of clients, in the transaction that applies them.

    Of all clients the MOST_CLIENTS with the newest places stay.
    """
    for operation in operations:
        if check_utf8(operation.result, "result") > RESULT_BYTES:
            raise InvalidInput(f"result: longer than {RESULT_BYTES} bytes")
        connection.execute(
            "INSERT OR REPLACE INTO operations(client, number, result, place, crc) VALUES (?, ?, ?, ?, ?)",
            (*operation, place, _crc(*operation, place)),
        )
    newest_dropped = connection.execute(
        "SELECT place FROM operations ORDER BY place DESC LIMIT 1 OFFSET ?", (MOST_CLIENTS,)
    ).get
    if newest_dropped is not None:
        settings.put(connection, _FORGOTTEN, newest_dropped)
        connection.execute("DELETE FROM operations WHERE place <= ?", (newest_dropped,))


def forgotten(connection: Connection) -> int:
    """The newest place of an operation that is no longer kept.

    A client whose first operation is not behind it and of which nothing is kept may have had one that was
    applied: to repeat that is refused.
    """
    return settings.get_int(connection, _FORGOTTEN)


def problems(connection: Connection) -> list[str]:
    """A sentence for each kept operation that does not match its crc."""
    if settings.get_int(connection, "format_version") < FIRST_WITH_MARKS:
        return []
    found = connection.execute("SELECT client, number, result, place, crc FROM operations")
    return [
        f"the last operation of {values[0]!r} does not match its crc"
        for *values, crc in found
        if not matches(crc, _crc, *values)
    ]


def make(connection: Connection) -> None:
    """Make the table and the settings, in a new store or in one of an older format."""
    connection.execute(TABLE)
    for name in (_EPOCH, _PLACE, _FORGOTTEN):
        settings.put(connection, name, 0)


def _crc(client: str, number: int, result: str, place: int) -> int:
    return zlib.crc32(f"{client!r} {number} {result!r} {place}".encode())
