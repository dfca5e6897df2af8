"""`log.json` in a store's folder: says that a log in object storage decides what the store holds.

Whoever writes to such a store has to put each write into the log first, so it is never written to without.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from mrlstore.errors import CorruptStore, FormatTooNew
from mrlstore.system.files import Files, write_file

_NAME: Final = "log.json"
_FORMAT: Final = 1
_LIMIT: Final = 65_536


class LogPlace(NamedTuple):
    """Where the log of a store lies, and the uuid of its home, which tells it from others."""

    url: str
    home: str


def read(files: Files, store: Path) -> LogPlace | None:
    """Where the log of a store lies; None for a store without one."""
    path = store / _NAME
    try:
        data = files.read(path, _LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = json.loads(data)
        version, place = found["format"], LogPlace(found["url"], found["home"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptStore(path, f"does not say where the log lies ({error!r})") from error
    if version != _FORMAT:
        raise FormatTooNew(f"{path}: format {version}, this mrlstore reads {_FORMAT}; upgrade mrlstore")
    return place


def write(files: Files, store: Path, place: LogPlace) -> None:
    """Note where the log lies, in a store that has no such note; synced when this returns."""
    note = {"format": _FORMAT, **place._asdict()}
    write_file(files, store / _NAME, [json.dumps(note).encode()])
    files.sync_dir(store)
