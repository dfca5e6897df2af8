"""Test versions of `Files`: record every operation, call a hook before one, fail one, replay crashes.

`RecordingFiles` covers the files that the library writes itself; SQLite's own files go through `_Vfs`, an
apsw VFS that reports into the same log, so that the log has one order for all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from mrlstore.system.files import Files, Lock

VERBS: tuple[str, ...] = (
    "create",
    "write",
    "sync",
    "close",
    "sync_dir",
    "make_dir",
    "rename",
    "link",
    "unlink",
)
VERBS += ("remove_dir", "list_dir", "size", "read", "map", "lock")


@dataclass(frozen=True)
class Op:
    """One operation: its verb, its path, and the data that a replay of it needs."""

    verb: str
    path: str
    other: str = ""
    data: bytes = b""
    offset: int = 0


class RecordingFiles(Files):
    """The real file system, with a log and hooks. `before[verb](path)` runs ahead of each call."""

    def __init__(self, sqlite_vfs: str | None = None) -> None:
        self.sqlite_vfs = sqlite_vfs
        self.log: list[Op] = []
        self.before: dict[str, Callable[[Path], None]] = {}
        self._names: dict[int, Path] = {}
        self._lengths: dict[int, int] = {}

    def _note(self, verb: str, path: Path, **details: Any) -> None:
        hook = self.before.get(verb)
        if hook is not None:
            hook(path)
        self.log.append(Op(verb, str(path), **details))

    def done(self, verb: str) -> list[str]:
        """Paths of the recorded operations of one verb."""
        return [op.path for op in self.log if op.verb == verb]

    def create(self, path: Path) -> int:
        self._note("create", path)
        descriptor = super().create(path)
        self._names[descriptor], self._lengths[descriptor] = path, 0
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        path = self._names[descriptor]
        hook = self.before.get("write")
        if hook is not None:
            hook(path)
        taken = super().write(descriptor, data)
        offset = self._lengths[descriptor]
        self.log.append(Op("write", str(path), data=bytes(data[:taken]), offset=offset))
        self._lengths[descriptor] += taken
        return taken

    def sync(self, descriptor: int) -> None:
        self._note("sync", self._names[descriptor])
        super().sync(descriptor)

    def close(self, descriptor: int) -> None:
        self._note("close", self._names.pop(descriptor))
        super().close(descriptor)

    def sync_dir(self, path: Path) -> None:
        self._note("sync_dir", path)
        super().sync_dir(path)

    def make_dir(self, path: Path) -> None:
        self._note("make_dir", path)
        super().make_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", source, other=str(target))
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._note("link", source, other=str(target))
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._note("unlink", path)
        super().unlink(path)

    def remove_dir(self, path: Path) -> None:
        self._note("remove_dir", path)
        super().remove_dir(path)

    def list_dir(self, path: Path) -> list[str]:
        self._note("list_dir", path)
        return super().list_dir(path)

    def size(self, path: Path) -> int:
        self._note("size", path)
        return super().size(path)

    def read(self, path: Path, limit: int) -> bytes:
        self._note("read", path)
        return super().read(path, limit)

    def map(self, path: Path, size: int) -> Any:
        self._note("map", path)
        return super().map(path, size)

    def lock(self, path: Path, *, wait_s: float = 0.0) -> Lock | None:
        self._note("lock", path)
        return super().lock(path, wait_s=wait_s)


class FailingFiles(RecordingFiles):
    """Fails the `nth` operation (counted over the library's files and SQLite's), once or from then on."""

    def __init__(self, nth: int, code: int, *, for_ever: bool, short: bool = False) -> None:
        super().__init__()
        self.nth, self.code, self.for_ever, self.short = nth, code, for_ever, short
        self.count = 0
        self.failed: list[str] = []
        self.before = {verb: self._maybe(verb) for verb in VERBS if verb not in ("close", "write")}

    def trip(self, what: str) -> bool:
        """Count an operation, and return whether it must fail."""
        self.count += 1
        if self.count == self.nth or (self.for_ever and self.count > self.nth):
            self.failed.append(what)
            return True
        return False

    def _maybe(self, verb: str) -> Callable[[Path], None]:
        def check(path: Path) -> None:
            if not self.short and self.trip(f"{verb} {path.name}"):
                if verb in ("sync", "sync_dir"):
                    from mrlstore.system.files import SyncFailed

                    raise SyncFailed("fsync failed (test)")
                raise OSError(self.code, os.strerror(self.code), str(path))

        return check

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.trip(f"write {self._names[descriptor].name}"):
            if not self.short:
                raise OSError(self.code, os.strerror(self.code))
            data = data[: max(1, len(data) // 3)]
        return super().write(descriptor, data)


class _VfsFile(apsw.VFSFile):
    def __init__(self, vfs: _Vfs, name: Any, flags: list[int]) -> None:
        self.vfs = vfs
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if self.path is not None and flags[0] & apsw.SQLITE_OPEN_CREATE and not os.path.exists(self.path):
            vfs.note(Op("create", self.path))
        super().__init__("unix", name, flags)

    def note(self, op: Op) -> None:
        if self.path is not None:
            self.vfs.note(op)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.note(Op("write", self.path, data=bytes(data), offset=offset))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.note(Op("truncate", self.path, offset=size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.note(Op("sync", self.path))
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self.vfs.reads(self.path)
        return bytes(super().xRead(amount, offset))


class _Vfs(apsw.VFS):
    """SQLite's unix VFS, which reports to `files` every operation that changes the disk."""

    def __init__(self, name: str, files: RecordingFiles) -> None:
        self.files = files
        super().__init__(name, "unix", makedefault=False)

    def xOpen(self, name: Any, flags: list[int]) -> _VfsFile:  # noqa: N802
        if isinstance(self.files, FailingFiles) and not self.files.short and self.files.trip(f"open {name}"):
            raise apsw.CantOpenError("test")
        return _VfsFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.note(Op("unlink", name))
        super().xDelete(name, sync)
        if sync:
            self.files.log.append(Op("sync_dir", str(Path(name).parent)))

    def note(self, op: Op) -> None:
        """Record an operation of SQLite, or fail it."""
        files = self.files
        if isinstance(files, FailingFiles) and not files.short and files.trip(f"sqlite {op.verb}"):
            raise sqlite_error(files.code, op.verb)
        hook = files.before.get(f"sqlite {op.verb}")
        if hook is not None:
            hook(Path(op.path))
        files.log.append(op)

    def reads(self, path: str | None) -> None:
        """Count a read of SQLite, which may fail. Reads are not recorded."""
        files = self.files
        if isinstance(files, FailingFiles) and not files.short and files.trip(f"sqlite read {path}"):
            raise sqlite_error(files.code, "read")


def sqlite_error(code: int, verb: str) -> apsw.Error:
    """The error that the VFS of SQLite itself would report for this errno."""
    if code == errno.ENOSPC and verb in ("write", "truncate", "create"):
        return apsw.FullError("test: disk full")
    kinds = {
        "write": apsw.SQLITE_IOERR_WRITE,
        "read": apsw.SQLITE_IOERR_READ,
        "sync": apsw.SQLITE_IOERR_FSYNC,
        "truncate": apsw.SQLITE_IOERR_TRUNCATE,
        "unlink": apsw.SQLITE_IOERR_DELETE,
    }
    if verb not in kinds:
        return apsw.CantOpenError("test")
    error = apsw.IOError("test")
    vars(error).update(result=apsw.SQLITE_IOERR, extendedresult=kinds[verb])
    return error


_count = 0


def with_sqlite(files: RecordingFiles) -> RecordingFiles:
    """Let SQLite's operations go through the same seam; the VFS lives as long as `files`."""
    global _count
    _count += 1
    name = f"mrlstore-test-{os.getpid()}-{_count}"
    files.vfs = _Vfs(name, files)  # type: ignore[attr-defined]
    files.sqlite_vfs = name
    return files
