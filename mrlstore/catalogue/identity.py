"""Whether the store at a path is still the one that was opened there.

A store may be deleted, moved or replaced while a process has it open, or another one may be copied over it,
file by file. The number of an inode does not show that: ext4 gives a removed file's number to the next new
file, and a file that is copied over keeps its number. LOCK shows it: nobody writes to it once it is made.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from mrlstore.errors import CorruptStore, StorePoisoned
from mrlstore.system.files import Files

LOCK: Final = "LOCK"
_EVERY_S: Final = 0.002


class Identity:
    """The identity of the store at a path, as of when this is made."""

    def __init__(self, files: Files, catalogue: Path, *, read_only: bool) -> None:
        """Raises CorruptStore if the catalogue is a symbolic link, which SQLite would follow.

        And if it has another name and may be written: SQLite finds the log by the name, so that two names of
        one database have two logs.
        """
        if files.is_strange(catalogue):
            raise CorruptStore(catalogue, "is not a regular file")
        if not read_only and files.names(catalogue) > 1:
            raise CorruptStore(
                catalogue,
                "has another name (a hard link), and both would write to it: delete the other, or copy this "
                "file and put the copy in its place",
            )
        self._files, self._catalogue, self._lock = files, catalogue, catalogue.with_name(LOCK)
        self._due = 0.0  # when readers look again
        self._inode, self._made = files.stamp(catalogue)[:2], files.stamp(self._lock)

    def is_replaced(self) -> bool:
        """Whether another store is there now, or none."""
        return (
            self._files.stamp(self._lock) != self._made
            or self._files.stamp(self._catalogue)[:2] != self._inode
        )

    def check(self) -> None:
        """Raise StorePoisoned if another store is there now, or none. About 3 us."""
        if self.is_replaced():
            raise replaced(self._catalogue)

    def check_not_written_over(self) -> None:
        """Raise StorePoisoned if another store was copied over this one; looked for every 2 ms at most.

        Readers call it. A store that was moved or deleted as a whole they may go on reading.
        """
        now = time.monotonic()
        if now >= self._due:
            found = self._files.stamp(self._lock)
            if found != self._made and found[:2] == self._made[:2]:
                raise replaced(self._catalogue)
            self._due = now + _EVERY_S


def replaced(catalogue: Path) -> StorePoisoned:
    """The error that says so."""
    return StorePoisoned(
        f"{catalogue.parent}: the store was deleted, moved or replaced while it was open; open the path again"
    )
