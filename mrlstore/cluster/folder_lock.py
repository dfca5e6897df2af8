"""The lock on the folder of a copy: one process keeps the copy, and others of the machine may read it.

A reader that keeps a copy gives it to a process that is to write; a writer gives it to nobody.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from mrlstore.errors import StoreLocked
from mrlstore.system.files import Files, Lock, write_file

GIVEN_S: Final = 15.0  # within which a reader gives the folder away
_WANTED: Final = "wanted"  # locked by a process that waits for the folder
_WRITER: Final = "writer"  # says which process writes, while one does


class FolderLock:
    """Held by the process that keeps the copy in a folder."""

    def __init__(self, files: Files, folder: Path, lock: Lock) -> None:
        self._files, self._folder, self._lock = files, folder, lock

    def is_wanted(self) -> bool:
        """Whether a process waits for the folder that is to write."""
        try:
            waiting = self._files.lock(self._folder / _WANTED)
        except FileNotFoundError:  # somebody has removed the folder
            return False
        if waiting is not None:
            waiting.release()
        return waiting is None

    def release(self) -> None:
        """Let others keep the copy."""
        self._lock.release()


def for_reading(files: Files, folder: Path) -> FolderLock | None:
    """The lock; None where another process has it, or waits for it in order to write."""
    wanted = _waiting(files, folder)
    if wanted is None:
        return None
    with wanted:
        lock = files.lock(folder)
        if lock is None:
            return None
        _forget_writer(files, folder)
        return FolderLock(files, folder, lock)


def for_writing(files: Files, folder: Path) -> FolderLock:
    """The lock, which readers give away; StoreLocked, which says who writes, where none does."""
    lock = files.lock(folder)
    if lock is None and _writer(files, folder) is None:
        wanted = _waiting(files, folder, GIVEN_S)
        if wanted is not None:
            with wanted:
                lock = files.lock(folder, wait_s=GIVEN_S)
    if lock is None:
        who = _writer(files, folder) or "another process"
        raise StoreLocked(
            f'{folder}: {who} uses this copy of the shard; write through it, or read here with mode="r"'
        )
    _forget_writer(files, folder)
    note = {"pid": os.getpid(), "host": socket.gethostname()}
    write_file(files, folder / _WRITER, [json.dumps(note).encode()])
    return FolderLock(files, folder, lock)


def _waiting(files: Files, folder: Path, wait_s: float = 0.0) -> Lock | None:
    """The lock of a process that waits for the folder; None where another one does."""
    with suppress(FileExistsError):
        write_file(files, folder / _WANTED, [])
    return files.lock(folder / _WANTED, wait_s=wait_s)


def _writer(files: Files, folder: Path) -> str | None:
    try:
        note = json.loads(files.read(folder / _WRITER, 4096))
        return f"process {note['pid']} on {note['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget_writer(files: Files, folder: Path) -> None:
    with suppress(FileNotFoundError):
        files.unlink(folder / _WRITER)
