"""`open_storage`: from a URL or a folder to object storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mrlstore.errors import InvalidInput
from mrlstore.object_storage.folder import FolderStorage
from mrlstore.object_storage.interface import ObjectStorage
from mrlstore.system.files import Files
from mrlstore.system.late import importing

BUCKETS: Final = ("s3", "gs", "az")


def open_storage(
    url: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
    *,
    files: Files | None = None,
) -> ObjectStorage:
    """Open object storage. No request is made; `ObjectStorage.probe` makes the first.

    Args:
        url: "s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix", a path or a "file://" URL
            of a folder. Buckets need mrlstore[object-storage].
        options: for buckets, what obstore takes: keys of its configuration, such as `region`, `endpoint`,
            `access_key_id` or `server_side_encryption`, and `client_options`, `retry_config`,
            `credential_provider`. What is not given comes from the environment, as with each cloud's own
            tools. Nothing of it is stored.
        files: for folders, the file seam; tests pass one of their own.

    Raises:
        InvalidInput: the URL or an option is wrong.
    """
    text = _checked(url)
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "file":
        if options:
            raise InvalidInput(f"options: a folder takes none, got {', '.join(sorted(options))}")
        return FolderStorage(Path(_path_of(text) if separator else text), files)
    if scheme not in BUCKETS:
        raise InvalidInput(f"url: expected a folder, s3://, gs:// or az://, got {scheme}://")
    if not urlsplit(text).netloc:
        raise InvalidInput(f"url: {text} names no bucket")
    if "@" in urlsplit(text).netloc or "?" in text:
        raise InvalidInput("url: credentials and options do not belong in the URL; pass them as options")
    with importing:
        from mrlstore.object_storage.bucket import BucketStorage
    return BucketStorage(text.rstrip("/"), dict(options or {}))


def _checked(url: object) -> str:
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise InvalidInput(f"url: expected a path or s3://bucket/prefix, got {url!r:.200}")
    return text


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidInput(f"url: expected file:///an/absolute/path, got {url!r:.200}")
    return unquote(parts.path)
