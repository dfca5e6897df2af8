"""A copy that another process of this machine keeps in the same folder, opened to be read."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from mrlstore.cluster.shard_store import ShardStore
from mrlstore.errors import CorruptStore, ShardUnavailable, StoreNotFound
from mrlstore.system.files import Files

COPY: Final = re.compile(r"[0-9]{16}-[0-9a-f]{8}")
_MADE_S: Final = 30.0  # within which a process that has just taken the folder has restored its copy
_PAUSE_S: Final = 0.02


def newer_than(files: Files, folder: Path, present: ShardStore | None) -> ShardStore | None:
    """The copy that the other process uses now; None where the present one is it, or is further on.

    Raises:
        ShardUnavailable: there is none, and none has been made in time.
    """
    deadline = time.monotonic() + _MADE_S
    while True:
        found = sorted((path for path in folder.iterdir() if COPY.fullmatch(path.name)), reverse=True)
        for path in found:
            if present is not None and path == present.path:
                return None
            try:
                store = ShardStore(path, files, mode="r", embedder=None, auto_maintain=False, threads=1)
            except (StoreNotFound, CorruptStore, FileNotFoundError):
                continue  # removed since, or not whole
            if present is not None and store.mark.place < present.mark.place:
                store.close()  # it is being made, and catches up
                return None
            return store
        if present is not None:
            return None
        if time.monotonic() > deadline:
            raise ShardUnavailable(f"{folder}: another process uses it, and has made no copy")
        time.sleep(_PAUSE_S)
