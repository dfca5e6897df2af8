"""Files beside stores that are replaced as a whole: facts, keys, models."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mrlstore.system.files import full_sync


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write, which takes its place at `path` when the block ends: whole, and synced like its name.

    If the block raises, what was at `path` stays and nothing is left of the new file. mode: its permissions,
    before the umask.
    """
    hidden = path.with_name(f".{secrets.token_hex(8)}.partial")  # of any name's length
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            full_sync(file.fileno())
        os.replace(hidden, path)
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
    sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Return when a file, or the entries of a folder, are on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        full_sync(descriptor)
    finally:
        os.close(descriptor)
