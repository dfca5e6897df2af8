"""A folder as object storage: a file for each object, made by link(2), through the file seam of the store."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mrlstore.errors import MrlStoreError, ObjectStorageDenied, ObjectStorageError
from mrlstore.object_storage.interface import (
    WHOLE_BYTES,
    ObjectStorage,
    StoredObject,
    checked_name,
    not_found,
)
from mrlstore.system.files import Files, SyncFailed, make_parents, write_file

_DRAFT: Final = ".draft-"  # a file that is being written; no object's name begins with a dot
_DRAFT_S: Final = 24 * 3600  # seconds after which a draft is that of a process that died


class FolderStorage(ObjectStorage):
    """A folder whose file system has hard links and is one for all who use it: a local disk, or NFS.

    A file is written under another name, synced, linked to its own name, and the folder is synced: it appears
    whole, and what was created survives a power cut.
    """

    def __init__(self, path: Path, files: Files | None = None) -> None:
        """Use the folder at `path`, which is made by the first write."""
        self.path = path.absolute()
        self.url = str(self.path)
        self._files = files or Files()

    def probe(self) -> None:  # noqa: D102
        super().probe()
        with _told(self.url, "remove old drafts"):
            self._remove_old_drafts()

    def create(self, name: str, data: bytes) -> bool:  # noqa: D102
        target = self._path(name)
        with _told(self.url, f"create {name}"), self._draft(target, [data], len(data)) as draft:
            try:
                self._files.link(draft, target)
                made = True
            except FileExistsError:
                made = self._holds(target, data)
            self._files.sync_dir(target.parent)
        return made

    def put(self, name: str, data: bytes) -> None:  # noqa: D102
        self.put_pieces(name, [data], len(data))

    def put_pieces(self, name: str, pieces: Iterable[bytes | memoryview], size: int) -> None:  # noqa: D102
        target = self._path(name)
        with _told(self.url, f"write {name}"), self._draft(target, pieces, size) as draft:
            self._files.rename(draft, target)
            self._files.sync_dir(target.parent)

    def get(self, name: str, limit: int = WHOLE_BYTES) -> bytes:  # noqa: D102
        with _told(self.url, f"read {name}"):
            try:
                return self._files.read(self._path(name), limit)
            except FileNotFoundError as error:
                raise not_found(self.url, name) from error

    def get_range(self, name: str, start: int, length: int) -> bytes:  # noqa: D102
        if not length:
            return b""
        with _told(self.url, f"read {name}"):
            try:
                with memoryview(self._files.map(self._path(name), start + length)) as whole:
                    return bytes(whole[start:])
            except FileNotFoundError as error:
                raise not_found(self.url, name) from error

    def size(self, name: str) -> int | None:  # noqa: D102
        with _told(self.url, f"look at {name}"):
            try:
                return self._files.size(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:  # noqa: D102
        with _told(self.url, "list its files"):
            found = sorted(self._below(checked_name(prefix) if prefix else ""))
        return [each for each in found if each.name > after]

    def delete(self, names: Iterable[str]) -> None:  # noqa: D102
        for name in names:
            path = self._path(name)
            with _told(self.url, f"remove {name}"), suppress(FileNotFoundError, NotADirectoryError):
                self._files.unlink(path)
                self._files.sync_dir(path.parent)

    def _path(self, name: str) -> Path:
        return self.path / checked_name(name)

    @contextmanager
    def _draft(self, target: Path, pieces: Iterable[bytes | memoryview], size: int) -> Iterator[Path]:
        """A synced file with these bytes in the folder of `target`, removed at the end if still there."""
        make_parents(self._files, target)
        draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
        try:
            write_file(self._files, draft, pieces)
            if (written := self._files.size(draft)) != size:
                raise ObjectStorageError(f"{self.url}: {target.name} has {written} bytes, expected {size}")
            yield draft
        finally:
            with suppress(OSError):
                self._files.unlink(draft)

    def _holds(self, target: Path, data: bytes) -> bool:
        if self._files.size(target) != len(data):
            return False
        return self._files.read(target, len(data)) == data

    def _below(self, folder: str) -> Iterator[StoredObject]:
        """The objects of a folder and of those within, in no order."""
        try:
            names = self._files.list_dir(self.path / folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in names:
            name = f"{folder}/{entry}" if folder else entry
            if entry.startswith("."):
                continue
            if (self.path / name).is_dir():
                yield from self._below(name)
            else:
                with suppress(FileNotFoundError):  # removed meanwhile
                    yield StoredObject(name, self._files.size(self.path / name))

    def _remove_old_drafts(self) -> None:
        """Remove what processes left behind that died a day ago or earlier while they wrote."""
        drafts = [
            Path(folder, name)
            for folder, _, names in os.walk(self.path)
            for name in names
            if name.startswith(_DRAFT)
        ]
        for draft in drafts:
            if time.time() - self._files.stamp(draft).changed_ns / 1e9 > _DRAFT_S:
                with suppress(OSError):
                    self._files.unlink(draft)


@contextmanager
def _told(url: str, doing: str) -> Iterator[None]:
    """Turn what the system and the seam raise into ObjectStorageError."""
    try:
        yield
    except SyncFailed as error:
        raise ObjectStorageError(f"{url}: could not {doing}: {error}") from error
    except MrlStoreError:
        raise
    except PermissionError as error:
        raise ObjectStorageDenied(f"{url}: may not {doing}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ObjectStorageError(f"{url}: could not {doing}: {reason}") from error
