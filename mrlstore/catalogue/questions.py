"""The catalogue's `questions` table: vectors of live questions, which calibration learns from."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from mrlstore.catalogue import settings
from mrlstore.catalogue.connection import Connection, matches

FIRST_WITH_QUESTIONS: Final = 4  # the first format version with this table
MOST: Final = 1_000  # the newest that are kept: 6 MB of 3,072 dims
TABLE: Final = """
CREATE TABLE IF NOT EXISTS questions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL
) STRICT
"""


class Question(NamedTuple):
    """One live question."""

    namespace: str
    vector: bytes  # float16 [dim], unit length


def load(connection: Connection) -> list[Question]:
    """All that are kept, the oldest first. One that does not match its crc is left out."""
    return [question for question, sound in _all(connection) if sound]


def count(connection: Connection) -> int:
    """How many are kept."""
    if not _there(connection):
        return 0
    return int(connection.execute("SELECT count(*) FROM questions").get)


def add(connection: Connection, questions: Iterable[Question]) -> None:
    """Keep these, and of all the newest MOST."""
    connection.executemany(
        "INSERT INTO questions(namespace, vector, crc) VALUES (?, ?, ?)",
        ((*question, _crc(*question)) for question in questions),
    )
    with _overwriting(connection):
        connection.execute(
            "DELETE FROM questions WHERE id <= (SELECT id FROM questions ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (MOST,),
        )


def drop(connection: Connection) -> None:
    """Delete all of them."""
    with _overwriting(connection):
        connection.execute("DELETE FROM questions")


@contextmanager
def _overwriting(connection: Connection) -> Iterator[None]:
    """What is deleted in this context is overwritten on the disk; other deletes need not be."""
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    try:
        yield
    finally:
        connection.execute("PRAGMA secure_delete = OFF").fetchall()


def problems(connection: Connection) -> list[str]:
    """A sentence for each question that does not match its crc."""
    return [
        f"a kept question of namespace {question.namespace!r} does not match its crc"
        for question, sound in _all(connection)
        if not sound
    ]


def make_table(connection: Connection) -> None:
    """In a new store, or in one of an older format."""
    connection.execute(TABLE)


def _there(connection: Connection) -> bool:
    return settings.get_int(connection, "format_version") >= FIRST_WITH_QUESTIONS


def _all(connection: Connection) -> list[tuple[Question, bool]]:
    if not _there(connection):
        return []
    found = connection.execute("SELECT namespace, vector, crc FROM questions ORDER BY id")
    return [(Question(*entry), matches(crc, _crc, *entry)) for *entry, crc in found]


def _crc(namespace: str, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(namespace.encode()))
