"""The keyword index: FTS5 over the rows' documents, written in the transaction that writes the rows.

It is contentless (docs/decisions tells why): it keeps words and where they stand, not the texts, which stand
in `rows`; a row leaves it by its key alone. Rows whose document is missing or empty are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import apsw
import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import settings
from mrlstore.catalogue.connection import Connection
from mrlstore.errors import CorruptStore
from mrlstore.types import Tokenizer

TOKENIZERS: Final = {
    "unicode61": "unicode61 remove_diacritics 2",
    "porter": "porter unicode61 remove_diacritics 2",
    "trigram": "trigram remove_diacritics 1",
}
DEFAULT_TOKENIZER: Final[Tokenizer] = "unicode61"
_PAGE = 1_000
_LONGEST = 32_768  # bytes of a word; FTS5 cuts longer ones
_P, _Q, _R = 2_147_483_647, 2_147_483_629, 4_294_967_291  # primes

Places = tuple[int, int]  # how often a word stands, and one number for all its rows and places
INDEXED: Final = "coalesce(octet_length(document), 0) > 0"  # which rows it holds


def create(connection: Connection, tokenizer: str) -> None:
    """Make the index, empty."""
    if tokenizer not in TOKENIZERS:
        raise CorruptStore(connection.filename, f"{tokenizer!r} is no tokenizer of this version")
    connection.execute(
        "CREATE VIRTUAL TABLE keywords USING fts5("
        f"document, content='', contentless_delete=1, tokenize='{TOKENIZERS[tokenizer]}')"
    )


def insert(connection: Connection, documents: Iterable[tuple[int, str]]) -> None:
    """Add (row key, document); none of them empty."""
    connection.executemany("INSERT INTO keywords(rowid, document) VALUES (?, ?)", documents)


def remove(connection: Connection, keys: Iterable[int]) -> None:
    """Take the documents of these rows out."""
    connection.executemany("DELETE FROM keywords WHERE rowid = ?", ((key,) for key in keys))


def fill(connection: Connection) -> None:
    """Add the documents of all rows to an empty index."""
    for start in _pages(connection):
        connection.execute(
            "INSERT INTO keywords(rowid, document)"
            f" SELECT key, document FROM rows WHERE key BETWEEN ? AND ? AND {INDEXED}",
            start,
        )


def rebuild(connection: Connection, tokenizer: str) -> None:
    """Make the index anew from the rows' documents, whatever state it is in."""
    connection.execute("DROP TABLE IF EXISTS keywords")
    create(connection, tokenizer)
    fill(connection)


def scattered(connection: Connection) -> bool:
    """Whether the index lies in several pieces, which `merge` makes one."""
    return int(connection.execute("SELECT count(DISTINCT segid) FROM keywords_idx").get) > 1


def merge(connection: Connection, pages: int) -> bool:
    """Do a bounded share of the work that makes the index one piece; False when there is nothing left."""
    before = connection.total_changes()
    connection.execute("INSERT INTO keywords(keywords, rank) VALUES ('merge', ?)", (-pages,))
    return connection.total_changes() - before >= 2


def documents(connection: Connection) -> int:
    """How many documents the index has."""
    return int(connection.execute("SELECT count(*) FROM keywords_docsize").get)


def at_least(connection: Connection, expression: str, count: int) -> bool:
    """Whether at least `count` documents match an FTS5 expression; looks no further than that."""
    found = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT ?)", (expression, count)
    ).get
    return int(found) >= count


def best(
    connection: Connection, expression: str, count: int, allowed: NDArray[np.int64] | None
) -> list[tuple[int, float]]:
    """(row key, BM25 score) of the best `count` rows that match, best first; equal scores go by row key.

    `allowed` are the only keys that may be answers, in any order; others are not even scored.
    """
    clause = ""
    bound: list[Any] = [expression]
    if allowed is not None:
        if not len(allowed):
            return []
        clause = " AND +rowid IN (SELECT value FROM carray(?))"
        bound.append(apsw.carray(np.ascontiguousarray(allowed)))
    found = connection.execute(
        f"SELECT rowid, -bm25(keywords) AS score FROM keywords WHERE keywords MATCH ?{clause}"
        " ORDER BY score DESC, rowid LIMIT ?",
        (*bound, count),
    )
    return found.fetchall()  # type: ignore[return-value]


def problems(connection: Connection) -> Iterator[str]:
    """What is wrong with the index, in words: it is compared with the documents, word by word.

    SQLite's check of its structure finds less: of 100 flipped bits 19, where 93 changed what it says.
    """
    # A query makes FTS5 look whether another connection has changed the index; its check alone does not, and
    # would take pages that have been merged away for damage.
    connection.execute("SELECT 1 FROM keywords WHERE keywords MATCH '\"any\"' LIMIT 1").fetchall()
    for (words,) in connection.execute("PRAGMA integrity_check(keywords)"):
        if words != "ok":
            yield f"fails SQLite's check: {words}"
    wanted, held = f"SELECT key FROM rows WHERE {INDEXED}", "SELECT id FROM keywords_docsize"
    for first, second, words in ((wanted, held, "lacks {} documents"), (held, wanted, "has {} too many")):
        count = connection.execute(f"SELECT count(*) FROM ({first} EXCEPT {second})").get
        if count:
            yield words.format(count)
    if _indexed_places(connection) != _places_in_documents(connection):
        yield "does not say where the words of the documents stand"


def _indexed_places(connection: Connection) -> dict[bytes, Places]:
    """What the index holds of each word."""
    connection.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab('main', 'keywords', 'instance')")
    try:
        x = "(doc * 31 + offset)"
        found = connection.execute(
            f"SELECT CAST(term AS BLOB), count(*), sum(({x} % {_P}) * ({x} % {_Q}) % {_R})"
            " FROM temp.places GROUP BY term"
        )
        return {word: (count, total) for word, count, total in found}
    finally:
        connection.execute("DROP TABLE temp.places")


def _places_in_documents(connection: Connection) -> dict[bytes, Places]:
    """The same, from the documents."""
    name, *options = TOKENIZERS[str(settings.get(connection, "tokenizer"))].split()
    cut = connection.fts5_tokenizer(name, options)
    numbers: dict[str, int] = {}
    held = np.zeros((2, 0), np.int64)  # count and sum, by the words' numbers
    for first, last in _pages(connection):
        known: list[int] = []
        places = []
        for key, document in connection.execute(
            f"SELECT key, CAST(document AS BLOB) FROM rows WHERE key BETWEEN ? AND ? AND {INDEXED}",
            (first, last),
        ):
            words: Any = cut(
                document, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
            )
            known += [numbers.setdefault(word, len(numbers)) for word in words]
            places.append(np.arange(len(words), dtype=np.int64) + int(key) * 31)
        x = np.concatenate(places) if places else np.empty(0, np.int64)
        shares = (x % _P) * (x % _Q) % _R
        held = np.pad(held, ((0, 0), (0, len(numbers) - held.shape[1])))
        chosen = np.array(known, np.int64)
        held[0] += np.bincount(chosen, minlength=len(numbers))
        held[1] += np.bincount(chosen, shares, len(numbers)).astype(np.int64)  # below 2**53: exact
    found: dict[bytes, Places] = {}
    for word, count, total in zip(numbers, *held.tolist(), strict=True):
        before = found.get(word.encode()[:_LONGEST], (0, 0))
        found[word.encode()[:_LONGEST]] = (before[0] + count, before[1] + total)
    return found


def _pages(connection: Connection) -> Sequence[tuple[int, int]]:
    """Ranges of keys, first and last, that hold all rows, some of each page."""
    keys = [key for (key,) in connection.execute("SELECT key FROM rows ORDER BY key")]
    return [(part[0], part[-1]) for part in (keys[at : at + _PAGE] for at in range(0, len(keys), _PAGE))]
