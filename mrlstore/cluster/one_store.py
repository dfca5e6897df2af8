"""From one store to a cluster and back: every row with the float16 row that is stored of its vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.checks import check_progress
from mrlstore.cluster.home import Durability, check_home, read_home
from mrlstore.cluster.import_progress import ImportProgress, Reached
from mrlstore.cluster.opening_clusters import connect, create
from mrlstore.cluster.sharded_store import ShardedStore
from mrlstore.errors import InvalidInput
from mrlstore.exchange.exact import restorable, stored_rows
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.types import Progress, Record

_ROWS: Final = 4_096  # written at a time

Report = Callable[[Progress], None]


def export_store(source: ShardedStore, path: str | os.PathLike[str], progress: Report | None = None) -> int:
    """Write all rows of a cluster to a new store on this machine, and give how many those were.

    Each row is of the moment at which its page is read. The float16 rows are the same bit for bit, lengths
    but for rounding; graphs are built anew. The fingerprint of the embedder is taken along.

    Args:
        source: the cluster, connected to.
        path: where the store is made.
        progress: is told how many rows are written.

    Raises:
        StoreExists: something is at `path`.
    """
    check_progress(progress)
    home, total, done = source.home, source.count(namespace=None), 0
    with mrlstore.open(
        path,
        dim=home.dim,
        prefix_dim=home.prefix_dim,
        m=home.m,
        ef_construction=home.ef_construction,
        tokenizer=home.tokenizer,
        graph=home.graph,
        mode="x",
        auto_maintain=False,
    ) as target:
        for batch in _copied(source, target):
            done += len(batch)
            if progress is not None:
                progress(Progress("exporting", done, max(done, total)))
        target.optimize()
    return done


def import_store(
    path: str | os.PathLike[str],
    home: str | os.PathLike[str],
    *,
    shards: int = 1,
    durability: Durability = "shared",
    folder: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Report | None = None,
) -> int:
    """Create a cluster with the rows and the settings of a store, and give how many rows those were.

    If it is interrupted, the same call goes on where it stopped, also if the store has changed meanwhile.
    When this returns object storage has a snapshot of each shard, with its graphs. The float16 rows are the
    same bit for bit, lengths but for rounding; the fingerprint of the embedder is taken along.

    Args:
        path: the store; it is only read.
        home: where the cluster is made, as in `create`.
        shards: how many, as in `create`.
        durability: as in `create`.
        folder: where the copies of the shards are made; by default a temporary one.
        options: for buckets, as in `create`.
        progress: is told how many rows are written.

    Raises:
        StoreNotFound: there is no store at `path`.
        StoreExists: there is a cluster already, which is not an import of this store that was interrupted.
        InvalidInput: the store knows no dimension yet, or an argument is wrong.
    """
    check_progress(progress)
    storage = open_storage(home, options)
    with closing(storage), mrlstore.open(path, mode="r") as source:
        settings, total, done = source.settings, source.count(namespace=None), 0
        if settings.dim is None:
            raise InvalidInput(f"{Path(path)}: without a vector; create a cluster and give its dim")
        notes = ImportProgress(storage, settings.store_uuid)
        if notes.is_under_way():
            _check_shards(storage, shards)
        else:
            check_home(shards, durability)
            notes.begin()
            create(
                home,
                dim=settings.dim,
                prefix_dim=settings.prefix_dim,
                m=settings.m,
                ef_construction=settings.ef_construction,
                tokenizer=settings.tokenizer,
                graph=settings.graph,
                shards=shards,
                durability=durability,
                options=options,
            )
        with connect(home, folder=folder, auto_maintain=False, options=options) as target:
            for done in _imported(source, target, notes):
                if progress is not None:
                    progress(Progress("importing", done, max(done, total)))
            target.optimize()
            target.snapshot()
            notes.end()
    return done


def _check_shards(storage: ObjectStorage, shards: int) -> None:
    there = read_home(storage).shards
    if there != shards:
        raise InvalidInput(f"shards: {shards} were given, and the import that was interrupted makes {there}")


def _imported(source: mrlstore.Store, target: ShardedStore, notes: ImportProgress) -> Iterator[int]:
    """Copy what is not copied yet; how many rows are there, batch by batch."""
    before, generation = notes.reached(), source.generation
    changed = before.rows and before.generation != generation
    start = Reached(None, 0, generation) if changed else before
    done = start.rows
    for batch in _copied(source, target, start.cursor):
        done += len(batch)
        notes.note(Reached(batch[-1].cursor, done, generation))
        yield done
    if changed:
        _remove_others(source, target)
        yield done


def _remove_others(source: mrlstore.Store, target: ShardedStore) -> None:
    """Remove rows of the target that the source does not have, or no longer."""
    wanted = {(row.namespace, row.id) for row in source.scan(namespace=None, include=())}
    gone: dict[str, list[str]] = {}
    for row in target.scan(namespace=None, include=()):
        if (row.namespace, row.id) not in wanted:
            gone.setdefault(row.namespace, []).append(row.id)
    for namespace, ids in gone.items():
        target.delete(ids, namespace=namespace)


def _copied(source: Any, target: Any, after: str | None = None) -> Iterator[list[Record]]:
    """Write all rows of one behind a cursor into the other, batch by batch; the rows of each."""
    fingerprint = source.embedder_fingerprint
    if fingerprint is not None:
        target.record_embedder(fingerprint)
    rows = source.scan(namespace=None, include=("metadata", "document", "vector"), after=after)
    for namespace, some in groupby(rows, key=lambda record: record.namespace):
        while batch := list(islice(some, _ROWS)):
            target.upsert(
                [record.id for record in batch],
                _vectors(batch),
                [record.metadata for record in batch],
                [record.document for record in batch],
                namespace=namespace,
            )
            yield batch


def _vectors(batch: list[Record]) -> list[NDArray[np.float32] | None]:
    """Vectors that are stored as the rows are; None for rows without one."""
    given = [record.vector for record in batch if record.vector is not None]
    if not given:
        return [None] * len(batch)
    there = iter(restorable(*stored_rows(np.stack(given))))
    return [None if record.vector is None else next(there) for record in batch]
