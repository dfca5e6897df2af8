"""Epochs: an object for each writer that has ever started, numbered without gaps and never removed."""

from __future__ import annotations

import json
import os
import socket
from typing import Final

from mrlstore.errors import MrlStoreError, ObjectStorageError
from mrlstore.object_storage import ObjectStorage

_DIGITS: Final = 12


class Epochs:
    """The epochs of one log."""

    def __init__(self, storage: ObjectStorage, prefix: str) -> None:
        """`prefix`: the folder of the epochs, without its last slash."""
        self._storage, self._prefix = storage, prefix

    def begin(self, writer: str) -> int:
        """Begin the next epoch for a writer, which ends that of any other; gives its number."""
        number = self.newest()
        while True:
            number += 1
            who = {"epoch": number, "writer": writer, "host": socket.gethostname(), "process": os.getpid()}
            if self._storage.create(self._name(number), json.dumps(who).encode()):
                return number

    def newest(self) -> int:
        """The number of the newest epoch, 0 if there is none: one LIST."""
        names = [one.name.rpartition("/")[2] for one in self._storage.list_objects(self._prefix)]
        if not all(len(name) == _DIGITS and name.isascii() and name.isdigit() for name in names):
            raise ObjectStorageError(f"{self._storage.url}: {self._prefix} holds something else than epochs")
        return max(map(int, names), default=0)

    def later(self, epoch: int) -> bool:
        """Whether a later epoch has begun: one HEAD."""
        return self._storage.size(self._name(epoch + 1)) is not None

    def beginner(self, epoch: int) -> str:
        """Who has begun an epoch, for messages."""
        try:
            who = json.loads(self._storage.get(self._name(epoch), 4096))
            return f"process {who['process']} on {who['host']}"
        except (MrlStoreError, ValueError, KeyError, TypeError):
            return "another process"

    def _name(self, number: int) -> str:
        return f"{self._prefix}/{number:0{_DIGITS}}"
