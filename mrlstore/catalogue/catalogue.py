"""The catalogue's connections: one that watches, one that writes, and a pool of readers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from mrlstore.catalogue import schema, settings
from mrlstore.catalogue.connection import Connection, connect, translated, typed
from mrlstore.errors import CorruptStore, FormatTooNew, StorageError, StorePoisoned
from mrlstore.files import Files
from mrlstore.types import Settings

CHECKPOINT_BYTES = 16 * 1024 * 1024
_POOL_SIZE = 8
_leaked: list[object] = []  # connections inherited by a fork: never closed, for that would free their locks


@dataclass
class Write:
    """A write transaction: `generation` is the one it commits."""

    connection: Connection
    generation: int


class Catalogue:
    """catalogue.db of one store, as one process uses it. Safe to use from many threads."""

    def __init__(self, files: Files, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._files = files
        self._watch_lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._pool: list[Connection] = []
        self._writer: Connection | None = None
        self._poison: str | None = None
        self._watcher = connect(files, path, read_only=True)
        try:
            with translated(path):
                self._check_header()
                self.settings = settings.load(self._watcher, path)
                if not read_only and self._watcher.execute("PRAGMA journal_mode").get != "wal":
                    self._connection().execute("PRAGMA journal_mode = WAL").fetchall()  # a backup was opened
        except BaseException:
            self._watcher.close()
            raise
        self._seen_version = -1

    @staticmethod
    def create(files: Files, path: Path, new: Settings) -> None:
        """Make catalogue.db with its tables; the caller syncs the folder."""
        connection = connect(files, path, create=True)
        try:
            with translated(path):
                connection.execute(schema.PREPARE).fetchall()
                with connection:
                    connection.execute(schema.TABLES)
                    settings.save(connection, new)
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()

    @property
    def wal_path(self) -> Path:
        """Where SQLite keeps the write-ahead log; only its length is ever looked at."""
        return self.path.with_name(self.path.name + "-wal")

    def changed(self) -> bool:
        """Whether any connection, of any process, has committed since the last call. About 3 us."""
        with self._watch_lock:
            version = self._watcher.execute("PRAGMA data_version").get
            if version == self._seen_version:
                return False
            self._seen_version = version
            return True

    def changed_again(self) -> None:
        """Make the next `changed` say yes: the change was seen, but could not be followed."""
        self._seen_version = -1

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything in it belongs to one generation once the first row is read."""
        try:
            connection = self._pool.pop()
        except IndexError:
            connection = connect(self._files, self.path, read_only=True)
        healthy = False
        try:
            with translated(self.path):
                connection.execute("BEGIN")
                try:
                    yield connection
                    healthy = True
                finally:
                    with suppress(apsw.Error):
                        connection.execute("COMMIT")
        finally:
            if (healthy or connection.get_autocommit()) and len(self._pool) < _POOL_SIZE:
                self._pool.append(connection)
            else:
                connection.close()

    @contextmanager
    def write(self) -> Iterator[Write]:
        """A write transaction under a generation of its own: durable when the block is left.

        An exception inside rolls back. If the fate of the commit is unknown the catalogue is poisoned.
        """
        with self._write_lock:
            connection = self._begin()
            try:
                with translated(self.path):
                    generation = settings.generation(connection) + 1
                    yield Write(connection, generation)
                    settings.put(connection, "generation", generation)  # last: until here it reads as before
            except BaseException:
                self._roll_back(connection)
                raise
            self._commit(connection)

    def reserve_keys(self, count: int) -> int:
        """Take row keys out of circulation, in a transaction of its own; the first is returned."""
        with self._write_lock:
            connection = self._begin()
            try:
                with translated(self.path):
                    first = settings.reserve_keys(connection, count)
            except BaseException:
                self._roll_back(connection)
                raise
            self._commit(connection)
            return first

    def checkpoint(self, *, whole: bool = False) -> None:
        """Move the write-ahead log into the database; `whole` also empties its file and gives pages back."""
        with self._write_lock, translated(self.path):
            writer = self._connection()
            if whole:
                writer.execute("PRAGMA incremental_vacuum").fetchall()
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if whole else apsw.SQLITE_CHECKPOINT_PASSIVE
            with suppress(apsw.BusyError, apsw.LockedError):  # readers are at work: the next one will do it
                if whole:
                    writer.set_busy_timeout(1000)
                try:
                    writer.wal_checkpoint(mode=mode)
                finally:
                    writer.set_busy_timeout(30_000)

    def free_bytes(self, connection: Connection) -> int:
        """Bytes of pages that hold nothing."""
        free, size = (
            connection.execute("PRAGMA freelist_count").get,
            connection.execute("PRAGMA page_size").get,
        )
        return int(free) * int(size)

    def backup(self, target: Path, source: Connection) -> None:
        """Copy the database as `source`'s transaction sees it, as one file in rollback-journal mode."""
        copy = connect(self._files, target, create=True)
        try:
            with translated(target):
                with copy.backup("main", source, "main") as work:
                    while not work.done:
                        work.step(2000)
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            copy.close()

    def close(self) -> None:
        """Close all connections; the last one of the last process folds the log into the database."""
        with self._write_lock, self._watch_lock:
            for connection in (*self._pool, self._writer, self._watcher):
                if connection is not None:
                    with suppress(apsw.Error):
                        connection.close()
            self._pool, self._writer = [], None

    def leak(self) -> None:
        """Keep all connections open and untouched for ever: they belong to the process before the fork."""
        _leaked.append((self._pool, self._writer, self._watcher))

    def poison(self, reason: str) -> None:
        """Refuse all further writes: what reached the disk is unknown."""
        self._poison = reason

    def check_usable(self) -> None:
        """Raise StorePoisoned if a write has failed with unknown fate."""
        if self._poison is not None:
            raise StorePoisoned(self._poison)

    def _check_header(self) -> None:
        version = self._watcher.execute("PRAGMA user_version").get
        if self._watcher.execute("PRAGMA application_id").get != schema.APPLICATION_ID:
            raise CorruptStore(self.path, "an SQLite database, but not a catalogue of mrlstore")
        if version > schema.FORMAT_VERSION:
            raise FormatTooNew(
                f"{self.path}: format {version}, this mrlstore reads up to {schema.FORMAT_VERSION}; "
                "upgrade mrlstore"
            )

    def _connection(self) -> Connection:
        if self.read_only:
            raise StorageError(30, 'the store was opened with mode="r"', str(self.path))
        if self._writer is None:
            self._writer = connect(self._files, self.path)
        return self._writer

    def _begin(self) -> Connection:
        self.check_usable()
        connection = self._connection()
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
        return connection

    def _roll_back(self, connection: Connection) -> None:
        with suppress(apsw.Error):
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")

    def _commit(self, connection: Connection) -> None:
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back(connection)
            meant = typed(self.path, error)
            if not isinstance(error, apsw.BusyError | apsw.FullError):
                self.poison(f"a commit failed ({meant}); reopen the store to see what is on disk")
                raise StorePoisoned(self._poison) from error
            raise meant from error
        with suppress(OSError):
            if self._files.size(self.wal_path) > CHECKPOINT_BYTES:
                self._checkpoint_after_commit(connection)

    def _checkpoint_after_commit(self, connection: Connection) -> None:
        """Fold the log back. The commit stands whatever happens here, so only a failed fsync is told."""
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            if isinstance(typed(self.path, error), StorePoisoned):
                self.poison(f"a checkpoint failed ({error}); reopen the store")
