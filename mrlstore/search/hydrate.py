"""What hits and records carry beside ids and scores: metadata, documents and stored vectors.

Hits take their texts from the arrays of their segment (`storage.row_texts`), which are those of the row's key
for ever; the rest is read from the catalogue, by key. A key's row never changes there either (see rows.Row),
so rows need no transaction to be of a snapshot's generation: one that is missing was removed since, and
whoever asks begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Row, metadata_of, metadata_of_texts
from mrlstore.errors import CorruptStore
from mrlstore.search.params import Projection
from mrlstore.storage.row_texts import IN_CATALOGUE, NO_TEXT, JoinedTexts, TextKind
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved
from mrlstore.system.files import Buffer
from mrlstore.types import Hit
from mrlstore.types.results import made_hits


def rows_of(connection: Connection, keys: Sequence[int], generation: int) -> list[Row]:
    """The rows with these keys, in their order; SnapshotMoved if any was removed since that generation."""
    if len(set(keys)) < len(keys):
        raise CorruptStore(connection.filename, "two vectors have one key")
    found = list(rows.by_key(connection, keys))
    if len(found) < len(keys):
        if settings.generation(connection) != generation:
            raise SnapshotMoved
        missing = set(keys) - {row.key for row in found}
        raise CorruptStore(
            connection.filename, f"key {min(missing)} has words or a vector, but no row: see verify()"
        )
    return found


def metadata_of_keys(
    connection: Connection, keys: NDArray[np.int64], generation: int
) -> list[dict[str, Any] | None]:
    """Metadata of rows by key, None where a row has none or is lost; SnapshotMoved as for `rows_of`."""
    texts = {row.key: row.metadata for row in rows.by_key(connection, keys)}
    if len(texts) < len(keys) and settings.generation(connection) != generation:
        raise SnapshotMoved
    return [metadata_of(texts.get(key)) for key in keys.tolist()]


def vectors_of(snapshot: Snapshot, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Original vectors, float32 [dim], by key; every key must have one."""
    vectors = {}
    for position, part, row in snapshot.locate(np.array(keys, dtype=np.int64)):
        vectors[keys[position]] = part.original(row)
    missing = set(keys) - set(vectors)
    if missing:
        raise CorruptStore(
            "catalogue.db", f"the vector of key {min(missing)} is in no segment and not in the tail"
        )
    return vectors


class Carried(NamedTuple):
    """What hits carry beside ids and scores, in their order; None: nothing of the kind."""

    metadata: bytes | None  # JSON texts joined by commas, see `metadata_of_texts`
    documents: list[str | None] | JoinedTexts | None
    vectors: list[NDArray[np.float32]] | None = None


def carried(
    texts: Callable[[TextKind], list[Buffer]],
    from_catalogue: Callable[[list[int]], list[Row]],
    projection: Projection,
) -> Carried:
    """The texts that are projected of some hits. Nothing of it refers to a segment.

    texts: gives the text of each hit, as `Segment.texts` does. from_catalogue: gives the rows of the hits at
    these places, for those whose texts are there only.
    """
    metadata = texts("metadata") if projection.metadata else None
    documents = texts("documents") if projection.document else None
    joined = None if metadata is None else _joined(metadata)
    try:
        if joined is None or IN_CATALOGUE not in joined:
            return Carried(joined, None if documents is None else _decoded(documents))
    except UnicodeDecodeError:
        pass
    places = [
        place
        for place, some in enumerate(
            zip(metadata or documents or (), documents or metadata or (), strict=True)
        )
        if not all(map(_is_here, some))
    ]
    rows = from_catalogue(places)
    if metadata is not None:
        for place, row in zip(places, rows, strict=True):
            metadata[place] = NO_TEXT if row.metadata is None else row.metadata.encode()
        joined = _joined(metadata)
    if documents is None:
        return Carried(joined, None)
    for place in places:
        documents[place] = NO_TEXT
    found = _decoded(documents)
    for place, row in zip(places, rows, strict=True):
        found[place] = row.document
    return Carried(joined, found)


def _joined(texts: list[Buffer]) -> bytes:
    return b",".join([text or b"null" for text in texts])


def _decoded(texts: list[Buffer]) -> list[str | None]:
    return [str(text, "utf-8") or None for text in texts]


def _is_here(text: Buffer) -> bool:
    """Whether this is a text, and not the mark of one that only the catalogue has."""
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def carrying_hits(
    ids: list[str], scores: NDArray[np.float32], held: Carried, namespaces: str | list[str]
) -> list[Hit]:
    """Hits that carry this. CorruptStore where metadata is not JSON: only a forged store has such."""
    nothing = repeat(None)
    return made_hits(
        ids,
        scores.tolist(),
        nothing if held.metadata is None else metadata_of_texts(held.metadata, len(ids)),
        nothing if held.documents is None else _separate(held.documents),
        nothing if held.vectors is None else held.vectors,
        repeat(namespaces) if isinstance(namespaces, str) else namespaces,
    )


def _separate(documents: list[str | None] | JoinedTexts) -> list[str | None]:
    if isinstance(documents, list):
        return documents
    text, start, found = memoryview(documents.text), 0, list[str | None]()
    try:
        for end in documents.ends:
            found.append(str(text[start:end], "utf-8") or None)
            start = end + 1
    except UnicodeDecodeError as error:
        raise CorruptStore("catalogue.db", f"a document is not UTF-8 ({error})") from error
    return found


def hits_by_row(
    snapshot: Snapshot, stored: Sequence[Row], scores: Iterable[float], projection: Projection
) -> list[Hit]:
    """Hits for rows of the catalogue, of which some may have no vector."""
    nothing, vectors = repeat(None), None
    if projection.vector:
        found = vectors_of(snapshot, [row.key for row in stored if not row.without_vector])
        vectors = [found.get(row.key) for row in stored]
    return made_hits(
        (row.id for row in stored),
        scores,
        (metadata_of(row.metadata) for row in stored) if projection.metadata else nothing,
        (row.document for row in stored) if projection.document else nothing,
        nothing if vectors is None else vectors,
        (row.namespace for row in stored),
    )
