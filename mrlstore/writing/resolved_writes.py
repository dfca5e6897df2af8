"""Writes in three steps: check what a caller gave, resolve it to rows and ids, and apply it.

What was resolved names rows by id and holds vectors as they are stored, so applying it again, or to a copy in
the same state, gives the same rows: a log can keep it between the second step and the third. Nobody else may
write between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mrlstore.catalogue import Write, marks, rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.marks import ClientOperation, Mark
from mrlstore.errors import IdExists
from mrlstore.search.params import Selection
from mrlstore.storage.parts import NewPart
from mrlstore.storage.session import Session, View
from mrlstore.types import Conflict
from mrlstore.writing.batch import Batch, RowChange
from mrlstore.writing.writer import (
    PreparedBatch,
    change_rows,
    changed_row,
    chosen_ids,
    learn_dim,
    prepare,
    remove_namespace,
    remove_rows,
    store_batch,
    transaction,
)


@dataclass(frozen=True)
class StoreRows:
    """Every row of the batch is stored, and replaces the one with its id."""

    batch: Batch


@dataclass(frozen=True)
class RemoveRows:
    """These rows are removed, or all of the namespace."""

    namespace: str
    ids: tuple[str, ...] | None  # None: all


@dataclass(frozen=True)
class ChangeRows:
    """Rows that exist are changed, each in its own way."""

    namespace: str
    changes: Mapping[str, RowChange]  # by id


ResolvedWrite = StoreRows | RemoveRows | ChangeRows


class Applied(NamedTuple):
    """How many rows each write has stored, changed or removed, and the generation that they share."""

    rows: tuple[int, ...]
    generation: int


def resolve_upsert(session: Session, batch: Batch, on_conflict: Conflict) -> StoreRows:
    """Leave out of a checked batch what "skip" skips; IdExists as `Store.upsert` raises it."""
    if on_conflict == "replace":
        return StoreRows(batch)
    with session.catalogue.read() as connection:
        there = set(rows.existing(connection, batch.namespace, batch.ids))
    if there and on_conflict == "error":
        first = next(name for name in batch.ids if name in there)
        raise IdExists(f"ids: {len(there)} exist already, {first!r} first; nothing was written")
    return StoreRows(_without(batch, there))


def resolve_update(
    session: Session,
    namespace: str,
    selection: Selection,
    changes: Mapping[str, RowChange] | RowChange,
) -> ChangeRows:
    """The change of each row that is selected and exists; LimitExceeded where metadata would be too large."""

    def run(view: View) -> dict[str, RowChange]:
        with view.connection() as connection:
            names = chosen_ids(session, connection, namespace, selection)
            return _changes_of(connection, namespace, names, changes)

    return ChangeRows(namespace, session.consistently(run))


def resolve_delete(session: Session, namespace: str, selection: Selection) -> RemoveRows:
    """The ids that are selected; of ids that were given, those that exist."""

    def run(view: View) -> list[str]:
        with view.connection() as connection:
            names = chosen_ids(session, connection, namespace, selection)
            return rows.existing(connection, namespace, names)

    return RemoveRows(namespace, tuple(session.consistently(run)))


def apply(
    session: Session,
    writes: Sequence[ResolvedWrite],
    mark: Mark | None = None,
    operations: Iterable[ClientOperation] = (),
) -> Applied:
    """Do these writes in their order, all or nothing; durable when this returns.

    Args:
        session: the store.
        writes: as they were resolved.
        mark: the place of the log entry that has them, behind the store's mark, which it becomes in the same
            transaction.
        operations: of the clients whose writes these are, kept in the same transaction; only with a mark.
    """
    with session.storing("applying writes"):
        prepared: list[PreparedBatch | None] = []
        parts: list[NewPart] = []
        try:
            for write in writes:
                batch = prepare(session, write.batch) if isinstance(write, StoreRows) else None
                prepared.append(batch)
                parts += [] if batch is None or batch.part is None else [batch.part]
        except BaseException:
            for part in parts:
                part.discard(session.files)
                part.release()
            raise
        with transaction(session, parts) as opened:
            counts = [
                _apply(session, opened, write, batch, parts)
                for write, batch in zip(writes, prepared, strict=True)
            ]
            if mark is not None:
                marks.move(opened.connection, mark)
                marks.keep_operations(opened.connection, operations, mark.place)
        learn_dim(session)
        return Applied(tuple(counts), opened.generation)


def _apply(
    session: Session, opened: Write, write: ResolvedWrite, batch: PreparedBatch | None, parts: list[NewPart]
) -> int:
    match write:
        case StoreRows():
            assert batch is not None
            return store_batch(opened, batch, "replace")
        case RemoveRows(namespace, None):
            return remove_namespace(opened, namespace)
        case RemoveRows(namespace, ids):
            return remove_rows(opened, namespace, ids or ())
        case ChangeRows(namespace, changes):
            return change_rows(session, opened, namespace, list(changes), changes, parts)


def _changes_of(
    connection: Connection,
    namespace: str,
    names: Sequence[str],
    changes: Mapping[str, RowChange] | RowChange,
) -> dict[str, RowChange]:
    found = {}
    for row in rows.by_id(connection, namespace, names):
        change = changes if isinstance(changes, RowChange) else changes[row.id]
        changed_row(row, row.key, change)  # refused here, if at all
        found[row.id] = change
    return found


def _without(batch: Batch, names: set[str]) -> Batch:
    """The batch without these ids."""
    if not names:
        return batch
    keep = np.array([name not in names for name in batch.ids], dtype=np.bool_)
    chosen = np.flatnonzero(keep).tolist()
    with_vector = keep[~batch.without_vector]  # by row of batch.vectors
    return replace(
        batch,
        ids=[batch.ids[i] for i in chosen],
        metadata=[batch.metadata[i] for i in chosen],
        documents=[batch.documents[i] for i in chosen],
        without_vector=batch.without_vector[keep],
        vectors=batch.vectors[with_vector],
        norms=batch.norms[with_vector],
    )
