"""Upsert, update, delete and clear, each one transaction of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import Write, rows, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Removed, Row, metadata_of
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.embedders.fingerprint import Fingerprinted, check_same, fingerprint_of
from mrlstore.errors import CorruptStore, IdExists
from mrlstore.search.matching import matching_keys
from mrlstore.search.params import Selection
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.parts import NewPart
from mrlstore.storage.session import Session
from mrlstore.storage.vector_rows import check_dim
from mrlstore.system.scope import scope
from mrlstore.types import Conflict, Written
from mrlstore.writing.batch import Batch, RowChange, StoredVector, metadata_text

BIG_BATCH = 4_096  # from this many vectors on they are written as a base part instead of to the tail
DEFAULT_PREFIX_DIM = 768


class PreparedBatch(NamedTuple):
    """A batch with the row keys that are its own, and the base part of its vectors where they are many."""

    batch: Batch
    keys: NDArray[np.int64]  # one for each id
    part: NewPart | None


def prepare(session: Session, batch: Batch) -> PreparedBatch:
    """Do what a batch needs before its transaction; `transaction` takes care of the part."""
    first = session.take_keys(len(batch.ids))
    keys = np.arange(first, first + len(batch.ids), dtype=np.int64)
    many = len(batch.vectors) >= BIG_BATCH
    return PreparedBatch(
        batch, keys, _base_part(session, batch, keys[~batch.without_vector]) if many else None
    )


def upsert(session: Session, batch: Batch, on_conflict: Conflict) -> Written:
    """Store a checked batch; durable when this returns."""
    if not batch.ids:
        return Written(0, session.snapshots.latest().generation)
    with session.storing("writing rows"):
        prepared = prepare(session, batch)
        with transaction(session, [] if prepared.part is None else [prepared.part]) as write:
            count = store_batch(write, prepared, on_conflict)
        learn_dim(session)
        return Written(count, write.generation)


def learn_dim(session: Session) -> None:
    """Read the settings again after a commit that may have settled the store's dimension.

    Not before it: the batch may have been refused.
    """
    if session.settings.dim is None:
        session.reload_settings()


def recorded_embedder(session: Session) -> str | None:
    """The fingerprint, as canonical JSON, of the embedder whose vectors the store holds; None without."""
    with session.catalogue.read() as connection:
        return settings.get_text(connection, "embedder")


def check_embedder(session: Session, embedder: Fingerprinted) -> bool:
    """Whether the store has an embedder's fingerprint; InvalidInput if it is that of another embedder."""
    known = recorded_embedder(session)
    if known is not None:
        check_same(known, embedder)
    return known is not None


def settle_embedder(session: Session, embedder: Fingerprinted) -> None:
    """Store the embedder's fingerprint if there is none; InvalidInput if it is that of another embedder."""
    if check_embedder(session, embedder):
        return
    with session.storing("writing the embedder's fingerprint"), session.catalogue.write() as write:
        if settings.get(write.connection, "embedder") is None:
            settings.put(write.connection, "embedder", fingerprint_of(embedder))
    check_embedder(session, embedder)


def delete(session: Session, namespace: str, selection: Selection) -> Written:
    """Remove the selected rows; durable when this returns. Missing ids are not an error."""
    with session.storing("deleting rows"), session.catalogue.write() as write:
        names = chosen_ids(session, write.connection, namespace, selection)
        return Written(remove_rows(write, namespace, names), write.generation)


def clear(session: Session, namespace: str) -> Written:
    """Remove all rows of a namespace; durable when this returns."""
    with session.storing("clearing a namespace"), session.catalogue.write() as write:
        return Written(remove_namespace(write, namespace), write.generation)


def update(
    session: Session,
    namespace: str,
    selection: Selection,
    changes: Mapping[str, RowChange] | RowChange,
) -> Written:
    """Merge metadata, replace documents and vectors of the selected rows; durable when this returns.

    If ids are selected, `changes` has one for each id; otherwise it is one for all rows.
    """
    parts: list[NewPart] = []
    with session.storing("updating rows"):
        with transaction(session, parts) as write:
            names = chosen_ids(session, write.connection, namespace, selection)
            count = change_rows(session, write, namespace, names, changes, parts)
        learn_dim(session)
        return Written(count, write.generation)


def change_rows(
    session: Session,
    write: Write,
    namespace: str,
    names: Sequence[str],
    changes: Mapping[str, RowChange] | RowChange,
    parts: list[NewPart],
) -> int:
    """Store those of these rows that exist anew, with their changes; returns how many there were.

    Where no vector is given a row keeps the bytes of its vector. A part that is written is added to `parts`.
    """
    old = list(rows.by_id(write.connection, namespace, names))
    change_of = [changes if isinstance(changes, RowChange) else changes[row.id] for row in old]
    first = settings.reserve_keys(write.connection, len(old))
    changed = [
        changed_row(row, first + number, change)
        for number, (row, change) in enumerate(zip(old, change_of, strict=True))
    ]
    parts += _store_vectors(session, write, namespace, _vectors(session, write, old, changed, change_of))
    remove_rows(write, namespace, [row.id for row in old])
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


def store_batch(write: Write, prepared: PreparedBatch, on_conflict: Conflict) -> int:
    """Store the rows of a batch; returns how many were written. IdExists as `Store.upsert` raises it."""
    connection, batch, keys, part = write.connection, *prepared
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
        remove_rows(write, batch.namespace, batch.ids)
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
    if part is None:
        tail_rows.insert(connection, write.generation, _tail_rows(batch, keys, chosen))
    else:
        segments.add(
            connection, write.generation, SegmentRow(0, write.generation - 1, len(batch.vectors), part.ref)
        )
        unwanted = [
            numbered[i] for i, name in enumerate(batch.ids) if name in skipped and not without_vector[i]
        ]
        tail_rows.remove(connection, write.generation, unwanted)
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


def chosen_ids(session: Session, connection: Connection, namespace: str, selection: Selection) -> list[str]:
    """The ids that a call selects; the filter is evaluated within this transaction."""
    names = None if selection.ids is None else list(dict.fromkeys(selection.ids))
    prefix, node = selection.prefix, selection.node
    if prefix is not None and names is None:
        names = [id for _, _, id in rows.in_order(connection, namespace, prefix=prefix)]
    elif prefix is not None and names is not None:
        names = [name for name in names if name.startswith(prefix)]
    if node is None:
        return names or []
    matching = matching_keys(connection, session.snapshots.at(connection), namespace, node).tolist()
    found = [row.id for row in rows.by_key(connection, matching)]
    if names is None:
        return found
    wanted = set(names)
    return [name for name in found if name in wanted]


def remove_rows(write: Write, namespace: str, ids: Sequence[str]) -> int:
    """Remove those of these rows that exist; returns how many there were."""
    return _remove_vectors(write, rows.remove(write.connection, namespace, ids))


def remove_namespace(write: Write, namespace: str) -> int:
    """Remove all rows of a namespace; returns how many there were."""
    return _remove_vectors(write, rows.remove_namespace(write.connection, namespace))


def _remove_vectors(write: Write, removed: list[Removed]) -> int:
    """Record that the vectors of removed rows are dead; gives the number of rows."""
    keys = [row.key for row in removed if row.had_vector]
    tail_rows.remove(write.connection, write.generation, keys)
    return len(removed)


def changed_row(row: Row, key: int, change: RowChange) -> Row:
    """The row as it will be; LimitExceeded where its metadata would become too large."""
    metadata = row.metadata if change.metadata is None else _merged(row, change.metadata)
    document = row.document if change.document is None else change.document
    without_vector = row.without_vector if change.vector is None else 0
    return Row(key, row.namespace, row.id, without_vector, metadata, document)


def _merged(row: Row, change: Mapping[str, Any]) -> str | None:
    """The row's metadata with the keys of the change; a value of None removes the key."""
    kept = {key: value for key, value in (metadata_of(row.metadata) or {}).items() if key not in change}
    return metadata_text(
        {**kept, **{key: value for key, value in change.items() if value is not None}}, row.id
    )


class _KeyedVector(NamedTuple):
    """The vector of a changed row."""

    key: int
    id: str
    vector: StoredVector


def _vectors(
    session: Session, write: Write, old: list[Row], changed: list[Row], changes: list[RowChange]
) -> list[_KeyedVector]:
    """The vectors of changed rows: those that were given, and of other rows the stored bytes."""
    kept = [
        before.key
        for before, change in zip(old, changes, strict=True)
        if change.vector is None and not before.without_vector
    ]
    stored = _stored_bytes(session, write, kept)
    found = []
    for before, after, change in zip(old, changed, changes, strict=True):
        vector = stored.get(before.key) if change.vector is None else change.vector
        if vector is not None:
            found.append(_KeyedVector(after.key, after.id, vector))
        elif not after.without_vector:
            raise CorruptStore(
                session.catalogue.path, f"the vector of id {after.id!r} is in no segment and not in the tail"
            )
    return found


def _stored_bytes(session: Session, write: Write, keys: list[int]) -> dict[int, StoredVector]:
    """What is stored of the vectors with these keys."""
    if not keys:
        return {}
    located = session.snapshots.at(write.connection).locate(np.array(keys, dtype=np.int64))
    return {keys[position]: StoredVector(*holder.stored(row)) for position, holder, row in located}


def _store_vectors(
    session: Session, write: Write, namespace: str, vectors: list[_KeyedVector]
) -> list[NewPart]:
    """Store vectors under their keys, in the tail or, if they are many, as a base part."""
    if not vectors:
        return []
    set_or_check_dim(write.connection, len(vectors[0].vector.row) // 2)
    if len(vectors) < BIG_BATCH:
        tail_rows.insert(write.connection, write.generation, ((one.key, *one.vector) for one in vectors))
        return []
    matrix = np.frombuffer(b"".join(one.vector.row for one in vectors), dtype=np.float16)
    keys = np.array([one.key for one in vectors], dtype=np.int64)
    lengths = np.array([one.vector.length for one in vectors], dtype=np.float32)
    arrays = base_arrays(keys, matrix.reshape(len(vectors), -1), lengths)
    names, spaces = [one.id for one in vectors], [namespace] * len(vectors)
    part = write_base(session.files, session.parts, session.settings.store_uuid, spaces, names, arrays)
    segments.add(
        write.connection, write.generation, SegmentRow(0, write.generation - 1, len(vectors), part.ref)
    )
    return [part]
