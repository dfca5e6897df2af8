"""The connections of one process to one catalogue: one that watches, one that writes, a pool of readers.

Before a fork they are closed, and both sides open their own at the next use: see `system.forks`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from mrlstore.catalogue import wal_index
from mrlstore.catalogue.connection import (
    Connection,
    Overtaken,
    begin_again,
    connect,
    immutable,
    overtaken,
    stamp,
    typed,
)
from mrlstore.catalogue.identity import Identity
from mrlstore.errors import MrlStoreError, StorePoisoned
from mrlstore.system import forks
from mrlstore.system.files import Files, Stamp
from mrlstore.system.scope import scope

_POOL_SIZE = 8


class Connections:
    """Hands connections out, one user at a time; safe to use from many threads."""

    def __init__(self, files: Files, path: Path, *, read_only: bool) -> None:
        self.read_only = read_only
        self._files, self._path = files, path
        self._watch_lock = threading.RLock()
        self._write_lock = threading.RLock()
        self._closed = False
        self.abandoned = False  # opened by the process that this one was forked from
        self._pool: list[Connection] = []
        self._writer: Connection | None = None
        self._watcher: Connection | None = None
        self._watchers = 0  # how many there have been
        self._headers: Any = None  # of the wal-index, where the watcher has it mapped
        self._seen: tuple[bytes, int] | None = None  # headers, and the data version that they stand for
        self._stamp: tuple[Stamp, Stamp] | None = None  # what immutable connections rely on
        self._identity = Identity(files, path, read_only=read_only)
        self._retired: list[Connection] = []  # watchers that another thread may have been asking
        forks.register(self)

    @scope
    def watcher(self) -> Iterator[Connection]:
        """The connection that never writes."""
        with forks.using(self._watch_lock):
            connection = self._watching()
            relied_on = self._stamp
            try:
                yield connection
            except (apsw.Error, MrlStoreError) as error:
                self._check_not_overtaken(relied_on, error)
                raise
            self._check_not_overtaken(relied_on)

    def data_version(self) -> tuple[int, int]:
        """SQLite's counter of other connections' commits, and which watcher counts. About 1 us."""
        with self._watch_lock:  # enough where the connection is there: see `hold`
            watcher = self._watcher
            if watcher is not None and self._stamp is None:
                with suppress(Overtaken):
                    return self._version(watcher)
        return begin_again(self._version_anew)

    def _version_anew(self) -> tuple[int, int]:
        with forks.using(self._watch_lock):
            try:
                return self._version(self._watching())
            except Overtaken:
                self._close_watcher()
                raise

    def _version(self, watcher: Connection) -> tuple[int, int]:
        mapped = self._headers
        headers = b"" if mapped is None else bytes(mapped)  # before SQLite is asked
        if headers and self._seen is not None and self._seen[0] == headers:
            return self._seen[1], self._watchers
        try:  # not `translated`: this is on the path of every query
            version: int = watcher.execute("PRAGMA data_version").get
        except apsw.Error as error:
            self._check_not_overtaken(None, error)
            raise typed(self._path, error, watcher) from error
        self._seen = headers, version
        return version, self._watchers

    @scope
    def writer(self) -> Iterator[Connection]:
        """The connection that writes; one thread at a time, and again within the same thread."""
        with forks.using(self._write_lock):
            self._check_own()
            self.check_not_replaced()
            writer = self._writer
            if writer is None:
                self._writer = writer = connect(self._files, self._path)
            yield writer

    @scope
    def reader(self) -> Iterator[Connection]:
        """A connection of one's own; it goes back to the pool unless a transaction is left open."""
        with forks.using():
            self._check_own()
            self._identity.check_not_written_over()
            self._drop_overtaken()
            try:
                connection = self._pool.pop()
            except IndexError:
                connection = self._connect()
            relied_on, usable = self._stamp, True
            try:
                yield connection
                self._check_not_overtaken(relied_on)
            except (apsw.Error, UnicodeDecodeError, MrlStoreError) as error:
                usable = isinstance(error, MrlStoreError)
                self._check_not_overtaken(relied_on, error)
                if isinstance(error, MrlStoreError):
                    raise
                raise typed(self._path, error) from error
            finally:
                self._give_back(connection, relied_on, usable)

    def is_writing(self) -> bool:
        """Whether the calling thread is in a write transaction: it is then a signal handler that asks."""
        writer = self._writer
        return forks.is_owned(self._write_lock) and writer is not None and not writer.get_autocommit()

    def discard_writer(self) -> None:
        """Close the connection that writes; the next use opens another. For whoever has it."""
        writer, self._writer = self._writer, None
        if writer is not None and not self.abandoned:
            forks.closing(writer, force=True)

    def _check_not_overtaken(
        self, relied_on: tuple[Stamp, Stamp] | None, error: Exception | None = None
    ) -> None:
        """Raise Overtaken if a writer changed what was read by an immutable connection, or took the log away.

        relied_on: the stamp of that connection, None for others. error: what the reading met.
        """
        met = error.__cause__ if isinstance(error, MrlStoreError) else error
        if relied_on is not None:
            void = stamp(self._files, self._path) != relied_on
        else:
            void = isinstance(met, apsw.ReadOnlyError | apsw.CantOpenError) and (
                self.read_only and not self._files.writable(self._path.parent)
            )
        if void:
            raise overtaken(self._path) from error

    def _give_back(self, connection: Connection, relied_on: tuple[Stamp, Stamp] | None, usable: bool) -> None:
        if self.abandoned:
            return  # forked meanwhile by this very thread: the connection is the parent's
        welcome = not self._closed and len(self._pool) < _POOL_SIZE and self._stamp == relied_on
        # A cursor that an exception has left half read keeps its transaction open; so does one behind BEGIN.
        idle = connection.get_autocommit() and connection.txn_state() == apsw.SQLITE_TXN_NONE
        if usable and welcome and idle:
            self._pool.append(connection)
        else:
            forks.closing(connection, force=True)

    def close(self) -> None:
        """Close all; the last connection of the last process folds the log into the database."""
        with forks.using(self._write_lock), self._watch_lock:
            self._closed = True
            if not self.abandoned:
                self._close_all()

    def hold(self, timeout_s: float) -> bool:
        """Before a fork: keep out those who ask the watcher, which is always short; see `forks.Owner`."""
        return self._watch_lock.acquire(timeout=timeout_s)

    def let_go(self) -> None:
        """Let those who ask the watcher in again."""
        self._watch_lock.release()

    def is_mine(self) -> bool:
        """Whether the calling thread is asking the watcher."""
        return forks.is_owned(self._watch_lock)

    def close_idle(self, *, free: bool, held: bool, mine: bool) -> None:
        """Before a fork: close the connections that nobody uses."""
        self._close_pool()
        if held and not mine:
            self._close_watcher()
        if free:
            self._close_writer()
        elif not forks.is_owned(self._write_lock) and self._write_lock.acquire(blocking=False):
            try:
                self._close_writer()
            finally:
                self._write_lock.release()

    def abandon(self) -> None:
        """In a forked child: renew the locks, which other threads may have held, and refuse further uses."""
        self.abandoned = True
        self._watch_lock, self._write_lock = threading.RLock(), threading.RLock()
        self._pool, self._writer, self._watcher, self._headers = [], None, None, None

    def _check_own(self) -> None:
        if self.abandoned:
            raise StorePoisoned(f"{self._path.parent}: {forks.BEGUN_BEFORE}")

    def check_not_replaced(self) -> None:
        """Raise StorePoisoned if the store at the path is not the one that was opened.

        Writes would go to files without a name, and part folders into another store.
        """
        self._identity.check()

    def _watching(self) -> Connection:
        self._check_own()
        self._drop_overtaken()
        for _ in range(len(self._retired)):
            forks.closing(self._retired.pop(), force=True)
        watcher = self._watcher
        if watcher is None:
            self._headers = self._seen = None
            self._watcher = watcher = self._connect()
            self._watchers += 1
            self._headers = wal_index.headers(self._path)
        return watcher

    def _connect(self) -> Connection:
        """A connection that reads, remembering what it relies on if it is an immutable one."""
        self.check_not_replaced()
        before = stamp(self._files, self._path)
        connection = connect(self._files, self._path, read_only=True)
        if immutable(connection):
            self._stamp = before
        return connection

    def _drop_overtaken(self) -> None:
        """Let immutable connections go once somebody who may write to the folder has done so."""
        if self._stamp is not None and stamp(self._files, self._path) != self._stamp:
            self._stamp = None
            pool, self._pool = self._pool, []
            for connection in pool:
                forks.closing(connection)
            watcher, self._watcher = self._watcher, None
            if watcher is not None:  # a thread may be asking it at this moment
                self._retired.append(watcher)

    def _close_all(self) -> None:
        self._close_pool()
        self._close_watcher()
        self._close_writer()  # last, since only a writer can fold the log back

    def _close_pool(self) -> None:
        pool = self._pool
        with suppress(IndexError):  # empty: a fork may be closing them too
            while True:
                connection = pool.pop()
                with suppress(apsw.Error):
                    forks.closing(connection)

    def _close_watcher(self) -> None:
        watcher, self._watcher, self._headers = self._watcher, None, None
        for connection in (watcher, *self._retired):
            if connection is not None:
                with suppress(apsw.Error):
                    forks.closing(connection)
        self._retired.clear()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(apsw.Error):
                if self._identity.is_replaced():  # what the log holds is of another database than this one
                    writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                forks.closing(writer)
