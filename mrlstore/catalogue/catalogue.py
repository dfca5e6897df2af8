"""The catalogue's transactions: reading at one generation, writing under a new one."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from mrlstore.catalogue import keywords, marks, questions, schema, settings
from mrlstore.catalogue.connection import (
    BUSY_TIMEOUT_MS,
    Connection,
    begin_again,
    connect,
    translated,
    typed,
)
from mrlstore.catalogue.connections import Connections
from mrlstore.catalogue.identity import replaced
from mrlstore.errors import CorruptStore, FormatTooNew, StorageError, StorageFull, StoreLocked, StorePoisoned
from mrlstore.system import forks, late
from mrlstore.system.files import Files
from mrlstore.system.scope import Scope, scope
from mrlstore.types import Settings

CHECKPOINT_BYTES = 16 * 1024 * 1024
_CHECKPOINT_WAIT_MS = 1_000
# SQLite waits so long for the write lock at a time. In between, Ctrl-C is seen, and a fork let through.
_BUSY_SLICE_MS = 100


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
        self.connections = Connections(files, path, read_only=read_only)
        self._files = files
        self._poison: str | None = None
        self._newest = 0  # the greatest generation that was written, or tried to be
        try:
            self._roll_back_journal()
            in_wal_mode = begin_again(self._load)
            if not in_wal_mode and not read_only:  # a backup is opened for writing
                self._enter_wal_mode()
            if self.settings.format_version < schema.FORMAT_VERSION and not read_only:
                self._upgrade()
        except BaseException:
            self.connections.close()
            raise

    def _load(self) -> bool:
        """Read the settings; whether there is a write-ahead log."""
        with self.connections.watcher() as watcher, translated(self.path):
            self._check_header(watcher)
            self.settings = settings.load(watcher, self.path)
            in_wal_mode: bool = watcher.execute("PRAGMA journal_mode").get == "wal"
            if in_wal_mode and _says_rollback_mode(watcher):
                raise CorruptStore(
                    self.path,
                    "a backup was copied over a store whose log is there: copy it to a new path, or "
                    f"again after removing {self.path.name}-wal and {self.path.name}-shm",
                )
            return in_wal_mode

    @staticmethod
    def create(files: Files, path: Path, new: Settings) -> None:
        """Make catalogue.db with its tables; the caller syncs the folder."""
        with forks.using():
            connection = connect(files, path, create=True)
            try:
                with translated(path):
                    connection.execute(schema.PREPARE).fetchall()
                    with connection:
                        connection.execute(schema.TABLES)
                        questions.make_table(connection)
                        marks.make(connection)
                        keywords.create(connection, new.tokenizer or keywords.DEFAULT_TOKENIZER)
                        settings.save(connection, new)
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                forks.closing(connection)
        files.share(path)

    def state(self) -> tuple[int, int]:
        """Something that is another after any commit by any connection, of any process. About 2 us."""
        return self.connections.data_version()

    def connection(self) -> Scope[Connection]:
        """A connection outside of any transaction: each statement sees what is newest."""
        return self.connections.reader()

    @scope
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything in it belongs to one generation once the first row is read."""
        with self.connection() as connection:
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                with suppress(apsw.Error):
                    connection.execute("COMMIT")

    @scope
    def write(self) -> Iterator[Write]:
        """A write transaction under a generation of its own: durable when the block is left.

        An exception inside rolls back. If the fate of the commit is unknown the catalogue is poisoned.
        """
        with self._writing() as connection:
            with translated(self.path, connection):
                generation = self._next_generation(connection)
                yield Write(connection, generation)
                settings.put(connection, "generation", generation)  # last: until here it reads as before
            self._commit(connection)

    def _next_generation(self, connection: Connection) -> int:
        """The generation that a write transaction commits; StorePoisoned if this is another catalogue now."""
        generation = settings.generation(connection) + 1
        uuid = settings.get(connection, "store_uuid")
        if generation < self._newest or uuid != self.settings.store_uuid or _says_rollback_mode(connection):
            raise replaced(self.path)
        self._newest = generation
        return generation

    def check_not_older(self, generation: int) -> None:
        """Raise StorePoisoned if the catalogue is of an older generation: an older one has replaced it."""
        with self.read() as connection:
            if settings.generation(connection) < generation:
                raise replaced(self.path)

    def reserve_keys(self, count: int) -> int:
        """Take row keys out of circulation, in a transaction of its own; the first is returned."""
        with self._writing() as connection:
            with translated(self.path, connection):
                first = settings.reserve_keys(connection, count)
            self._commit(connection)
            return first

    def checkpoint(self, *, whole: bool = False) -> None:
        """Copy the write-ahead log into the database; `whole` also empties the log and frees unused pages."""
        with self.connections.writer() as writer, translated(self.path, writer):
            if not whole:
                writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                return
            writer.execute("PRAGMA incremental_vacuum").fetchall()
            try:
                writer.set_busy_timeout(_CHECKPOINT_WAIT_MS)
                with suppress(
                    apsw.BusyError, apsw.LockedError
                ):  # readers are at work: the next one will do it
                    writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                writer.set_busy_timeout(BUSY_TIMEOUT_MS)

    def free_bytes(self, connection: Connection) -> int:
        """Bytes of pages that hold nothing."""
        free, size = (
            connection.execute("PRAGMA freelist_count").get,
            connection.execute("PRAGMA page_size").get,
        )
        return int(free) * int(size)

    def backup(self, target: Path, source: Connection) -> None:
        """Copy the database as `source`'s transaction sees it, as one file in rollback-journal mode."""
        try:
            with translated(target):
                self._copy(target, source)
        except SystemError as error:  # apsw's word where a VFS written in Python fails while a copy is ended
            raise StorageError(errno.EIO, f"copying the catalogue failed: {error}", str(target)) from error

    def _copy(self, target: Path, source: Connection) -> None:
        with forks.using(), forks.feeding(source):
            copy = connect(self._files, target, create=True)
            try:
                with copy.backup("main", source, "main") as work:
                    while not work.done:
                        work.step(2000)
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            finally:
                forks.closing(copy, force=True)  # the first error is the one to report
        self._files.share(target)

    def poison(self, reason: str) -> None:
        """Refuse all further writes: what reached the disk is unknown."""
        self._poison = reason

    def check_usable(self) -> None:
        """Raise StorePoisoned if a write has failed with unknown fate."""
        if self._poison is not None:
            raise StorePoisoned(self._poison)

    def _check_header(self, watcher: Connection) -> None:
        version = watcher.execute("PRAGMA user_version").get
        if watcher.execute("PRAGMA application_id").get != schema.APPLICATION_ID:
            raise CorruptStore(self.path, "an SQLite database, but not a catalogue of mrlstore")
        if version > schema.FORMAT_VERSION:
            raise FormatTooNew(
                f"{self.path}: format {version}, this mrlstore reads up to {schema.FORMAT_VERSION}; "
                "upgrade mrlstore"
            )

    def _roll_back_journal(self) -> None:
        """Undo what a process had begun that died while it opened a backup for the first time.

        A connection that only reads cannot do this, and can read nothing before.
        """
        journal = self.path.with_name(self.path.name + "-journal")
        with suppress(FileNotFoundError):
            if self._files.size(journal) and self._files.writable(self.path.parent):
                with forks.using():
                    forks.closing(connect(self._files, self.path))

    def _enter_wal_mode(self) -> None:
        """Switch to a write-ahead log. SQLite does so only while nobody reads, and does not wait for that."""
        wait_s = BUSY_TIMEOUT_MS // 1000
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with (
                suppress(StoreLocked),
                self.connections.writer() as writer,
                translated(self.path),
            ):
                if writer.execute("PRAGMA journal_mode = WAL").get == "wal":
                    return
            # Processes that all waited equally long would meet again.
            time.sleep(late.random.uniform(0.002, 0.02))
        raise StoreLocked(f"{self.path}: other processes have been reading this backup for {wait_s} s")

    def _upgrade(self) -> None:
        """Bring an older store to today's format, which has a keyword index; all of it or nothing."""
        with self.write() as write:
            connection = write.connection
            version = settings.get_int(connection, "format_version")
            if version < settings.FIRST_WITH_KEYWORDS:
                keywords.rebuild(connection, keywords.DEFAULT_TOKENIZER)
                settings.put(connection, "tokenizer", keywords.DEFAULT_TOKENIZER)
            if version < schema.FORMAT_VERSION:
                questions.make_table(connection)
                marks.make(connection)
                settings.put(connection, "format_version", schema.FORMAT_VERSION)
                connection.execute(f"PRAGMA user_version = {schema.FORMAT_VERSION}")
            self.settings = settings.load(connection, self.path)

    @scope
    def _writing(self) -> Iterator[Connection]:
        if self.read_only:
            raise StorageError(errno.EROFS, 'the store was opened with mode="r"', str(self.path))
        deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while True:
            if self.connections.is_writing():
                raise StoreLocked(
                    f"{self.path}: this thread is in the midst of another write; "
                    "a signal handler that wants to write has to leave it to the program, or to a thread"
                )
            with self.connections.writer() as connection:
                self.check_usable()
                if not connection.get_autocommit():  # a second interrupt cut off the last write's rollback
                    self.connections.discard_writer()
                    continue
                try:
                    if self._begin(connection, deadline):
                        yield connection
                        return
                finally:
                    self._roll_back(connection)  # nothing, once it is committed

    def _begin(self, connection: Connection, deadline: float) -> bool:
        """Take the write lock; False where a fork has to go first, and the lock is to be tried for again."""
        try:
            connection.set_busy_timeout(_BUSY_SLICE_MS)
            with translated(self.path):
                while True:
                    try:
                        connection.execute("BEGIN IMMEDIATE")
                        return True
                    except apsw.BusyError:
                        if forks.wanted():
                            return False
                        if time.monotonic() >= deadline:
                            raise
        finally:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)

    def _roll_back(self, connection: Connection) -> None:
        """End what is not committed. A cursor that an exception left half read would keep the old state."""
        with suppress(apsw.Error):
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            if connection.txn_state() != apsw.SQLITE_TXN_NONE:
                self.connections.discard_writer()

    def _commit(self, connection: Connection) -> None:
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            meant = typed(self.path, error, connection)  # before the rollback changes the errno
            self._roll_back(connection)
            # CorruptStore: what the keyword index kept in memory could not be added; nothing was written.
            if not isinstance(meant, StoreLocked | StorageFull | CorruptStore):
                self.poison(f"a commit failed ({meant}); reopen the store to see what is on disk")
                raise StorePoisoned(self._poison) from error
            raise meant from error
        if self._log_pages(connection) * schema.PAGE_BYTES > CHECKPOINT_BYTES:
            self._checkpoint_after_commit(connection)

    def _log_pages(self, connection: Connection) -> int:
        """Pages in the write-ahead log. About 1 us.

        SQLite could call a hook with it, but that must not be Python: a signal handler that forks in a
        callback of SQLite's leaves a child that waits for SQLite's mutexes for ever.
        """
        with suppress(apsw.Error):
            return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
        return 0

    def _checkpoint_after_commit(self, connection: Connection) -> None:
        """Copy the log into the database. The commit is durable by now, so only a failed fsync matters."""
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            if isinstance(typed(self.path, error), StorePoisoned):
                self.poison(f"a checkpoint failed ({error}); reopen the store")


def _says_rollback_mode(connection: Connection) -> bool:
    """Whether catalogue.db itself, whatever its log says, is in rollback mode, as only backups are. 2 us.

    Byte 18 of the header (https://sqlite.org/fileformat.html) is written before a log is begun.
    """
    return connection.read("main", 0, 18, 1)[1] == b"\x01"
