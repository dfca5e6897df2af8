"""The objects of one log: `log/` has one for each place, `large/` what does not fit into one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from mrlstore.errors import CorruptStore, ObjectNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log.entries import LogEntry, decoded, encoded

HOME: Final = "cluster.json"  # what a cluster, or a store with a log, was created with
ENTRY_BYTES: Final = 64 * 1024 * 1024  # a larger entry is uploaded before, and its place names it
_DIGITS: Final = 16
_REFERENCE: Final = b"MRLLARGE1\n"
_PIECE: Final = 8 * 1024 * 1024


def shard_prefix(shard: int) -> str:
    """The folder of a shard in object storage; a store with a log has one."""
    return f"shards/{shard:04}"


class Place(NamedTuple):
    """An object that the log has."""

    number: int
    size: int


class LogObjects:
    """Reads and creates the entries of one log. A place that was created is never written again."""

    def __init__(self, storage: ObjectStorage, prefix: str, entry_bytes: int = ENTRY_BYTES) -> None:
        """`prefix`: the folder of the shard; entries of more than `entry_bytes` are uploaded before."""
        self.storage, self._prefix, self._entry_bytes = storage, prefix, entry_bytes
        self.bytes_created = 0  # of all entries

    def create(self, entry: LogEntry) -> bool:
        """Commit an entry under its place; False if another one has the place.

        Raises:
            ObjectStorageError: its fate is unknown; another call with the same entry finds it out.
        """
        data = encoded(entry)
        self.bytes_created += len(data)
        if len(data) > self._entry_bytes:
            data = self._uploaded(entry.place, data)
        return self.storage.create(self._name(entry.place), data)

    def read(self, place: int) -> LogEntry | None:
        """The entry at a place, None if there is none; CorruptStore if it is damaged or not of this place."""
        name = self._name(place)
        try:
            data = self.storage.get(name)
        except ObjectNotFound:
            return None
        where = f"{self.storage.url}/{name}"
        if data.startswith(_REFERENCE):
            data = self._referred(data, where)
        entry = decoded(data, where)
        if entry.place != place:
            raise CorruptStore(where, f"is the entry of place {entry.place}")
        return entry

    def places(self, after: int) -> list[Place]:
        """The places behind one that the log has, in their order: one LIST."""
        listed = self.storage.list_objects(f"{self._prefix}/log", after=self._name(after))
        return [Place(int(one.name.rpartition("/")[2]), one.size) for one in listed]

    def removable(self, upto: int) -> list[str]:
        """The names of all objects of places up to this one: large ones, then the entries in their order."""
        large = self.storage.list_objects(f"{self._prefix}/large")
        entries = self.storage.list_objects(f"{self._prefix}/log")
        return [one.name for one in (*large, *entries) if _place_of(one.name) <= upto]

    def _uploaded(self, place: int, data: bytes) -> bytes:
        """Upload an entry under a name of its own, and give what refers to it.

        The name is made of the content, so that a repeated `create` refers to the same object.
        """
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        name = f"{self._prefix}/large/{place:0{_DIGITS}}-{digest}"
        self.storage.put_pieces(name, _pieces(data), len(data))
        reference = {"name": name, "size": len(data)}
        return _REFERENCE + json.dumps(reference).encode()

    def _referred(self, data: bytes, where: str) -> bytes:
        try:
            reference = json.loads(data[len(_REFERENCE) :])
            name, size = str(reference["name"]), int(reference["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptStore(where, f"does not say where its entry lies ({error!r})") from error
        try:
            return b"".join(self.storage.get_pieces(name, size))
        except ObjectNotFound as error:
            raise CorruptStore(where, f"its entry {name} is missing") from error

    def _name(self, place: int) -> str:
        return f"{self._prefix}/log/{place:0{_DIGITS}}"


def _place_of(name: str) -> int:
    return int(name.rpartition("/")[2][:_DIGITS])


def _pieces(data: bytes) -> Iterator[memoryview]:
    whole = memoryview(data)
    for start in range(0, len(data), _PIECE):
        yield whole[start : start + _PIECE]
