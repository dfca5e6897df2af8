"""Whether a folder is the user's own: what is read from it may be run, as compiled code or a pickle is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_GROUP_OR_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_UNMAPPED: Final = 65534  # owner of files whose real owner is not a user of this container


def check_private(folder: Path) -> None:
    """Raise PermissionError unless nobody but this user, and root, can have put anything into a folder.

    The folder and its files are the user's and no symbolic links, and neither it nor a folder above it may be
    written by others. A folder above is let pass if the user's own group may write it, or if it is sticky.
    """
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is not a folder")
    if found.st_uid != os.getuid() or found.st_mode & _GROUP_OR_OTHERS:
        raise PermissionError(f"{folder} belongs to another user, or others may write to it")
    with os.scandir(folder) as files:
        for file in files:
            status = file.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                raise PermissionError(f"{file.path} is a link, or belongs to another user")
    for above in Path(os.path.realpath(folder)).parents:
        status = os.stat(above)
        replaceable = status.st_uid not in (0, os.getuid(), _UNMAPPED) or (
            not status.st_mode & stat.S_ISVTX
            and (
                status.st_mode & stat.S_IWOTH
                or (status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getgid()))
            )
        )
        if replaceable:
            raise PermissionError(f"{above} belongs to another user, or others may write to it")
