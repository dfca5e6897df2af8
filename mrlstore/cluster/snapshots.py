"""The snapshots of a shard in object storage: which is the newest, and removing what none needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import LogObjects
from mrlstore.shipping.collection import collect
from mrlstore.shipping.manifest import SnapshotManifest, newest_complete
from mrlstore.shipping.snapshot_reader import restore_snapshot
from mrlstore.shipping.snapshot_writer import SnapshotWriter

KEPT = 2  # of the newest snapshots: a reader of the older one and of the log behind it is not disturbed


class ShardSnapshots:
    """The snapshots of one shard."""

    def __init__(self, storage: ObjectStorage, prefix: str) -> None:
        """`prefix`: the folder of the shard."""
        self._storage, self._prefix = storage, prefix

    def newest(self) -> SnapshotManifest | None:
        """The newest complete snapshot; None if there is none."""
        return newest_complete(self._storage, self._prefix)

    def restore(self, target: Path, like: Path | None = None) -> SnapshotManifest:
        """Make `target` the store of the newest snapshot; which one that was.

        Parts that the store `like` has are linked.
        """
        return restore_snapshot(self._storage, target, prefix=self._prefix, like=like)

    def writer(self, epoch: int) -> SnapshotWriter:
        """What ships snapshots under an epoch that is the newest."""
        return SnapshotWriter(self._storage, epoch, self.newest(), self._prefix)

    def collect(self, log: LogObjects, shipped: SnapshotManifest, is_newest_epoch: Callable[[], bool]) -> int:
        """Remove what the newest two snapshots do not need, the log up to the older one last.

        Nothing is removed unless `shipped`, the last one of the caller, is the newest, and its epoch too: one
        that is still on its way could rely on what is removed. Gives how many objects were removed.
        """
        done = collect(
            self._storage,
            shipped.epoch,
            is_newest_epoch,
            newest=shipped.ref,
            keep=KEPT,
            prefix=self._prefix,
        )
        if len(done.kept) < KEPT:
            return done.removed
        names = log.removable(done.kept[-1].place)
        self._storage.delete(names)
        return done.removed + len(names)
