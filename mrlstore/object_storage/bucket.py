"""Buckets of S3, GCS and Azure, through obstore, which is imported nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from mrlstore.errors import (
    InvalidInput,
    MrlStoreError,
    ObjectNotFound,
    ObjectStorageDenied,
    ObjectStorageError,
)
from mrlstore.object_storage.interface import (
    WHOLE_BYTES,
    ObjectStorage,
    StoredObject,
    checked_name,
    not_found,
)
from mrlstore.system import forks

try:
    import obstore
    import obstore.exceptions
    import obstore.store
except ImportError as error:
    raise ImportError("buckets need obstore: pip install 'mrlstore[object-storage]'") from error

_APART: Final = ("client_options", "retry_config", "credential_provider")  # beside the configuration
_MULTIPART: Final = 16 * 1024 * 1024  # from here on an object is sent in parts of this size
_AT_ONCE: Final = 4  # parts that are on their way at the same time: 64 MB of memory
_REASON: Final = 600  # characters of a message of obstore that are passed on
_CREATE_TRIES: Final = 5  # S3 may answer 409 to two creates at once though neither has made the object


class BucketStorage(ObjectStorage):
    """The objects below a prefix of a bucket. obstore repeats failed requests for up to three minutes."""

    def __init__(self, url: str, options: dict[str, Any], bucket: Any = None) -> None:
        """Use the prefix at `url`, `options` as in `open_storage`; or `bucket`, a store of obstore."""
        self.url = url
        self._survived = forks.survived()
        apart = {name: options.pop(name) for name in _APART if name in options}
        try:
            self._bucket: Any = bucket or obstore.store.from_url(url, config=options or None, **apart)
        except (obstore.exceptions.BaseError, TypeError, ValueError) as error:
            raise InvalidInput(f"{url}: {_reason(error)}") from error

    def create(self, name: str, data: bytes) -> bool:  # noqa: D102
        for _ in range(_CREATE_TRIES):
            try:
                with self._told(f"create {name}", name, writing=True):
                    obstore.put(self._bucket, checked_name(name), data, mode="create", use_multipart=False)
                return True
            except _NameTaken:
                holds = self._holds(name, data)
            except ObjectStorageDenied:
                raise
            except ObjectStorageError:
                holds = self._holds(name, data)  # it may have been made before the answer was lost
                if holds is None:
                    raise
            if holds is not None:
                return holds
        raise ObjectStorageError(
            f"{self.url}: {name} could not be created: it is said to exist, and cannot be read. Several "
            "processes may be creating it right now; try again"
        )

    def put(self, name: str, data: bytes) -> None:  # noqa: D102
        with self._told(f"write {name}", name, writing=True):
            obstore.put(self._bucket, checked_name(name), data, use_multipart=False)

    def put_pieces(self, name: str, pieces: Iterable[bytes | memoryview], size: int) -> None:  # noqa: D102
        if size <= _MULTIPART:
            data = b"".join(pieces)
            _check_size(self.url, name, len(data), size)
            self.put(name, data)
            return
        with self._told(f"write {name}", name, writing=True):
            obstore.put(
                self._bucket,
                checked_name(name),
                _counted(self.url, name, pieces, size),
                use_multipart=True,
                chunk_size=_MULTIPART,
                max_concurrency=_AT_ONCE,
            )

    def get(self, name: str, limit: int = WHOLE_BYTES) -> bytes:  # noqa: D102
        with self._told(f"read {name}", name):
            answer = obstore.get(self._bucket, checked_name(name))
            size = int(answer.meta["size"])
            if size > limit:
                raise ObjectStorageError(f"{self.url}: {name} is longer than {limit} bytes")
            data = bytes(answer.bytes())
        _check_size(self.url, name, len(data), size)
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:  # noqa: D102
        if not length:
            return b""
        with self._told(f"read {name}", name):
            data = bytes(obstore.get_range(self._bucket, checked_name(name), start=start, length=length))
        _check_size(self.url, name, len(data), length)
        return data

    def size(self, name: str) -> int | None:  # noqa: D102
        try:
            with self._told(f"look at {name}", name):
                return int(obstore.head(self._bucket, checked_name(name))["size"])
        except ObjectNotFound:
            return None

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:  # noqa: D102
        found: list[StoredObject] = []
        with self._told("list its objects", prefix, writing=True):
            pages = obstore.list(
                self._bucket, checked_name(prefix) if prefix else None, offset=after or None, chunk_size=1000
            )
            for page in pages:
                found += [StoredObject(each["path"], int(each["size"])) for each in page]
        return sorted(each for each in found if each.name > after)

    def delete(self, names: Iterable[str]) -> None:  # noqa: D102
        for name in names:
            try:
                with self._told(f"remove {name}", name):
                    obstore.delete(self._bucket, checked_name(name))
            except ObjectNotFound:
                pass

    def _holds(self, name: str, data: bytes) -> bool | None:
        """Whether an object has exactly these bytes; None if there is none."""
        size = self.size(name)
        if size != len(data):
            return None if size is None else False
        try:
            return self.get(name) == data
        except ObjectNotFound:
            return None

    @contextmanager
    def _told(self, doing: str, name: str, *, writing: bool = False) -> Iterator[None]:
        """Turn what obstore raises into this library's errors."""
        if self._survived != forks.survived():
            raise ObjectStorageError(
                f"{self.url} was opened before this process was forked, and obstore's threads are not in the "
                "child: start the process anew (multiprocessing: spawn) and open it there"
            )
        try:
            yield
        except MrlStoreError:
            raise
        except obstore.exceptions.AlreadyExistsError as error:
            raise _NameTaken(name) from error
        except FileNotFoundError as error:
            if writing:
                raise ObjectStorageError(
                    f"{self.url}: could not {doing}: there is no such bucket, or it is in another region"
                ) from error
            raise not_found(self.url, name) from error
        except (
            obstore.exceptions.PermissionDeniedError,
            obstore.exceptions.UnauthenticatedError,
        ) as error:
            raise ObjectStorageDenied(
                f"{self.url}: may not {doing}: {_reason(error)}; check the credentials and what they may do"
            ) from error
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise ObjectStorageError(f"{self.url}: could not {doing}: {_reason(error)}") from error


class _NameTaken(Exception):
    """An object of this name exists, as the bucket says."""


def _counted(
    url: str, name: str, pieces: Iterable[bytes | memoryview], size: int
) -> Iterator[bytes | memoryview]:
    """The pieces; raises before the last one is through when there are too few or too many bytes."""
    sent = 0
    for piece in pieces:
        sent += len(piece)
        if sent > size:
            break
        yield piece
    _check_size(url, name, sent, size)


def _check_size(url: str, name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ObjectStorageError(f"{url}: {name} has {found} bytes, expected {expected}")


def _reason(error: Exception) -> str:
    """The first paragraph of obstore's message, without what a URL in it may carry behind its `?`."""
    text = " ".join(str(error).partition("\n\nDebug source")[0].split()) or type(error).__name__
    return re.sub(r"(https?://[^\s?]*)\?[^\s,)]*", r"\1?...", text)[:_REASON]
