"""What hits and records carry beside ids and scores: rows of the catalogue and stored vectors, by key.

A key's row never changes (see rows.Row), so rows need no transaction to be of a snapshot's generation: one
that is missing was removed since, and whoever asks begins again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Row, metadata_of
from mrlstore.errors import CorruptStore
from mrlstore.search.params import Projection
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Hit


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


def hits_of(
    ids: Iterable[str],
    scores: Iterable[float],
    stored: Sequence[Row] | None,
    vectors: Iterable[NDArray[np.float32] | None] | None,
    projection: Projection,
    namespaces: Iterable[str],
) -> list[Hit]:
    """Hits that carry what is projected of their rows and vectors, which are given in the same order."""
    nothing, found = repeat(None), stored or ()
    metadata = [metadata_of(row.metadata) for row in found] if projection.metadata else nothing
    documents = [row.document for row in found] if projection.document else nothing
    numbers = nothing if vectors is None else vectors
    return list(map(Hit, ids, scores, metadata, documents, numbers, namespaces))


def hits_by_row(
    snapshot: Snapshot, stored: Sequence[Row], scores: Iterable[float], projection: Projection
) -> list[Hit]:
    """Hits for rows of the catalogue, of which some may have no vector."""
    vectors = None
    if projection.vector:
        found = vectors_of(snapshot, [row.key for row in stored if not row.without_vector])
        vectors = [found.get(row.key) for row in stored]
    names = [row.namespace for row in stored]
    return hits_of((row.id for row in stored), scores, stored, vectors, projection, names)
