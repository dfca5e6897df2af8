"""What every kind of object storage offers: an abstract class, names of objects, the probe of `create`."""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from mrlstore.errors import ObjectNotFound, ObjectStorageError

# One object is held in memory whole by `create`, `put` and `get`; what is larger goes in pieces.
WHOLE_BYTES: Final = 256 * 1024 * 1024
PIECE_BYTES: Final = 8 * 1024 * 1024  # read at a time; a request of this size is done within obstore's 30 s
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")
_LONGEST: Final = 700  # bytes of a name; S3 and GCS take 1,024 together with the prefix, Azure too


class StoredObject(NamedTuple):
    """One object of a listing: its name below the prefix and its length in bytes."""

    name: str
    size: int


class ObjectStorage(ABC):
    """The objects below one prefix. Safe to share between threads.

    Names are relative to the prefix: segments of letters, digits and `_.=-`, joined by slashes. An object
    appears whole or not at all, and whoever asks after a write has returned sees it. Errors are
    `ObjectStorageError` and its subclasses; after an error of a write the object may exist, and may even
    appear later, because the request may still be on its way.
    """

    url: str
    """Where the prefix lies, without credentials: for messages."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Make an object where no object has this name yet: the only operation that excludes others.

        Clients of object storage repeat requests by themselves, so "it exists" may be one's own first try.
        The object is therefore read back, and the answer is by content: `data` must hold something that no
        one else writes, such as a random number, where the creator has to be told from others.

        Args:
            name: of the object.
            data: its bytes, up to 256 MB, held in memory.

        Returns:
            True when the object now holds exactly `data`, durably; False when it holds something else.

        Raises:
            ObjectStorageError: its fate is unknown. Another `create` with the same data finds it out.
        """

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write an object whose name belongs to its content; an object of this name is replaced by the same.

        Args:
            name: of the object.
            data: its bytes, up to 256 MB, held in memory.
        """

    @abstractmethod
    def put_pieces(self, name: str, pieces: Iterable[bytes | memoryview], size: int) -> None:
        """`put` of a large object, whose pieces are sent one after the other.

        Args:
            name: of the object.
            pieces: its bytes in their order, a few MB each. When they raise, nothing is written.
            size: of all pieces in bytes; ObjectStorageError when they have another length.
        """

    @abstractmethod
    def get(self, name: str, limit: int = WHOLE_BYTES) -> bytes:
        """Give an object's bytes; ObjectNotFound if there is none, ObjectStorageError if it is longer."""

    @abstractmethod
    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Give exactly `length` bytes from `start` on; ObjectStorageError when the object is shorter."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Give the length of an object in bytes, None if there is none: one HEAD request."""

    @abstractmethod
    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:
        """List the objects of a folder and of those within, sorted by name.

        Args:
            prefix: a folder of names without its last slash; "" for all objects.
            after: give only names that sort after this one. It need not exist.
        """

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Remove objects one after the other in the order given; those that are gone already are fine."""

    def close(self) -> None:  # noqa: B027
        """Give back what the object holds."""

    def get_pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Give an object of known size in pieces of 8 MB, each by a request of its own."""
        for start in range(0, size, PIECE_BYTES):
            yield self.get_range(name, start, min(PIECE_BYTES, size - start))

    def probe(self) -> None:
        """Check by an object of its own that `create` excludes and that writes are seen at once.

        Raises:
            ObjectStorageError: it does not: two writers could both believe that they come next.
        """
        name = f"probe/{uuid.uuid4().hex}"
        first, second = uuid.uuid4().bytes, uuid.uuid4().bytes
        try:
            excludes = self.create(name, first) and self.create(name, first) and not self.create(name, second)
            found = self.get(name)
            listed = [each.name for each in self.list_objects("probe")]
        finally:
            self.delete([name])
        if not excludes or found != first:
            raise ObjectStorageError(
                f"{self.url}: a second object was created under a name that exists. This object storage "
                "ignores the condition If-None-Match of a write, so that two writers could overwrite each "
                "other; use one that knows it (S3, GCS, Azure, MinIO, R2), or a folder"
            )
        if name not in listed:
            raise ObjectStorageError(f"{self.url}: an object that was just written is not in a listing")


def checked_name(name: str) -> str:
    """The name, when it may be one of an object: it leads neither upward nor to a hidden file."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ObjectStorageError(f"not a name of an object: {name!r:.200}")
    return name


def not_found(url: str, name: str) -> ObjectNotFound:
    """The error for an object that is missing."""
    return ObjectNotFound(f"{url}: there is no object {name}")
