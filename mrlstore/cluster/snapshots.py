"""ShardSnapshots of a shard in object storage."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mrlstore.object_storage import ObjectStorage


class SnapshotRef(NamedTuple):
    """A complete snapshot: the epoch of the writer that has shipped it, and its place in the log."""

    epoch: int
    place: int


class ShardSnapshots:
    """The snapshots of one shard."""

    def __init__(self, storage: ObjectStorage, prefix: str) -> None:
        """`prefix`: the folder of the shard."""
        self._storage, self._prefix = storage, prefix

    def newest(self) -> SnapshotRef | None:
        """The newest complete snapshot; None if there is none."""
        return None

    def restore(self, snapshot: SnapshotRef, target: Path) -> None:
        """Make a store at `target` of a snapshot."""
        raise NotImplementedError
