"""What runs the shards of a cluster: it finds their writers and copies, and asks them. It keeps nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mrlstore.cluster.placement import ClusterView
from mrlstore.cluster.write_requests import OperationId, ShardWritten, WriteRequest
from mrlstore.errors import MrlStoreError


class ShardQuestion(NamedTuple):
    """What a copy of a shard is asked: a function of `shard_reads`, and its arguments beside the store."""

    name: str
    arguments: Mapping[str, Any]


class ShardAnswer(NamedTuple):
    """What a copy of a shard answered, and the epoch and place of the log that it had reached before."""

    value: Any
    epoch: int
    place: int


class ShardWrite(NamedTuple):
    """A write for one shard."""

    shard: int
    operation: OperationId
    request: WriteRequest


class Engine(ABC):
    """Runs writers and copies of shards. Safe to share between threads; no call waits without a limit."""

    @abstractmethod
    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:
        """Do writes of different shards at the same time; what came of each, in their order.

        A ShardUnavailable says that a write may be in or not: it can be repeated under the same operation.
        """

    @abstractmethod
    def ask(
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        """Ask a copy of each shard, at the same time; the answers, or errors, in their order.

        `floors`: the place of the log that a copy must have reached, for shards where that matters; StaleRead
        where it does not reach it in time.
        """

    @abstractmethod
    def snapshot(self) -> None:
        """Ship a snapshot of each shard, and remove from object storage what these make needless."""

    @property
    def view(self) -> ClusterView | None:
        """The hosts on nodes; None where all runs in this process."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End what it runs."""
