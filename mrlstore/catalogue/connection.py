"""Opening SQLite connections through apsw, and turning its errors into typed ones."""

from __future__ import annotations

import errno
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import apsw

from mrlstore.errors import CorruptStore, MrlStoreError, StorageError, StorageFull, StoreLocked, StorePoisoned
from mrlstore.system import forks
from mrlstore.system.files import FULL, Files, Stamp

T = TypeVar("T")

Connection = apsw.Connection
AGAIN_S: Final = 10.0  # a writer that opens and closes without a pause could overtake a long reading for ever

BUSY_TIMEOUT_MS = 30_000
_SETTLE_S, _SETTLE_STEP_S = 1.0, 0.005  # a writer makes or removes the log within milliseconds
_FATE_UNKNOWN = {apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC}
_PRAGMAS = """
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -8192;
"""


class Overtaken(StorageError):
    """A writer came or went while a reader without permission to write was reading: what it read is void.

    Such a reader has no share in the log's locks, so nobody waits for it.
    """


def begin_again(run: Callable[[], T]) -> T:
    """Run until it does not raise Overtaken; that is raised too once it has taken AGAIN_S seconds."""
    deadline = time.monotonic() + AGAIN_S
    while True:
        try:
            return run()
        except Overtaken:
            if time.monotonic() >= deadline:
                raise


def overtaken(path: Path) -> Overtaken:
    """The error that says so."""
    return Overtaken(
        errno.EAGAIN, "another process changed the store while it was read; call again", str(path)
    )


def connect(files: Files, path: Path, *, read_only: bool = False, create: bool = False) -> Connection:
    """Open a connection with the store's pragmas; StorageError when SQLite can't open the file."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    if create:
        flags |= apsw.SQLITE_OPEN_CREATE
    deadline = time.monotonic() + _SETTLE_S
    with translated(path):
        while True:
            try:
                return _connect(files, path, flags, read_only=read_only)
            except (apsw.CantOpenError, apsw.ReadOnlyError):
                # A reader that may not write the folder needs the log and its -shm, or neither of them. When
                # a writer comes first or leaves last, one of them is there alone for a moment.
                if not read_only or files.writable(path.parent) or time.monotonic() >= deadline:
                    raise
                time.sleep(_SETTLE_STEP_S)


def _connect(files: Files, path: Path, flags: int, *, read_only: bool) -> Connection:
    try:
        return _prepared(_open(files, path, str(path), flags))
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError) as error:
        if not read_only or not _lacks_shm(files, path, error) or _has_log(files, path):
            raise
    # The immutable mode needs no -shm, and ignores the log and every later change, so it is right only as
    # long as `stamp` stays the same.
    uri = f"file:{quote(str(path))}?immutable=1"
    return _prepared(_open(files, path, uri, flags | apsw.SQLITE_OPEN_URI))


def _open(files: Files, path: Path, name: str, flags: int) -> Connection:
    files.check_process()
    connection = forks.opening(path, name, flags=flags, vfs=files.sqlite_vfs)
    try:
        files.check_process()  # again: from here on a fork knows of the connection
    except BaseException:
        forks.closing(connection)
        raise
    return connection


def _lacks_shm(files: Files, path: Path, error: apsw.Error) -> bool:
    """Whether -shm can't be made: the folder or medium may only be read, or the disk is full.

    Where files can be made SQLite had another reason to refuse: a passing lack of descriptors, say.
    """
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
    return not files.writable(path.parent)


def immutable(connection: Connection) -> bool:
    """Whether a connection of `connect` takes the file for one that never changes."""
    return bool(connection.open_flags & apsw.SQLITE_OPEN_URI)


def stamp(files: Files, path: Path) -> tuple[Stamp, Stamp]:
    """What is different once anybody has written to the database."""
    return files.stamp(path), files.stamp(_log(path))


def _prepared(connection: Connection) -> Connection:
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(_PRAGMAS).fetchall()
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON").fetchall()
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    except BaseException:
        forks.closing(connection)
        raise
    return connection


def _has_log(files: Files, path: Path) -> bool:
    try:
        return files.size(_log(path)) > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # unknown: the log must not be ignored


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def matches(crc: object, compute: Callable[..., int], *values: Any) -> bool:
    """Whether values have this crc; they have not if they are not even of the types that were written."""
    try:
        return crc == compute(*values)
    except (AttributeError, TypeError, ValueError, struct.error):
        return False


@contextmanager
def translated(path: Path, connection: Connection | None = None) -> Iterator[None]:
    """Turn apsw's exceptions into mrlstore's; others pass. The connection knows the system's errno."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        raise typed(path, error, connection) from error


def typed(
    path: Path, error: apsw.Error | UnicodeDecodeError, connection: Connection | None = None
) -> MrlStoreError:
    """The typed error that says what SQLite met."""
    if isinstance(error, UnicodeDecodeError):
        return CorruptStore(path, f"a text is not UTF-8 ({error})")
    words = str(error)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreLocked(f"{path}: another process kept the write lock for {BUSY_TIMEOUT_MS // 1000} s")
    system = connection.system_errno if connection is not None else 0
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        return StorageFull(errno.ENOSPC, f"making catalogue.db-shm: {words}", str(path))
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and system in FULL):
        return StorageFull(errno.ENOSPC, f"writing the catalogue: {words}", str(path))
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError | apsw.ConstraintError):
        return CorruptStore(path, f"SQLite: {words}")
    if isinstance(error, apsw.SQLError):  # our statements are fixed: a missing table or column is damage
        return CorruptStore(path, f"not the schema of a store: {words}")
    if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in _FATE_UNKNOWN:
        return StorePoisoned(f"{path}: fsync failed; reopen the store to see what is on disk ({words})")
    if isinstance(error, apsw.ReadOnlyError):
        return StorageError(errno.EROFS, f"the catalogue is read only: {words}", str(path))
    return StorageError(errno.EIO, f"SQLite: {type(error).__name__}: {words}", str(path))
