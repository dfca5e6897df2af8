"""Upsert, update, delete and clear, each one transaction of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import Write, rows, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Removed, Row, metadata_of
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.embedders.fingerprint import check_same, fingerprint_of
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import CorruptStore, IdExists
from mrlstore.search.records import matching_keys
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.parts import NewPart
from mrlstore.storage.session import Session
from mrlstore.storage.vector_rows import check_dim
from mrlstore.system.scope import scope
from mrlstore.types import Conflict
from mrlstore.where import Node
from mrlstore.writing.batch import Batch, RowChange, metadata_text

BIG_BATCH = 4_096  # from this many vectors on they are written as a base part instead of to the tail
DEFAULT_PREFIX_DIM = 768


def upsert(session: Session, batch: Batch, on_conflict: Conflict) -> int:
    """Store a checked batch and return how many rows were written; durable when this returns."""
    if not batch.ids:
        return 0
    with session.storing("writing rows"):
        first = session.take_keys(len(batch.ids))
        keys = np.arange(first, first + len(batch.ids), dtype=np.int64)
        parts = (
            [_base_part(session, batch, keys[~batch.without_vector])]
            if len(batch.vectors) >= BIG_BATCH
            else []
        )
        with transaction(session, parts) as write:
            written = _store(write, batch, keys, on_conflict, parts)
        if session.settings.dim is None:
            session.reload_settings()  # not before the commit: the batch may have been refused
        return written


def check_embedder(session: Session, embedder: Embedder) -> bool:
    """Whether the store has an embedder's fingerprint; InvalidInput if it is that of another embedder."""
    with session.catalogue.read() as connection:
        known = settings.get_text(connection, "embedder")
    if known is not None:
        check_same(known, embedder)
    return known is not None


def settle_embedder(session: Session, embedder: Embedder) -> None:
    """Store the embedder's fingerprint if there is none; InvalidInput if it is that of another embedder."""
    if check_embedder(session, embedder):
        return
    with session.storing("writing the embedder's fingerprint"), session.catalogue.write() as write:
        if settings.get(write.connection, "embedder") is None:
            settings.put(write.connection, "embedder", fingerprint_of(embedder))
    check_embedder(session, embedder)


def delete(session: Session, namespace: str, ids: Sequence[str] | None, node: Node | None) -> int:
    """Remove rows by id, by filter, or by both; durable when this returns. Missing ids are no error."""
    with session.storing("deleting rows"), session.catalogue.write() as write:
        names = _chosen(session, write.connection, namespace, ids, node)
        return _remove(write, namespace, names)


def clear(session: Session, namespace: str) -> int:
    """Remove all rows of a namespace; durable when this returns."""
    with session.storing("clearing a namespace"), session.catalogue.write() as write:
        return _remove_vectors(write, rows.remove_namespace(write.connection, namespace))


def update(
    session: Session,
    namespace: str,
    ids: Sequence[str] | None,
    node: Node | None,
    changes: Mapping[str, RowChange] | RowChange,
) -> int:
    """Merge metadata and replace documents; each row is stored anew with the same vector bytes.

    With `ids`, `changes` has one for each id; with a filter alone it is one for all rows that match.
    Returns how many rows there were; durable when this returns.
    """
    parts: list[NewPart] = []
    with session.storing("updating rows"), transaction(session, parts) as write:
        names = _chosen(session, write.connection, namespace, ids, node)
        old = list(rows.by_id(write.connection, namespace, names))
        first = settings.reserve_keys(write.connection, len(old))
        changed = [
            _changed(row, first + number, changes if isinstance(changes, RowChange) else changes[row.id])
            for number, row in enumerate(old)
        ]
        parts += _move_vectors(session, write, namespace, old, changed)
        _remove(write, namespace, [row.id for row in old])
        rows.insert(write.connection, changed)
        return len(changed)


@scope
def transaction(session: Session, parts: list[NewPart]) -> Iterator[Write]:
    """A write transaction that names new parts; their folders are removed if its body fails.

    If the commit fails, it may be unknown whether it took place, so they are left to garbage collection.
    """
    try:
        with session.catalogue.write() as write:
            try:
                yield write
            except BaseException:
                for part in parts:
                    part.discard(session.files)
                raise
    finally:
        for part in parts:
            part.release()


def _store(
    write: Write,
    batch: Batch,
    keys: NDArray[np.int64],
    on_conflict: Conflict,
    parts: list[NewPart],
) -> int:
    connection = write.connection
    if batch.dim is not None:
        set_or_check_dim(connection, batch.dim)
    skipped: set[str] = set()
    if on_conflict != "replace":
        there = rows.existing(connection, batch.namespace, batch.ids)
        if there and on_conflict == "error":
            raise IdExists(f"ids: {len(there)} exist already, {there[0]!r} first; nothing was written")
        skipped = set(there)
    chosen = [row for row, name in enumerate(batch.ids) if name not in skipped]
    if not skipped:
        _remove(write, batch.namespace, batch.ids)
    without_vector, numbered = batch.without_vector.tolist(), keys.tolist()
    rows.insert(
        connection,
        [
            Row(
                numbered[i],
                batch.namespace,
                batch.ids[i],
                without_vector[i],
                batch.metadata[i],
                batch.documents[i],
            )
            for i in chosen
        ],
    )
    for part in parts:
        segments.add(
            connection, write.generation, SegmentRow(0, write.generation - 1, len(batch.vectors), part.ref)
        )
        unwanted = [
            numbered[i] for i, name in enumerate(batch.ids) if name in skipped and not without_vector[i]
        ]
        tail_rows.remove(connection, write.generation, unwanted)
    if not parts:
        tail_rows.insert(connection, write.generation, _tail_rows(batch, keys, chosen))
    return len(chosen)


def _tail_rows(
    batch: Batch, keys: NDArray[np.int64], chosen: list[int]
) -> Iterator[tuple[int, memoryview, float]]:
    """(key, float16 bytes, original length) of the chosen rows that have a vector; the bytes are views."""
    with_vector = np.flatnonzero(~batch.without_vector)
    wanted = np.flatnonzero(np.isin(with_vector, chosen))  # rows of batch.vectors
    row_bytes = batch.vectors.itemsize * (batch.dim or 0)
    raw = batch.vectors.reshape(-1).view(np.uint8).data
    starts = (wanted * row_bytes).tolist()
    for key, start, norm in zip(
        keys[with_vector[wanted]].tolist(), starts, batch.norms[wanted].tolist(), strict=True
    ):
        yield key, raw[start : start + row_bytes], norm


def set_or_check_dim(connection: Connection, dim: int) -> None:
    """Set the dimension of a store without vectors; InvalidInput if the store has another one."""
    known = settings.dims(connection).dim
    if known is None:
        settings.put(connection, "dim", dim)
        if settings.get(connection, "prefix_dim") is None:
            settings.put(connection, "prefix_dim", min(DEFAULT_PREFIX_DIM, dim))
    else:
        check_dim(dim, known)


def _base_part(session: Session, batch: Batch, keys: NDArray[np.int64]) -> NewPart:
    names = [batch.ids[i] for i in np.flatnonzero(~batch.without_vector)]
    arrays = base_arrays(keys, batch.vectors, batch.norms)
    namespaces = [batch.namespace] * len(names)
    return write_base(session.files, session.parts, session.settings.store_uuid, namespaces, names, arrays)


def _chosen(
    session: Session, connection: Connection, namespace: str, ids: Sequence[str] | None, node: Node | None
) -> list[str]:
    """The ids that a call selects; the filter is evaluated within this transaction."""
    if node is None:
        return list(dict.fromkeys(ids or ()))
    matching = matching_keys(connection, session.snapshots.at(connection), namespace, node).tolist()
    names = [row.id for row in rows.by_key(connection, matching)]
    if ids is None:
        return names
    wanted = set(ids)
    return [name for name in names if name in wanted]


def _remove(write: Write, namespace: str, ids: Sequence[str]) -> int:
    return _remove_vectors(write, rows.remove(write.connection, namespace, ids))


def _remove_vectors(write: Write, removed: list[Removed]) -> int:
    """Record that the vectors of removed rows are dead; gives the number of rows."""
    keys = [row.key for row in removed if row.had_vector]
    tail_rows.remove(write.connection, write.generation, keys)
    return len(removed)


def _changed(row: Row, key: int, change: RowChange) -> Row:
    """The row as it will be."""
    metadata = row.metadata if change.metadata is None else _merged(row, change.metadata)
    document = row.document if change.document is None else change.document
    return Row(key, row.namespace, row.id, row.without_vector, metadata, document)


def _merged(row: Row, change: Mapping[str, Any]) -> str | None:
    """The row's metadata with the keys of the change; a value of None removes the key."""
    kept = {key: value for key, value in (metadata_of(row.metadata) or {}).items() if key not in change}
    return metadata_text(
        {**kept, **{key: value for key, value in change.items() if value is not None}}, row.id
    )


def _move_vectors(
    session: Session, write: Write, namespace: str, old: list[Row], changed: list[Row]
) -> list[NewPart]:
    """Store the old vectors' bytes under the new keys, in the tail or, if they are many, as a base part."""
    pairs = [(before, after) for before, after in zip(old, changed, strict=True) if not before.without_vector]
    if not pairs:
        return []
    snapshot = session.snapshots.at(write.connection)
    stored: dict[int, tuple[bytes, float]] = {}
    for position, holder, row in snapshot.locate(
        np.array([before.key for before, _ in pairs], dtype=np.int64)
    ):
        stored[position] = holder.stored(row)
    if len(stored) < len(pairs):
        lost = next(before.id for i, (before, _) in enumerate(pairs) if i not in stored)
        raise CorruptStore(
            session.catalogue.path, f"the vector of id {lost!r} is in no segment and not in the tail"
        )
    moved = [(after.key, *stored[i]) for i, (_, after) in enumerate(pairs)]
    if len(moved) < BIG_BATCH:
        tail_rows.insert(write.connection, write.generation, moved)
        return []
    vectors = np.frombuffer(b"".join(vector for _, vector, _ in moved), dtype=np.float16).reshape(
        len(moved), -1
    )
    keys = np.array([key for key, _, _ in moved], dtype=np.int64)
    arrays = base_arrays(keys, vectors, np.array([norm for _, _, norm in moved], dtype=np.float32))
    names, spaces = [after.id for _, after in pairs], [namespace] * len(pairs)
    part = write_base(session.files, session.parts, session.settings.store_uuid, spaces, names, arrays)
    segments.add(
        write.connection, write.generation, SegmentRow(0, write.generation - 1, len(moved), part.ref)
    )
    return [part]
