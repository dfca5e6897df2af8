"""Clusters for tests: in memory, on a small dimension, without background threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrlstore.cluster import ShardedStore
from mrlstore.cluster.home import Durability, Home, create_home, new_home
from mrlstore.cluster.opening_clusters import open_cluster
from mrlstore.cluster.running_shard import ShardCare
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.write_requests import OperationId, Upsert
from mrlstore.object_storage import ObjectStorage
from mrlstore.writing.batch import make_batch
from tests.object_storage.doubles import MemoryStorage
from tests.oracle import nested_vectors

DIM = 8


def home_of(shards: int = 1, durability: Durability = "shared") -> Home:
    return new_home(DIM, DIM, 4, 20, "unicode61", "mrlstore", shards, durability)


def made(shards: int = 1, durability: Durability = "shared") -> MemoryStorage:
    """Object storage with the home of a cluster."""
    storage = MemoryStorage()
    create_home(storage, home_of(shards, durability))
    return storage


def connected(storage: ObjectStorage, folder: Path, **more: Any) -> ShardedStore:
    care = ShardCare(**{name: more.pop(name) for name in ShardCare._fields if name in more})
    return open_cluster(storage, folder=folder, auto_maintain=False, care=care, **more)


def copy_of(storage: ObjectStorage, folder: Path, home: Home | None = None, shard: int = 0) -> ShardCopy:
    return ShardCopy(home or home_of(), shard, storage, folder, auto_maintain=False)


def writer_of(storage: ObjectStorage, folder: Path) -> ShardWriter:
    """A writer of shard 0, which has started."""
    writer = ShardWriter(copy_of(storage, folder))
    writer.start()
    return writer


def one_row(id: str, number: int = 0) -> Upsert:
    """The upsert of a row that is told by its number."""
    return Upsert(
        make_batch([id], nested_vectors(1, DIM, seed=number), [{"n": number}], None, "", DIM), "replace"
    )


def rows_in(copy: ShardCopy) -> dict[str, int]:
    """The number of each row of a copy."""
    return {row.id: (row.metadata or {})["n"] for row in copy.store.scan()}


def recovered(storage: ObjectStorage, folder: Path) -> dict[str, int]:
    """What a follower with an empty disk reads from object storage."""
    copy = copy_of(storage, folder)
    try:
        copy.start()
        copy.follow()
        return rows_in(copy)
    finally:
        copy.close()


def first_try(client: str, number: int = 1) -> OperationId:
    return OperationId(client, number)
