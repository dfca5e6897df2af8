"""The file seam: the only module that opens, maps, fsyncs, renames and locks files of a store.

`Files` is a dozen verbs on paths and descriptors, each one system call or close to it. A store works
through one `Files` object, so that a test can pass a subclass which records, refuses or delays any of
them. SQLite's own files are reached through `sqlite_vfs`, the name of an apsw VFS (None: the default one);
nothing here ever opens catalogue.db, -wal or -shm, for closing any descriptor of them would drop SQLite's
POSIX locks.

A file is written once, fsynced, and never changed again; a reader maps only lengths that a commit named.
No symbolic link is followed below a store's folder: see `Files.guard`.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import mmap
import os
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from mrlstore.errors import (
    CorruptStore,
    InvalidInput,
    MrlStoreError,
    StorageError,
    StorageFull,
    StorePoisoned,
)
from mrlstore.system import forks
from mrlstore.system.mapping import map_file

Buffer = bytes | bytearray | memoryview
FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CANNOT_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}  # a copy is needed instead
_WRITE_CHUNK = 64 * 1024 * 1024


class SyncFailed(StorePoisoned):
    """An fsync failed: the kernel may have dropped the pages, so nothing may be assumed any more."""


class Stamp(NamedTuple):
    """What tells one state of a file from another; zeros where there is no file."""

    device: int = 0
    inode: int = 0
    size: int = 0
    changed_ns: int = 0


class Files:
    """The real file system. Every verb raises OSError as the system gives it, but for a failed sync."""

    sqlite_vfs: str | None = None
    _survived: int
    _guarded: tuple[str, ...] = ()  # folders of stores, each with a slash behind it

    def __new__(cls, *_: object, **__: object) -> Self:
        """Note the process that it belongs to."""
        files = super().__new__(cls)
        files._survived = forks.survived()
        return files

    def renewed(self) -> Self:
        """The same for a forked child, which must not go on with what its parent has begun."""
        files = copy.copy(self)
        files._survived = forks.survived()
        return files

    def check_process(self) -> None:
        """Raise StorePoisoned in a forked child: the parent goes on with the same files at the same time."""
        if self._survived != forks.survived():
            raise StorePoisoned(f"an operation {forks.BEGUN_BEFORE}")

    def guard(self, store: Path) -> None:
        """From now on follow no symbolic link below this folder: every verb raises CorruptStore instead.

        A link in a store, whether it was copied carelessly or made on purpose, leads into another store or to
        other files, which would then be written or removed.
        """
        if f"{store}/" not in self._guarded:
            self._guarded += (f"{store}/",)

    def _inside(self, path: Path, *, itself: bool = False) -> Path:
        """The path, when none of the store's folders above it is a link, nor it `itself`."""
        text = str(path)
        for root in self._guarded:
            if text.startswith(root):
                names = text[len(root) :].split("/")
                for count in range(1, len(names) + itself):
                    folder = root + "/".join(names[:count])
                    if os.path.islink(folder):
                        raise _is_a_link(folder)
        return path

    def create(self, path: Path) -> int:
        """Make a new, empty file and return a descriptor for writing; FileExistsError if it exists."""
        self.check_process()
        return os.open(self._inside(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Append up to len(data) bytes and return how many were taken: it may be fewer."""
        self.check_process()
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes and length are on the medium."""
        _fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        os.close(descriptor)

    def sync_dir(self, path: Path) -> None:
        """Return when the folder's entries are on the medium."""
        descriptor = os.open(self._inside(path, itself=True), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_dir(self, path: Path) -> None:
        """Make a folder; FileExistsError if it exists."""
        self.check_process()
        os.mkdir(self._inside(path), 0o777)

    def share(self, path: Path) -> None:
        """Give a file in a new folder the mode of other new files, by the umask: SQLite makes it 0644."""
        self.check_process()
        mode = stat.S_IMODE(os.stat(path.parent).st_mode) & 0o666
        if stat.S_IMODE(os.stat(path).st_mode) != mode:
            with suppress(OSError):  # of a file system without modes
                os.chmod(path, mode)

    def rename(self, source: Path, target: Path) -> None:
        """Move atomically; an empty folder at the target is replaced."""
        self.check_process()
        os.rename(self._inside(source), self._inside(target))

    def link(self, source: Path, target: Path) -> None:
        """Give a regular file a second name; FileNotFoundError if it is gone."""
        self.check_process()
        source = self._inside(source)
        if self.is_strange(source):
            raise CorruptStore(source, "is not a regular file")
        os.link(source, self._inside(target))

    def unlink(self, path: Path) -> None:
        """Remove a file's name; maps of it stay valid."""
        self.check_process()
        os.unlink(self._inside(path))

    def remove_dir(self, path: Path) -> None:
        """Remove an empty folder."""
        self.check_process()
        os.rmdir(self._inside(path))

    def list_dir(self, path: Path) -> list[str]:
        """Names in a folder, sorted."""
        return sorted(os.listdir(self._inside(path, itself=True)))

    def size(self, path: Path) -> int:
        """Length in bytes, without opening the file."""
        return os.lstat(self._inside(path)).st_size

    def stamp(self, path: Path) -> Stamp:
        """The stamp of a file, which is not opened."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return Stamp()
        return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def is_strange(self, path: Path) -> bool:
        """Whether something is there that is not a regular file; a link to one is none."""
        try:
            return not stat.S_ISREG(os.lstat(path).st_mode)
        except FileNotFoundError:
            return False

    def names(self, path: Path) -> int:
        """How many names (hard links) a file has; 0 if it is not there."""
        try:
            return os.lstat(path).st_nlink
        except FileNotFoundError:
            return 0

    def writable(self, path: Path) -> bool:
        """Whether this process may make files in a folder."""
        return os.access(path, os.W_OK | os.X_OK)

    def read(self, path: Path, limit: int) -> bytes:
        """Give a small file's bytes; ValueError when it is longer than `limit`, or no file."""
        with open(self._inside(path), "rb", buffering=0, opener=_open_to_read) as file:
            _check_regular(file.fileno())
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"longer than {limit} bytes")
        return data

    def map(self, path: Path, size: int) -> mmap.mmap:
        """Map the first `size` bytes (> 0) for reading; ValueError when the file is shorter, or no file."""
        descriptor = _open_to_read(self._inside(path))
        try:
            _check_regular(descriptor)
            found = os.fstat(descriptor).st_size
            if found < size:
                raise ValueError(f"{found} bytes, expected {size}")
            return map_file(descriptor, size)
        finally:
            os.close(descriptor)

    def lock(self, path: Path, *, wait_s: float = 0.0) -> Lock | None:
        """Take an exclusive flock on an existing file or folder; None if it is not free in time."""
        self.check_process()
        deadline = time.monotonic() + wait_s
        with _making:
            lock = Lock(_open_to_read(self._inside(path)))
        try:
            while not lock.take():
                if time.monotonic() >= deadline:
                    lock.abandon()
                    return None
                time.sleep(0.01)
            return lock
        except BaseException:
            lock.release()
            raise


class Lock:
    """A flock, from `take` to `release`, on a descriptor that it owns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, key = descriptor, id(self)
        _locks[key] = weakref.ref(self, lambda _: _locks.pop(key, None))

    def take(self) -> bool:
        """Take it if it is free."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Unlock and close; again is harmless."""
        if self._descriptor >= 0:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.abandon()

    def abandon(self) -> None:
        """Close without unlocking: a forked child must not free what its parent holds."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def is_of(self, path: Path) -> bool:
        """Whether this is still the file or folder at a path, which may have been removed or replaced."""
        held = os.fstat(self._descriptor)
        try:
            return os.path.samestat(held, os.lstat(path))
        except FileNotFoundError:
            return False

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.abandon()  # a Ctrl-C may have come between taking it and whoever was to release it


# A child shares the open files of its parent, and with them their flocks. It closes its descriptors of them,
# which frees nothing, since otherwise a lock would last as long as the child does. So that it knows all of
# them, no fork takes place between opening and noting one.
_locks: dict[int, weakref.ref[Lock]] = {}
_making = threading.RLock()
_kept_out: list[bool] = []  # for each fork on its way: whether it holds `_making`
_MAKING_S: Final = 5.0  # a file is opened much sooner


def _keep_out() -> None:
    _kept_out.append(_making.acquire(timeout=_MAKING_S))


def _let_in() -> None:
    if _kept_out.pop():
        _making.release()


def _abandon_inherited() -> None:
    global _making
    _making = threading.RLock()
    _kept_out.clear()
    for ref in list(_locks.values()):
        if (lock := ref()) is not None:
            lock.abandon()


os.register_at_fork(before=_keep_out, after_in_parent=_let_in, after_in_child=_abandon_inherited)


def _open_to_read(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open without waiting, as for a pipe that somebody put there; CorruptStore for a symbolic link."""
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_a_link(os.fspath(path)) from error
        raise


def _is_a_link(path: str) -> CorruptStore:
    return CorruptStore(path, "is a symbolic link, and none is followed in a store: it leads elsewhere")


def _check_regular(descriptor: int) -> None:
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(kind):
        raise ValueError("not a regular file")


def write_file(files: Files, path: Path, pieces: Iterable[Buffer]) -> None:
    """Write a new file of these pieces in their order and sync it; a short write is continued."""
    descriptor = files.create(path)
    try:
        for piece in pieces:
            rest = memoryview(piece).cast("B")
            while len(rest):
                rest = rest[files.write(descriptor, rest[:_WRITE_CHUNK]) :]
        files.sync(descriptor)
    finally:
        files.close(descriptor)


def make_parents(files: Files, path: Path) -> None:
    """Make the folders above `path` that are missing, each synced into the one above it."""
    if not path.parent.exists():
        make_parents(files, path.parent)
        with suppress(FileExistsError):
            files.make_dir(path.parent)
        files.sync_dir(path.parent.parent)


def remove_tree(files: Files, path: Path) -> None:
    """Remove a folder of files (no folders within); what is gone already is fine.

    Nothing behind a symbolic link is touched: NotADirectoryError.
    """
    if os.path.islink(path):
        raise NotADirectoryError(errno.ENOTDIR, "is a symbolic link", str(path))
    with suppress(FileNotFoundError):
        for name in files.list_dir(path):
            with suppress(FileNotFoundError):
                files.unlink(path / name)
        files.remove_dir(path)


def storage_error(error: OSError, doing: str) -> MrlStoreError:
    """Turn an OSError into the typed error that says what was being done."""
    kind = StorageFull if error.errno in FULL else StorageError
    return kind(error.errno or errno.EIO, f"{doing}: {error.strerror or error}", error.filename)


_REMOTE = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x65735546: "FUSE",
    0x01021997: "9P",
    0x00C36400: "Ceph",
    0x47504653: "GPFS",
    0x0BD00BD0: "Lustre",
    0x5346414F: "AFS",
}


def refuse_remote(path: Path) -> None:
    """Raise InvalidInput on a network or FUSE file system, where locks and mmap cannot be trusted.

    MRLSTORE_ALLOW_REMOTE=1 in the environment is how a caller insists.
    """
    if os.environ.get("MRLSTORE_ALLOW_REMOTE") == "1" or not sys.platform.startswith("linux"):
        return
    kind = _REMOTE.get(_file_system_type(path))
    if kind is not None:
        raise InvalidInput(
            f"{path} is on a {kind} file system, where file locks and shared maps are not reliable; "
            "use a local disk, or set MRLSTORE_ALLOW_REMOTE=1 to insist"
        )


def _file_system_type(path: Path) -> int:
    import ctypes

    buffer = (ctypes.c_ulong * 32)()  # struct statfs: its first word is f_type
    libc = ctypes.CDLL(None, use_errno=True)
    return int(buffer[0]) if libc.statfs(os.fsencode(path), buffer) == 0 else 0


def full_sync(descriptor: int) -> None:
    """Return when what the descriptor stands for is on the medium; OSError as the system gives it."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.FFULLFSYNC)
    else:
        os.fsync(descriptor)


def _fsync(descriptor: int) -> None:
    try:
        full_sync(descriptor)
    except OSError as error:
        raise SyncFailed(
            f"fsync failed ({error.strerror}); reopen the store to see what is on disk"
        ) from error
