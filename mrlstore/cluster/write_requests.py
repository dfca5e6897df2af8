"""What a writer of a shard is asked to write: checked, and not yet resolved against the rows of the shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mrlstore.search.params import Selection
from mrlstore.types import Conflict
from mrlstore.writing.batch import Batch, RowChange


class OperationId(NamedTuple):
    """Whose write it is and which of theirs; the numbers of a client rise, and it has one at a time.

    `since` is the place of the log up to which the client knows that this write was not done. `repeated`: it
    was sent before, and its fate is unknown.
    """

    client: str
    number: int
    since: int = 0
    repeated: bool = False


@dataclass(frozen=True)
class Upsert:
    """`Store.upsert` of rows that all belong to the shard."""

    batch: Batch
    on_conflict: Conflict


@dataclass(frozen=True)
class Update:
    """`Store.update` of rows of the shard."""

    namespace: str
    selection: Selection
    changes: Mapping[str, RowChange] | RowChange


@dataclass(frozen=True)
class Delete:
    """`Store.delete` of rows of the shard."""

    namespace: str
    selection: Selection


@dataclass(frozen=True)
class Clear:
    """`Store.clear` of what the shard has of a namespace."""

    namespace: str


WriteRequest = Upsert | Update | Delete | Clear


class ShardWritten(NamedTuple):
    """What a shard acknowledged: how many rows, and the epoch and place of the log that has them.

    `generation` is that of the writer's copy, 0 where the write was done before.
    """

    rows: int
    epoch: int
    place: int
    generation: int = 0
