"""`OperationLanes`: names for the writes of a client, by which each counts once, however often it is sent."""

from __future__ import annotations

import itertools
import threading
import uuid

from mrlstore.cluster.write_requests import OperationId


class OperationLanes:
    """Names of clients for the operations that are under way: each lane has one at a time in a shard."""

    def __init__(self) -> None:
        self._name, self._numbers = uuid.uuid4().hex, itertools.count()
        self._free: dict[int, list[tuple[str, int]]] = {}
        self._guard = threading.Lock()

    def take(self, shard: int) -> OperationId:
        """An operation that nobody has used."""
        with self._guard:
            free = self._free.setdefault(shard, [])
            client, number = free.pop() if free else (f"{self._name}-{next(self._numbers)}", 0)
        return OperationId(client, number + 1)

    def give_back(self, shard: int, operation: OperationId) -> None:
        """Let another write use the lane; not where the fate of this one is unknown."""
        with self._guard:
            self._free[shard].append((operation.client, operation.number))
