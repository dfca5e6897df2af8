"""The connections of one process to one catalogue: one that watches, one that writes, a pool of readers.

SQLite keeps locks for each process and file, in memory that a fork copies. So before a fork everything is
closed, and both sides open again when they next need to; what cannot be closed in time (the fork happens
inside a transaction) is leaked in the child, never closed, for closing would drop the parent's locks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from mrlstore.catalogue import wal_index
from mrlstore.catalogue.connection import Connection, connect, immutable, stamp, typed
from mrlstore.errors import StorePoisoned
from mrlstore.system.files import Files

_POOL_SIZE = 8
_HALT_S = 5.0
_leaked: list[object] = []
Stamp = tuple[tuple[int, int, int], ...]


class Connections:
    """Hands connections out, one user at a time; safe to use from many threads."""

    def __init__(self, files: Files, path: Path, *, read_only: bool) -> None:
        self.read_only = read_only
        self._files, self._path = files, path
        self._watch_lock = threading.RLock()
        self._write_lock = threading.RLock()
        self._gate = threading.Condition()
        self._readers = 0
        self._halted = self._closed = False
        self._inside = threading.local()
        self._pool: list[Connection] = []
        self._writer: Connection | None = None
        self._watcher: Connection | None = None
        self._watchers = 0  # how many there have been
        self._headers: Any = None  # of the wal-index, where the watcher has it mapped
        self._seen: tuple[bytes, int] | None = None  # headers, and the data version that they stand for
        self._stamp: Stamp | None = None  # what immutable connections rely on
        self._inode = files.stamp(path)[0]
        self.log_pages = 0  # in the write-ahead log, as of our last commit, and not yet folded back

    @contextmanager
    def watcher(self) -> Iterator[Connection]:
        """The connection that never writes."""
        with self._watch_lock:
            yield self._watching()

    def data_version(self) -> tuple[int, int]:
        """SQLite's counter of other connections' commits, and which watcher counts. About 1 us."""
        with self._watch_lock:
            if self._stamp is not None or self._watcher is None:
                self._watching()
            headers = b"" if self._headers is None else bytes(self._headers)  # before SQLite is asked
            if headers and self._seen is not None and self._seen[0] == headers:
                return self._seen[1], self._watchers
            try:  # not `translated`: this is on the path of every query
                version: int = self._watcher.execute("PRAGMA data_version").get  # type: ignore[union-attr]
            except apsw.Error as error:
                raise typed(self._path, error, self._watcher) from error
            self._seen = headers, version
            return version, self._watchers

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """The connection that writes; one thread at a time, and again within the same thread."""
        with self._write_lock:
            self.check_not_replaced()
            if self._writer is None:
                self._writer = connect(self._files, self._path)
                self._writer.set_wal_hook(self._note_log)
            yield self._writer

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection of one's own; it goes back to the pool unless a transaction is left open."""
        self._enter()
        try:
            self._drop_overtaken()
            try:
                connection = self._pool.pop()
            except IndexError:
                connection = self._connect()
            relied_on = self._stamp
            try:
                yield connection
            finally:
                welcome = not self._closed and len(self._pool) < _POOL_SIZE and self._stamp == relied_on
                # A cursor that an exception has left half read keeps its transaction open.
                if welcome and connection.txn_state() == apsw.SQLITE_TXN_NONE:
                    self._pool.append(connection)
                else:
                    connection.close(True)
        finally:
            self._leave()

    def close(self) -> None:
        """Close all; the last connection of the last process folds the log into the database."""
        with self._write_lock, self._watch_lock:
            self._closed = True
            self._close_all()

    def halt(self) -> bool:
        """Before a fork: keep users out, wait for those inside, close all; False if some stayed inside."""
        deadline = time.monotonic() + _HALT_S
        self._write_held = self._write_lock.acquire(timeout=_HALT_S)
        self._watch_held = self._watch_lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        with self._gate:
            self._halted = True
            free = self._gate.wait_for(lambda: self._readers == 0, max(0.0, deadline - time.monotonic()))
        clean = free and self._write_held and self._watch_held and self._idle()
        if clean:
            self._close_all()
        return clean

    def resume(self) -> None:
        """After a fork, in the parent: let users in again."""
        with self._gate:
            self._halted = False
            self._gate.notify_all()
        if self._watch_held:
            self._watch_lock.release()
        if self._write_held:
            self._write_lock.release()

    def leak(self) -> None:
        """In a forked child: keep what could not be closed, untouched and for ever."""
        _leaked.append((self._pool, self._writer, self._watcher))

    def check_not_replaced(self) -> None:
        """Raise StorePoisoned if the catalogue at the path is not the one that was opened.

        Somebody has deleted, moved or replaced the store: what is written now would go to files without a
        name, and part folders into another store.
        """
        if self._files.stamp(self._path)[0] != self._inode:
            raise StorePoisoned(
                f"{self._path.parent}: the store was deleted, moved or replaced while it was open; "
                "open the path again"
            )

    def _watching(self) -> Connection:
        self._drop_overtaken()
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
                connection.close()
            self._watcher = None  # a thread may be asking it at this moment: the last one to let go closes it

    def _note_log(self, connection: Connection, database: str, pages: int) -> int:
        self.log_pages = pages
        return apsw.SQLITE_OK

    def _idle(self) -> bool:
        return self._writer is None or self._writer.get_autocommit()

    def _close_all(self) -> None:
        for connection in (*self._pool, self._watcher, self._writer):  # only a writer can fold the log back
            if connection is not None:
                with suppress(apsw.Error):
                    connection.close()
        self._pool, self._writer, self._watcher = [], None, None

    def _enter(self) -> None:
        depth = getattr(self._inside, "depth", 0)
        with self._gate:
            if depth == 0:
                while self._halted:
                    self._gate.wait()
            self._readers += 1
        self._inside.depth = depth + 1

    def _leave(self) -> None:
        self._inside.depth -= 1
        with self._gate:
            self._readers -= 1
            if self._halted:
                self._gate.notify_all()
