"""Files in object storage as an import reads them and an export writes them: s3://, gs://, az://, file://.

An import reads the object in pieces of 8 MB, as it needs them. An export is written to a temporary file,
since the size of an object must be known when it is sent, and is then sent in pieces.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from mrlstore.errors import InvalidInput, ObjectNotFound, StoreExists
from mrlstore.object_storage import ObjectStorage, open_storage

_PIECE: Final = 8 * 1024 * 1024


class ObjectPlace(NamedTuple):
    """One object: the storage of its folder, and its name there."""

    storage: ObjectStorage
    name: str


def is_url(place: object) -> bool:
    """Whether this names an object in object storage, and not a file."""
    return isinstance(place, str) and "://" in place


def name_of(url: str) -> Path:
    """The last part of a URL, whose suffix says the format."""
    return Path(url.rstrip("/").rpartition("/")[2])


def place_of(url: str) -> ObjectPlace:
    """The object that a URL names. Raises InvalidInput if it names none."""
    folder, _, name = url.rpartition("/")
    if not name or folder.endswith(":/"):
        raise InvalidInput(f"{url} names no object: expected s3://bucket/folder/name")
    return ObjectPlace(open_storage(folder), name)


class ObjectFile(io.RawIOBase):
    """An object that is read like a file, by one request for each read."""

    def __init__(self, url: str) -> None:
        """Look at the object; ObjectNotFound if there is none."""
        super().__init__()
        self._place, self._position = place_of(url), 0
        found = self._place.storage.size(self._place.name)
        if found is None:
            raise ObjectNotFound(f"{url}: there is no such object")
        self.size = found

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, from the beginning, from here or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; gives how many bytes, 0 at the end."""
        length = min(len(buffer), max(0, self.size - self._position))
        if length:
            data = self._place.storage.get_range(self._place.name, self._position, length)
            memoryview(buffer).cast("B")[:length] = data
            self._position += length
        return length

    def close(self) -> None:
        """Let go of the storage."""
        if not self.closed:
            self._place.storage.close()
        super().close()


def open_object(url: str) -> io.BufferedReader:
    """The object as a binary file, read ahead by 8 MB."""
    return io.BufferedReader(ObjectFile(url), _PIECE)


@contextmanager
def object_to_write(url: str, *, overwrite: bool) -> Iterator[Path]:
    """The path of a temporary file, which becomes the object when the block ends without an error.

    Raises:
        StoreExists: the object exists, and `overwrite` is not set.
    """
    storage, name = place_of(url)
    try:
        if not overwrite and storage.size(name) is not None:
            raise StoreExists(f"{url} exists; overwrite=True replaces it")
        with tempfile.TemporaryDirectory(prefix="mrlstore-export-") as folder:
            path = Path(folder) / name
            yield path
            storage.put_pieces(name, _pieces(path), path.stat().st_size)
    finally:
        storage.close()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
