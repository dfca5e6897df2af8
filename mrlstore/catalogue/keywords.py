"""The keyword index: FTS5 over the rows' documents, written in the transaction that writes the rows.

It is contentless (docs/decisions says why): it keeps words and their positions, not the texts, which are in
`rows`; a row is removed by its key alone. Rows whose document is missing or empty are not in it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import settings
from mrlstore.catalogue.connection import Connection
from mrlstore.errors import CorruptStore
from mrlstore.system import late
from mrlstore.types import Tokenizer

# Words are letters, numbers and marks (vowel signs of Indic scripts, points of Hebrew and Arabic). The
# variation selectors of emoji, marks too, would be words of their own, so they separate words.
_WORDS = "unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc' separators '\ufe0e\ufe0f'"
TOKENIZERS: Final[dict[str, str]] = {
    "unicode61": _WORDS,
    "porter": f"porter {_WORDS}",
    "trigram": "trigram remove_diacritics 1",
}
# What older stores have: a mark ends a word. Their indexes stay as they are.
_OLDER: Final = {
    "unicode61": "unicode61 remove_diacritics 2",
    "porter": "porter unicode61 remove_diacritics 2",
}
DEFAULT_TOKENIZER: Final[Tokenizer] = "unicode61"
_PAGE = 1_000
_LONGEST = 32_768  # bytes; FTS5 cuts longer words
_P, _Q, _R = 2_147_483_647, 2_147_483_629, 4_294_967_291  # primes of the hash in `problems`

INDEXED: Final = "coalesce(octet_length(document), 0) > 0"  # SQL: whether the index holds a row


def create(connection: Connection, tokenizer: str) -> None:
    """Make the index, empty."""
    if tokenizer not in TOKENIZERS:
        raise CorruptStore(connection.filename, f"the tokenizer {tokenizer!r} is unknown to this version")
    connection.execute(
        "CREATE VIRTUAL TABLE keywords USING fts5("
        f"document, content='', contentless_delete=1, tokenize=\"{TOKENIZERS[tokenizer]}\")"
    )


def insert(connection: Connection, documents: Iterable[tuple[int, str]]) -> None:
    """Add pairs of a row key and its document, which is not empty."""
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
    """Build the index again from the rows' documents, whatever state it is in."""
    connection.execute("DROP TABLE IF EXISTS keywords")
    create(connection, tokenizer)
    fill(connection)


def is_fragmented(connection: Connection) -> bool:
    """Whether the index consists of several FTS5 segments, which `merge` makes one."""
    return int(connection.execute("SELECT count(DISTINCT segid) FROM keywords_idx").get) > 1


def merge(connection: Connection, pages: int) -> bool:
    """Merge FTS5 segments, writing about `pages` pages; False when there is nothing left to merge."""
    before = connection.total_changes()
    connection.execute("INSERT INTO keywords(keywords, rank) VALUES ('merge', ?)", (-pages,))
    return connection.total_changes() - before >= 2


def question_cutter(connection: Connection) -> Callable[[str], tuple[str, ...]]:
    """What cuts the texts of a question into words as the index does; CorruptStore if there is none."""
    cut = _tokenizer(connection)

    def words(text: str) -> tuple[str, ...]:
        return tuple(
            cut(text.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
        )

    return words


class DocumentWord(NamedTuple):
    """A word as the index has it, and where it stands in a document: bytes `start` to `stop` of its UTF-8."""

    start: int
    stop: int
    text: str


def document_cutter(tokenizer: Tokenizer) -> Callable[[bytes], list[DocumentWord]]:
    """What cuts documents into words as an index with this tokenizer does, without a store."""
    name, *options = late.shlex.split(TOKENIZERS[tokenizer])
    connection = apsw.Connection(":memory:")  # a tokenizer belongs to a connection
    cut: Any = connection.fts5_tokenizer(name, options)

    def words(document: bytes) -> list[DocumentWord]:
        found = cut(
            document, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=True, include_colocated=False
        )
        return list(itertools.starmap(DocumentWord, found))

    return words


def _tokenizer(connection: Connection) -> Any:
    """The index's own tokenizer, whose options stand in its definition, as apsw gives it."""
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'keywords'").get
    found = re.search(r"""tokenize=(["'])(.*?)\1\)$""", sql or "")
    named = str(settings.get(connection, "tokenizer"))
    if found is None or found[2] not in (TOKENIZERS.get(named), _OLDER.get(named)):
        raise CorruptStore(
            connection.filename, f"there is no keyword index with the tokenizer {named!r:.40}; run repair()"
        )
    name, *options = late.shlex.split(found[2])
    return connection.fts5_tokenizer(name, options)


def documents(connection: Connection) -> int:
    """The number of documents in the index."""
    return int(connection.execute("SELECT count(*) FROM keywords_docsize").get)


def at_least(connection: Connection, expression: str, count: int) -> bool:
    """Whether at least `count` documents match an FTS5 expression; counting stops there."""
    found = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT ?)", (expression, count)
    ).get
    return int(found) >= count


def best(
    connection: Connection, expression: str, count: int, allowed: NDArray[np.int64] | None
) -> list[tuple[int, float]]:
    """(row key, BM25 score) of the best `count` matching rows, best first, equal scores by row key.

    With `allowed`, in any order, rows of other keys are neither scored nor returned.
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
    """A sentence for everything that is wrong with the index, which is compared with the documents.

    For every word its number of occurrences is compared, and a hash of their documents and positions. The
    check that SQLite has found 19 of 100 flipped bits, of which 93 had changed the content.
    """
    # FTS5 notices changes by other connections when it is queried, but not when it is checked. Without this
    # query the check reports pages that another connection has merged away as damaged.
    connection.execute("SELECT 1 FROM keywords WHERE keywords MATCH '\"any\"' LIMIT 1").fetchall()
    for (words,) in connection.execute("PRAGMA integrity_check(keywords)"):
        if words != "ok":
            yield f"fails SQLite's check: {words}"
    wanted, held = f"SELECT key FROM rows WHERE {INDEXED}", "SELECT id FROM keywords_docsize"
    for first, second, words in ((wanted, held, "lacks {} documents"), (held, wanted, "has {} too many")):
        count = connection.execute(f"SELECT count(*) FROM ({first} EXCEPT {second})").get
        if count:
            yield words.format(count)
    if _in_index(connection) != _in_documents(connection):
        yield "has other words or positions than the documents"


class _Occurrences(NamedTuple):
    """The occurrences of a word."""

    number: int
    hash: int  # a sum over the occurrences, of the row key and the position of each


def _in_index(connection: Connection) -> dict[bytes, _Occurrences]:
    """The occurrences of each word as the index has them."""
    connection.execute("CREATE VIRTUAL TABLE temp.instances USING fts5vocab('main', 'keywords', 'instance')")
    try:
        x = "(doc * 31 + offset)"
        found = connection.execute(
            f"SELECT CAST(term AS BLOB), count(*), sum(({x} % {_P}) * ({x} % {_Q}) % {_R})"
            " FROM temp.instances GROUP BY term"
        )
        return {word: _Occurrences(count, total) for word, count, total in found}
    finally:
        connection.execute("DROP TABLE temp.instances")


def _in_documents(connection: Connection) -> dict[bytes, _Occurrences]:
    """The occurrences of each word as the documents have them."""
    cut = _tokenizer(connection)
    numbers: dict[str, int] = {}
    totals = np.zeros((2, 0), np.int64)  # counts and hashes, by the words' numbers
    for first, last in _pages(connection):
        known: list[int] = []
        positions = []
        for key, document in connection.execute(
            f"SELECT key, CAST(document AS BLOB) FROM rows WHERE key BETWEEN ? AND ? AND {INDEXED}",
            (first, last),
        ):
            words: Any = cut(
                document, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
            )
            known += [numbers.setdefault(word, len(numbers)) for word in words]
            positions.append(np.arange(len(words), dtype=np.int64) + int(key) * 31)
        x = np.concatenate(positions) if positions else np.empty(0, np.int64)
        shares = (x % _P) * (x % _Q) % _R
        totals = np.pad(totals, ((0, 0), (0, len(numbers) - totals.shape[1])))
        chosen = np.array(known, np.int64)
        totals[0] += np.bincount(chosen, minlength=len(numbers))
        totals[1] += np.bincount(chosen, shares, len(numbers)).astype(np.int64)  # exact below 2**53
    found: dict[bytes, _Occurrences] = {}
    for word, count, total in zip(numbers, *totals.tolist(), strict=True):
        before = found.get(word.encode()[:_LONGEST], _Occurrences(0, 0))
        found[word.encode()[:_LONGEST]] = _Occurrences(before.number + count, before.hash + total)
    return found


def _pages(connection: Connection) -> Sequence[tuple[int, int]]:
    """Ranges of keys (first, last), each of at most 1,000 rows, that cover all rows."""
    keys = [key for (key,) in connection.execute("SELECT key FROM rows ORDER BY key")]
    return [(part[0], part[-1]) for part in (keys[at : at + _PAGE] for at in range(0, len(keys), _PAGE))]
