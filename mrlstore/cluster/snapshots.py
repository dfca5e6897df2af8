"""The snapshots of a shard in object storage."""

from __future__ import annotations

from pathlib import Path

from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.manifest import SnapshotRef, newest_complete
from mrlstore.shipping.snapshot_reader import restore_snapshot

__all__ = ["ShardSnapshots", "SnapshotRef"]


class ShardSnapshots:
    """The snapshots of one shard."""

    def __init__(self, storage: ObjectStorage, prefix: str) -> None:
        """`prefix`: the folder of the shard."""
        self._storage, self._prefix = storage, prefix

    def newest(self) -> SnapshotRef | None:
        """The newest complete snapshot; None if there is none."""
        manifest = newest_complete(self._storage, self._prefix)
        return None if manifest is None else manifest.ref

    def restore(self, snapshot: SnapshotRef, target: Path) -> None:
        """Make a store at `target` of a snapshot."""
        restore_snapshot(self._storage, target, snapshot, prefix=self._prefix)
