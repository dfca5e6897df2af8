"""Epochs: objects that are created without gaps and never removed, one by each process that starts to ship.

Whoever has created the newest one may go on; whoever finds a later one than its own stops for good. So two
processes that ship to the same place never take turns, whatever one of them has slept through.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from typing import Final

from mrlstore.errors import ObjectNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.manifest import below

_FOLDER: Final = "epochs"


def claim_epoch(storage: ObjectStorage, prefix: str = "") -> int:
    """Create the next epoch, which is the caller's alone."""
    note = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    data = json.dumps(note).encode()
    epoch = newest_epoch(storage, prefix) + 1
    while not storage.create(_name(prefix, epoch), data):
        epoch += 1
    return epoch


def newest_epoch(storage: ObjectStorage, prefix: str = "") -> int:
    """The newest epoch; 0 if there is none."""
    folder = below(prefix, _FOLDER)
    numbers = [each.name[len(folder) + 1 :] for each in storage.list_objects(folder)]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def is_newest(storage: ObjectStorage, epoch: int, prefix: str = "") -> bool:
    """Whether no epoch later than this one has begun: one HEAD request."""
    return storage.size(_name(prefix, epoch + 1)) is None


def whose(storage: ObjectStorage, epoch: int, prefix: str = "") -> str:
    """Who has begun an epoch, in words."""
    try:
        note = json.loads(storage.get(_name(prefix, epoch), 4096))
        return f"process {note['pid']} on {note['host']}"
    except (ObjectNotFound, ValueError, KeyError, TypeError):
        return "another process"


def _name(prefix: str, epoch: int) -> str:
    return f"{below(prefix, _FOLDER)}/{epoch:010}"
