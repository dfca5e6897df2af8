"""The store of one shard, as its writer or a reader has it: `Store` with the steps of a logged write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mrlstore.api.store import Store
from mrlstore.catalogue import marks, tail_rows
from mrlstore.catalogue.marks import ClientOperation, Mark
from mrlstore.catalogue.rows import count
from mrlstore.cluster.home import Home
from mrlstore.cluster.write_requests import Clear, Delete, Update, Upsert, WriteRequest
from mrlstore.maintenance import steps
from mrlstore.shipping.manifest import SnapshotManifest
from mrlstore.shipping.snapshot_writer import SnapshotWriter
from mrlstore.storage import create
from mrlstore.storage.backup import CopiedMoment
from mrlstore.storage.create import new_settings
from mrlstore.storage.session import CopyKeeper
from mrlstore.system.files import Files
from mrlstore.types import Settings
from mrlstore.writing import resolved_writes
from mrlstore.writing.resolved_writes import Applied, RemoveRows, ResolvedWrite, StoreRows

_FLUSHED: Final = 256  # rows of a tail from which on it is written as a part
_LOCK_S: Final = 60.0


class ShardStore(Store):
    """A copy of a shard that is written by its log alone."""

    @property
    def mark(self) -> Mark:
        """The epoch and the place of the log up to which entries are applied."""
        return self._session.snapshots.latest().mark

    def resolved(self, request: WriteRequest) -> ResolvedWrite:
        """Rows and ids of a request, for the present content; raises what the method of `Store` raises."""
        session = self._writable()
        match request:
            case Upsert(batch, on_conflict):
                return resolved_writes.resolve_upsert(session, batch, on_conflict)
            case Update(namespace, selection, changes):
                return resolved_writes.resolve_update(session, namespace, selection, changes)
            case Delete(namespace, selection):
                return resolved_writes.resolve_delete(session, namespace, selection)
            case Clear(namespace):
                return RemoveRows(namespace, None)

    def rows_of(self, write: ResolvedWrite) -> int:
        """How many rows a resolved write will store, change or remove."""
        match write:
            case StoreRows(batch):
                return len(batch.ids)
            case RemoveRows(namespace, None):
                with self._session.catalogue.read() as connection:
                    return count(connection, namespace).rows
            case RemoveRows(_, ids):
                return len(ids or ())
            case _:
                return len(write.changes)

    def apply(
        self, writes: Sequence[ResolvedWrite], mark: Mark, done: Sequence[ClientOperation] = ()
    ) -> Applied:
        """Apply a log entry and move the mark, in one transaction."""
        applied = resolved_writes.apply(self._writable(), writes, mark, done)
        self._wake()
        return applied

    def flush(self) -> None:
        """Write the tail as a part, if it is long: a part is shipped once, and a tail with each snapshot."""
        with self._background_paused(), self._session.storing("flushing"):
            with self._session.catalogue.read() as connection:
                waiting = tail_rows.count(connection)
            if waiting >= _FLUSHED:
                with steps.take_lock(self._session, _LOCK_S):
                    steps.flush(self._session)

    def shipped_by(self, writer: SnapshotWriter, logged: Callable[[int], None]) -> SnapshotManifest:
        """Ship a moment of the store, whose place is its mark; `logged` waits until the log has it."""

        def place_of(moment: CopiedMoment) -> int:
            logged(moment.mark.place)
            return moment.mark.place

        return writer.ship(self._session, place_of)

    def tell_shipping(self, keeper: CopyKeeper) -> None:
        """Let `stats` tell what this keeper does, until the store is closed, which stops it."""
        self._session.shipping = (*self._session.shipping, keeper)

    def last_operation(self, client: str) -> ClientOperation | None:
        """The last operation of a client that was applied, where it is still kept."""
        with self._session.catalogue.read() as connection:
            return marks.last_operation(connection, client)

    def forgotten(self) -> int:
        """The newest place of an operation that is no longer kept."""
        with self._session.catalogue.read() as connection:
            return marks.forgotten(connection)


def settings_of(home: Home) -> Settings:
    """The settings of a new copy."""
    return new_settings(home.dim, home.prefix_dim, home.m, home.ef_construction, home.tokenizer, home.graph)


def open_shard_store(
    home: Home, path: Path, files: Files, *, auto_maintain: bool, threads: int
) -> ShardStore:
    """The store at a path, made with the settings of the cluster if there is none."""
    create.ensure(files, path, "a", settings_of(home))
    return ShardStore(path, files, mode="a", embedder=None, auto_maintain=auto_maintain, threads=threads)
