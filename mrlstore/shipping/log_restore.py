"""From a snapshot and the log behind it to a store on disk, up to the last write or to a chosen place."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrlstore.catalogue import marks, rows, settings
from mrlstore.catalogue.marks import Mark
from mrlstore.errors import CorruptStore, ObjectStorageError, StoreExists, StoreNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import LogEntry, LogObjects
from mrlstore.shipping.log_tail import entries_behind, may_be_left_over
from mrlstore.shipping.manifest import SnapshotManifest, SnapshotRef, newest_complete, snapshot_refs
from mrlstore.shipping.snapshot_reader import restore_snapshot
from mrlstore.storage.backup import remove_copy
from mrlstore.storage.session import Session, open_session
from mrlstore.system.files import Files
from mrlstore.system.names import beside
from mrlstore.writing import resolved_writes

_TRIES: Final = 5  # of beginning with the newest snapshot, each time that the log was collected meanwhile

Report = Callable[[int, int], None]
"""Called with how many bytes of how many are there."""


@dataclass(frozen=True)
class RestoredLog:
    """A store that was restored with its log."""

    snapshot: SnapshotManifest  # with which it began
    mark: Mark  # of the last entry that was applied
    generation: int
    rows: int


def restore_with_log(
    storage: ObjectStorage, prefix: str, target: Path, upto: int | None, report: Report
) -> RestoredLog:
    """Make `target` the store of a snapshot and of what the log has behind it.

    Args:
        storage: where the log is.
        prefix: that of its snapshots and entries.
        target: the folder; nothing may be there. The store appears whole, by one rename.
        upto: the last place of the log that is applied; None: all.
        report: called with how much of the snapshot is there.

    Raises:
        StoreExists: something is at `target`.
        StoreNotFound: there is no snapshot, or the log has no such place.
        CorruptStore: an object is damaged.
        ObjectStorageError: object storage failed.
    """
    files = Files()
    if os.path.lexists(target):
        raise StoreExists(f"{target} exists; a store is restored to a new path")
    for _ in range(_TRIES):
        draft = beside(target, f".tmp-{uuid.uuid4().hex}")
        try:
            manifest = restore_snapshot(
                storage, draft, _start(storage, prefix, upto), prefix=prefix, report=report
            )
            session = open_session(draft, files, read_only=False, threads=1)
            try:
                done = _replayed(session, storage, prefix, manifest, upto)
            finally:
                session.close()
            if done is None:
                continue
            files.rename(draft, target)
            files.sync_dir(target.parent)
            return done
        finally:
            with suppress(OSError):
                remove_copy(files, draft)
    raise ObjectStorageError(f"{storage.url}: the log was collected again and again while it was read")


def _start(storage: ObjectStorage, prefix: str, upto: int | None) -> SnapshotRef | None:
    """The snapshot to begin with; None: the newest."""
    if upto is None:
        return None
    newest = newest_complete(storage, prefix)
    if newest is not None and newest.place <= upto:
        return newest.ref
    for ref in snapshot_refs(storage, prefix):
        if ref.place <= upto and (newest is None or ref <= newest.ref):
            return ref
    raise StoreNotFound(f"{storage.url}: no snapshot at place {upto} or before it is there any more")


def _replayed(
    session: Session, storage: ObjectStorage, prefix: str, manifest: SnapshotManifest, upto: int | None
) -> RestoredLog | None:
    """Apply the log behind the snapshot; None where it was overtaken by a newer snapshot meanwhile."""
    log = LogObjects(storage, prefix)
    while True:
        with session.catalogue.read() as connection:
            mark = marks.load(connection)
        entries = [] if upto is not None and mark.place >= upto else entries_behind(log, mark.place)
        if entries is None or (entries and upto is None and may_be_left_over(storage, prefix, entries)):
            return None
        if not entries:
            break
        for entry in entries:
            if upto is None or entry.place <= upto:
                mark = _applied(session, mark, entry)
    if upto is not None and mark.place != upto:
        raise StoreNotFound(f"{storage.url}: the log has no place {upto}; its last is {mark.place}")
    with session.catalogue.read() as connection:
        return RestoredLog(manifest, mark, settings.generation(connection), rows.count(connection, None).rows)


def _applied(session: Session, mark: Mark, entry: LogEntry) -> Mark:
    """Apply the entry behind the mark; one of an epoch before that of the mark is void, and skipped."""
    if entry.place != mark.place + 1:
        raise CorruptStore(session.path, f"place {entry.place} of the log does not follow {mark.place}")
    if entry.epoch < mark.epoch:
        skipped = Mark(mark.epoch, entry.place)
        resolved_writes.apply(session, (), skipped)
        return skipped
    resolved_writes.apply(session, entry.writes, entry.mark, entry.operations)
    return entry.mark
