"""Garbage collection: removes part folders that the catalogue does not name. The caller holds LOCK.

Whoever writes a folder holds a lock on it until the commit that names it. So a folder that nothing names and
whose lock is free will never be named.
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


def collect(session: Session, may_remove: Callable[[str], bool] = lambda name: True) -> int:
    """Remove part folders that nothing names and nobody is writing, if `may_remove`; gives their number.

    If a named folder is missing nothing is removed, and CorruptStore is raised: this catalogue may not be the
    one that belongs to these parts.
    """
    found = session.files.list_dir(session.parts)
    removed = 0
    for name in found:
        if not is_name(name) or name in _named(session) or not may_remove(name):
            continue
        lock = None
        with suppress(FileNotFoundError, CorruptStore):  # a link was not made by us and stays
            lock = session.files.lock(session.parts / name)
        if lock is None:
            continue
        with lock:
            if name not in _named(session):  # read again: its writer may have committed before releasing it
                removed += _remove(session, name)
    return removed


def _remove(session: Session, name: str) -> bool:
    """Remove a part's folder; a folder with folders in it was not made by us and stays."""
    try:
        remove_tree(session.files, session.parts / name)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EPERM):
            raise
        return False
    return True


def _named(session: Session) -> set[str]:
    session.catalogue.connections.check_not_replaced()  # its parts would be taken for unnamed
    with session.catalogue.read() as connection:
        named = {part.name for row in segments.load(connection) for part in row.parts}
    missing = named - set(session.files.list_dir(session.parts))
    if missing:
        raise CorruptStore(session.parts / min(missing), "is missing, but the catalogue names it")
    return named


class GracePeriod:
    """Keeps folders for some time after they were first seen unnamed: a reader may be about to open them."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def is_over(self, name: str) -> bool:
        """Whether this folder was first asked about long enough ago."""
        now = time.monotonic()
        return now - self._since.setdefault(name, now) >= self._seconds
