"""Keys: who may do what. The file holds their hashes, so that whoever reads it cannot use them."""

from __future__ import annotations

import enum
import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mrlstore.errors import InvalidInput
from mrlstore.system.whole_file import whole_file

_LOG: Final = logging.getLogger("mrlstore.server")
_SECRET_BYTES: Final = 32  # 256 random bits: a plain hash is enough, nobody can try them all
_VERSION: Final = 1


class Role(enum.IntEnum):
    """What a key may do; each role may do what those before it may."""

    READ = 1
    WRITE = 2
    ADMIN = 3  # also create, configure and delete indexes

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of this name, in lower case; InvalidInput for another."""
        if name.upper() not in cls.__members__:
            raise InvalidInput(f"role: {name!r} is not one of read, write, admin")
        return cls[name.upper()]


@dataclass(frozen=True)
class Grant:
    """What the sender of a request may do; `indexes` and `namespaces` are None where they are not limited."""

    name: str
    role: Role
    indexes: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None

    def may_use(self, index: str) -> bool:
        """Whether an index may be touched at all."""
        return self.indexes is None or index in self.indexes

    def may_enter(self, namespace: str) -> bool:
        """Whether a namespace may be touched."""
        return self.namespaces is None or namespace in self.namespaces


EVERYTHING: Final = Grant("", Role.ADMIN)  # of servers without keys


@dataclass(frozen=True)
class StoredKey:
    """One line of the file of keys. `sha256` is that of the key; `id` names it in `revoke` and in the log."""

    id: str
    name: str
    role: str
    sha256: str
    created: str
    indexes: tuple[str, ...] | None = None
    namespaces: tuple[str, ...] | None = None

    @property
    def grant(self) -> Grant:
        """What the key allows."""
        return Grant(
            self.id,
            Role.named(self.role),
            None if self.indexes is None else frozenset(self.indexes),
            None if self.namespaces is None else frozenset(self.namespaces),
        )


class KeyFile:
    """A file of keys, read again as soon as it has changed.

    While it is missing or cannot be read nobody is let in, and the log says why.
    """

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if the file is there and is not one of keys."""
        self._path, self._stamp, self._lock = path, (0, 0, 0), threading.Lock()
        self._known: list[tuple[bytes, Grant]] = []
        read_keys(path)
        self._refresh()

    def grant_of(self, key: str) -> Grant | None:
        """What a key allows, or None for one that is not there. Every entry is compared, in constant time."""
        self._refresh()
        digest, found = _digest(key), None
        for known, grant in self._known:
            if hmac.compare_digest(digest, known):
                found = grant
        return found

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamp = (-1, 0, 0)
        if stamp == self._stamp:
            return
        with self._lock:
            try:
                self._known = [(bytes.fromhex(key.sha256), key.grant) for key in read_keys(self._path)]
                if stamp == (-1, 0, 0):
                    _LOG.error("the file of keys is not there: nobody is let in", extra={"event": "no keys"})
            except (InvalidInput, OSError) as error:
                self._known = []
                _LOG.error("nobody is let in: %s", error, extra={"event": "no keys"})
            self._stamp = stamp


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file; none where there is no file.

    Raises:
        InvalidInput: it is not a file of keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        parsed = json.loads(text)
        return [_stored(entry) for entry in parsed["keys"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not a file of keys: {error}") from error


def add_key(
    path: Path,
    role: str,
    *,
    name: str = "",
    indexes: Sequence[str] | None = None,
    namespaces: Sequence[str] | None = None,
) -> tuple[str, StoredKey]:
    """Make a key and write its hash to the file, which is made where it is missing, for its owner alone.

    Args:
        path: the file.
        role: "read", "write" or "admin".
        name: a note for people.
        indexes: the only indexes that it opens; None opens all.
        namespaces: the only namespaces that it opens; None opens all.

    Returns:
        The key, which is stored nowhere, and its entry.
    """
    entry_id = secrets.token_hex(4)
    key = f"mrl_{entry_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    made = Role.named(role)
    entry = StoredKey(
        entry_id,
        name,
        made.name.lower(),
        _digest(key).hex(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        None if indexes is None else tuple(indexes),
        None if namespaces is None else tuple(namespaces),
    )
    with _changing(path):
        _write(path, [*read_keys(path), entry])
    return key, entry


def revoke_key(path: Path, entry_id: str) -> StoredKey:
    """Take a key out of the file; servers that run refuse it from their next request on.

    Raises:
        InvalidInput: there is none of this id.
    """
    with _changing(path):
        keys = read_keys(path)
        found = next((key for key in keys if key.id == entry_id), None)
        if found is None:
            raise InvalidInput(f"id: {path} has no key {entry_id!r}")
        _write(path, [key for key in keys if key.id != entry_id])
    return found


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """While one process changes the file, others that would wait: the lock is on its folder."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _stored(entry: dict[str, Any]) -> StoredKey:
    key = StoredKey(**entry)
    if len(bytes.fromhex(key.sha256)) != 32:
        raise ValueError(f"key {key.id}: sha256 is not 32 bytes")
    _ = Role.named(key.role)
    lists = (key.indexes, key.namespaces)
    if any(each is not None and not isinstance(each, list) for each in lists):
        raise ValueError(f"key {key.id}: indexes and namespaces are lists or null")
    return replace(
        key,
        indexes=None if key.indexes is None else tuple(key.indexes),
        namespaces=None if key.namespaces is None else tuple(key.namespaces),
    )


def _write(path: Path, keys: list[StoredKey]) -> None:
    """Put the file in place whole, readable by its owner alone."""
    with whole_file(path, 0o600) as file:
        file.write(
            json.dumps({"version": _VERSION, "keys": [asdict(key) for key in keys]}, indent=1).encode()
        )
