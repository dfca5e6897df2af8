"""`status`: what object storage has of a cluster, without a copy of its shards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mrlstore.cluster.home import Durability, Home, read_home
from mrlstore.cluster.snapshots import ShardSnapshots
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.shared_log import LogObjects
from mrlstore.shipping import epochs


@dataclass(frozen=True)
class SnapshotStatus:
    """The newest complete snapshot of a shard."""

    epoch: int  # of the writer that has shipped it
    place: int  # of the log, up to which it has all writes
    rows: int
    bytes: int  # of all its objects
    taken: str  # when, as ISO 8601 in UTC, by the clock of the machine that has shipped it


@dataclass(frozen=True)
class ShardStatus:
    """One shard in object storage."""

    shard: int
    epoch: int  # the newest; 0 before the first writer
    writer: str  # the process that has begun it; "" before the first writer
    place: int  # of the newest write; 0 before the first
    snapshot: SnapshotStatus | None
    entries_behind: int  # objects of the log that a copy applies which starts from the snapshot
    bytes_behind: int  # of these; of an entry over 64 MB only what refers to it


@dataclass(frozen=True)
class HomeStatus:
    """A cluster in object storage; each shard was looked at by itself."""

    home: str  # where it is, without credentials
    durability: Durability
    dim: int
    prefix_dim: int
    shards: tuple[ShardStatus, ...]

    @property
    def rows(self) -> int:
        """Rows of the newest snapshots; what the log has behind them is not counted."""
        return sum(one.snapshot.rows for one in self.shards if one.snapshot is not None)


def status(home: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None) -> HomeStatus:
    """Who writes each shard of a cluster, and how far its log and its snapshots have come.

    Nothing is opened and nothing written: for each shard five lists and two small objects are read.

    Args:
        home: where the cluster is, as in `create`.
        options: for buckets, as in `create`.

    Raises:
        StoreNotFound: there is no cluster.
        CorruptStore: a manifest is damaged, or `cluster.json` is.
        ObjectStorageError: object storage cannot be read.
    """
    storage = open_storage(home, options)
    try:
        found = read_home(storage)
        shards = tuple(_shard_status(storage, found, shard) for shard in range(found.shards))
        return HomeStatus(storage.url, found.durability, found.dim, found.prefix_dim, shards)
    finally:
        storage.close()


def _shard_status(storage: ObjectStorage, home: Home, shard: int) -> ShardStatus:
    prefix = home.prefix(shard)
    newest = ShardSnapshots(storage, prefix).newest()
    start = 0 if newest is None else newest.place
    behind = LogObjects(storage, prefix).places(start)
    epoch = epochs.newest_epoch(storage, prefix)
    return ShardStatus(
        shard,
        epoch,
        epochs.whose(storage, epoch, prefix) if epoch else "",
        behind[-1].number if behind else start,
        None
        if newest is None
        else SnapshotStatus(
            newest.epoch, newest.place, newest.rows, sum(newest.objects().values()), newest.taken
        ),
        len(behind),
        sum(one.size for one in behind),
    )
