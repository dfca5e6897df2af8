"""Garbage: part folders that nothing names. Whoever removes them holds LOCK.

A folder's writer holds a lock on it until its commit, so an unnamed folder whose lock is free is dead.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress

from mrlstore.catalogue import segments
from mrlstore.catalogue.part_ref import is_name
from mrlstore.errors import CorruptStore
from mrlstore.storage.session import Session
from mrlstore.system.files import remove_tree


def collect(session: Session, ready: Callable[[str], bool]) -> int:
    """Remove part folders that nothing names, nobody is writing, and that are `ready`; LOCK is held.

    Gives how many were removed. If any named folder is missing nothing is removed: CorruptStore.
    """
    found = session.files.list_dir(session.parts)
    removed = 0
    for name in found:
        if not is_name(name) or name in _named(session) or not ready(name):
            continue
        lock = None
        with suppress(FileNotFoundError):
            lock = session.files.lock(session.parts / name)
        if lock is None:
            continue
        with lock:
            if name not in _named(session):  # afresh: its writer may have committed before it let go
                removed += _remove(session, name)
    return removed


def _remove(session: Session, name: str) -> bool:
    """Remove a part's folder; one that is a link, or holds folders, was not made by us and is left alone."""
    try:
        remove_tree(session.files, session.parts / name)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EPERM):
            raise
        return False
    return True


def _named(session: Session) -> set[str]:
    session.catalogue.connections.check_place()  # or this would remove another store's parts
    with session.catalogue.read() as connection:
        named = {part.name for row in segments.load(connection) for part in row.parts}
    missing = named - set(session.files.list_dir(session.parts))
    if missing:
        raise CorruptStore(session.parts / min(missing), "is missing, but the catalogue names it")
    return named


class Waiting:
    """Which unnamed folders have been so for long enough that no reader can still be about to open them."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def ready(self, name: str) -> bool:
        """Whether this folder was first asked about long enough ago."""
        now = time.monotonic()
        return now - self._since.setdefault(name, now) >= self._seconds
