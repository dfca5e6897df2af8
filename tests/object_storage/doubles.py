"""Object storage for tests: in memory, and a double that fails, stops or answers wrongly at its n-th call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import partial
from typing import Any

from mrlstore.errors import ObjectNotFound, ObjectStorageError
from mrlstore.object_storage import ObjectStorage, StoredObject
from mrlstore.object_storage.interface import WHOLE_BYTES, checked_name


class MemoryStorage(ObjectStorage):
    """Objects in a dictionary; `copy` is what another machine would find if this one were lost now."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.url = "memory:"
        self.objects = dict(objects or {})
        self._lock = threading.Lock()

    def copy(self) -> MemoryStorage:
        return MemoryStorage(self.objects)

    def create(self, name: str, data: bytes) -> bool:
        with self._lock:
            return self.objects.setdefault(checked_name(name), bytes(data)) == data

    def put(self, name: str, data: bytes) -> None:
        self.objects[checked_name(name)] = bytes(data)

    def put_pieces(self, name: str, pieces: Iterable[bytes | memoryview], size: int) -> None:
        data = b"".join(pieces)
        if len(data) != size:
            raise ObjectStorageError(f"{name} has {len(data)} bytes, expected {size}")
        self.put(name, data)

    def get(self, name: str, limit: int = WHOLE_BYTES) -> bytes:
        data = self._data(name)
        if len(data) > limit:
            raise ObjectStorageError(f"{name} is longer than {limit} bytes")
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        data = self._data(name)[start : start + length]
        if len(data) != length:
            raise ObjectStorageError(f"{name} is too short")
        return data

    def size(self, name: str) -> int | None:
        data = self.objects.get(checked_name(name))
        return None if data is None else len(data)

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:
        below = f"{prefix}/" if prefix else ""
        with self._lock:
            found = [StoredObject(name, len(data)) for name, data in self.objects.items()]
        return sorted(each for each in found if each.name.startswith(below) and each.name > after)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.objects.pop(checked_name(name), None)

    def _data(self, name: str) -> bytes:
        try:
            return self.objects[checked_name(name)]
        except KeyError:
            raise ObjectNotFound(f"there is no object {name}") from None


class Stopped(BaseException):
    """The process ends here: no handler of errors may go on."""


class Fault(Enum):
    """What happens at the n-th call."""

    REFUSED = auto()  # nothing is done, and an error says so
    DONE_THEN_ERROR = auto()  # done, and the answer is lost
    AWAY = auto()  # from then on every call fails
    STOPPED = auto()  # the caller's process ends before the call
    DONE_THEN_STOPPED = auto()  # and after it
    WRONG = auto()  # another answer: bytes cut or changed, a listing that lacks its last object


class FaultyStorage(ObjectStorage):
    """Passes all calls on, but for the n-th (counted from 1), at which `fault` happens."""

    def __init__(self, inner: ObjectStorage, nth: int = 0, fault: Fault = Fault.REFUSED) -> None:
        self.url, self.inner, self.nth, self.fault = inner.url, inner, nth, fault
        self.calls: list[str] = []

    def _call(self, what: str, call: Callable[[], Any], wrong: Callable[[Any], Any]) -> Any:
        self.calls.append(what)
        count, fault = len(self.calls), self.fault
        if not self.nth or count < self.nth or (count > self.nth and fault is not Fault.AWAY):
            return call()
        if fault in (Fault.REFUSED, Fault.AWAY):
            raise ObjectStorageError(f"test: {what} refused")
        if fault is Fault.STOPPED:
            raise Stopped(what)
        answer = call()
        if fault is Fault.DONE_THEN_ERROR:
            raise ObjectStorageError(f"test: the answer of {what} is lost")
        if fault is Fault.DONE_THEN_STOPPED:
            raise Stopped(what)
        return wrong(answer)

    def create(self, name: str, data: bytes) -> bool:
        return bool(self._call(f"create {name}", lambda: self.inner.create(name, data), _same))

    def put(self, name: str, data: bytes) -> None:
        self._call(f"put {name}", lambda: self.inner.put(name, data), _same)

    def put_pieces(self, name: str, pieces: Iterable[bytes | memoryview], size: int) -> None:
        self._call(f"put_pieces {name}", lambda: self.inner.put_pieces(name, pieces, size), _same)

    def get(self, name: str, limit: int = WHOLE_BYTES) -> bytes:
        data: bytes = self._call(f"get {name}", lambda: self.inner.get(name, limit), _damaged)
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        data: bytes = self._call(
            f"get_range {name} {start}", lambda: self.inner.get_range(name, start, length), _damaged
        )
        return data

    def size(self, name: str) -> int | None:
        size: int | None = self._call(
            f"size {name}", lambda: self.inner.size(name), lambda size: None if size is None else size + 1
        )
        return size

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:
        found: list[StoredObject] = self._call(
            f"list_objects {prefix}", lambda: self.inner.list_objects(prefix, after), lambda found: found[:-1]
        )
        return found

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._call(f"delete {name}", partial(self.inner.delete, [name]), _same)


def _same(answer: Any) -> Any:
    return answer


def _damaged(data: bytes) -> bytes:
    """The bytes with one bit changed in their midst."""
    changed = bytearray(data)
    if changed:
        changed[len(changed) // 2] ^= 0x10
    return bytes(changed)
