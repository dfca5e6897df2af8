"""Every error and warning that mrlstore raises on purpose.

All derive from `MrlStoreError`; where Python has a fitting built-in class the error derives from it as
well, so that callers who know nothing of mrlstore still catch it.
"""

from __future__ import annotations

from pathlib import Path


class MrlStoreError(Exception):
    """The base of all errors of this library."""


class InvalidInput(MrlStoreError, ValueError):
    """An argument was refused; the message says which, why, and what is allowed. Nothing has changed."""


class IdExists(InvalidInput):
    """`on_conflict="error"` was asked for, and ids of the batch exist already. Nothing has changed."""


class LimitExceeded(InvalidInput):
    """An argument goes beyond a stated limit (`mrlstore.types.LIMITS`). Nothing has changed."""


class StoreNotFound(MrlStoreError, FileNotFoundError):
    """There is no store at this path, and the mode does not allow creating one."""


class StoreExists(MrlStoreError, FileExistsError):
    """Mode "x" was asked for, or a backup, and something is there already."""


class StoreLocked(MrlStoreError, TimeoutError):
    """Another process holds a lock for longer than the allowed wait."""


class StoreClosed(MrlStoreError):
    """The store object was closed; open the path again."""


class StorePoisoned(MrlStoreError):
    """The store cannot be used any more through this object, or in this process.

    A write to disk failed in a way that leaves its fate unknown (a failed fsync, say), or the store was
    deleted or replaced: this object refuses all further work, and opening the path again reads what really is
    on disk. Or this process was forked while its parent used SQLite, whose locks it has inherited: start the
    process anew.
    """


class CorruptStore(MrlStoreError):
    """Something on disk contradicts its checksum, its format or the catalogue.

    `path` is the file or folder, `reason` says what was found there.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[CorruptStore], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class FormatTooNew(MrlStoreError):
    """The store was written by a newer mrlstore; upgrade the library to open it."""


class StorageError(MrlStoreError, OSError):
    """The system refused to read or write (`errno` says why). What was acknowledged before is safe."""


class StorageFull(StorageError):
    """The disk, a quota or a file-size limit is full. What was acknowledged before is safe."""


class EmbedError(MrlStoreError):
    """An embedder could not embed an item; subclasses and attributes say which succeeded."""


class OriginError(MrlStoreError):
    """A database that rows are moved in from failed. What came before is stored; a migration can go on."""


class ServerError(MrlStoreError):
    """A server could not be reached, or its answer is none that an embedded store has an error for.

    `status` is that of HTTP, 0 where there was no answer: a write may then have happened or not.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message, self.status = message, status

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, int]]:
        return type(self), (self.message, self.status)


class AccessDenied(ServerError, PermissionError):
    """The server does not know the key (401), or the key may not do this (403). Nothing has changed."""


class ObjectStorageError(MrlStoreError):
    """Object storage could not be reached, refused, or answered what cannot be right.

    What was acknowledged before is safe. A write that failed may have happened or not; repeating it is safe.
    """


class ObjectNotFound(ObjectStorageError, FileNotFoundError):
    """An object that ought to be there is missing from object storage."""


class ObjectStorageDenied(ObjectStorageError, PermissionError):
    """Object storage does not accept the credentials, or they do not allow this. Nothing has changed."""


class WriterReplaced(StoreLocked):
    """A later writer has begun on a shard of a cluster; this one writes nothing any more.

    What was not acknowledged may be in or not: repeat it through the process that writes now.
    """


class ShardUnavailable(MrlStoreError):
    """A shard of a cluster could not be asked, or its writer has stopped. A write may be in or not."""


class StaleRead(MrlStoreError, TimeoutError):
    """A copy of a shard did not come as far as the token of `after=` in the time allowed."""


class OperationForgotten(MrlStoreError):
    """A write was repeated so late that its result is no longer kept; it was not done a second time."""


class PartialWrite(MrlStoreError):
    """A write over several shards of a cluster is in some of them and not, or perhaps not, in others.

    `written` has the ids that are in, `unknown` those of shards that failed; both are empty for writes that
    were not given ids. `errors` tells by the number of the shard why. Repeating the same call is safe.
    """

    def __init__(
        self,
        message: str,
        written: list[str],
        unknown: list[str],
        errors: dict[int, MrlStoreError],
    ) -> None:
        super().__init__(message)
        self.message, self.written, self.unknown, self.errors = message, written, unknown, errors

    def __reduce__(
        self,
    ) -> tuple[type[PartialWrite], tuple[str, list[str], list[str], dict[int, MrlStoreError]]]:
        return type(self), (self.message, self.written, self.unknown, self.errors)


class DamagedPartWarning(UserWarning):
    """A damaged part is being worked around: answers are right but slower, until it is repaired."""
