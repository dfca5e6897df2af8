"""`restore` and `restore_points`: what can be brought back from object storage, and bringing it back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrlstore.errors import CorruptStore, InvalidInput, ObjectNotFound, StoreNotFound
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.shared_log import HOME, shard_prefix
from mrlstore.shipping.log_restore import restore_with_log
from mrlstore.shipping.manifest import (
    SnapshotManifest,
    SnapshotRef,
    is_complete,
    read_manifest,
    snapshot_refs,
    stored_sizes,
)
from mrlstore.shipping.snapshot_reader import restore_snapshot
from mrlstore.types import Progress


@dataclass(frozen=True)
class RestorePoint:
    """A moment of a store that can be restored: all that is needed for it is in object storage."""

    name: str  # what `restore` takes: the epoch of the process that has shipped it, and its generation
    generation: int
    rows: int
    taken: str  # when, as ISO 8601 in UTC, by the clock of the machine that has shipped it
    size: int  # bytes that restoring it reads


def restore_points(
    url: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None
) -> list[RestorePoint]:
    """List the moments of a store that can be restored, the newest first.

    Of a store with a log these are its snapshots; `restore` can bring back any place of the log behind them
    too.

    Args:
        url: where it was shipped to: "s3://bucket/prefix", "gs://", "az://" or a folder.
        options: as in `Store.ship`.

    Raises:
        StoreNotFound: there is none.
        ObjectStorageError: object storage could not be asked.
    """
    storage, before = open_storage(url, options), None
    prefix = _prefix_of(storage)
    while True:
        refs = snapshot_refs(storage, prefix)
        found = _complete_points(storage, prefix, refs)
        # None of these: each may have been removed, once a newer one was there, before it was looked at.
        if found or refs in ([], before):
            break
        before = refs
    if not found:
        raise StoreNotFound(f"{storage.url}: there is no complete snapshot of a store here")
    return found


def restore(
    url: str | os.PathLike[str],
    path: str | os.PathLike[str],
    point: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RestorePoint:
    """Make `path` a store again from object storage.

    Every byte is checked against the checksums that were taken when it was shipped. The store appears whole
    and synced when this returns; a call that fails leaves nothing.

    Args:
        url: where it was shipped to, or the log of a store with durability="shared".
        path: the folder of the store to be; nothing may be there.
        point: `RestorePoint.name` of a moment, as `restore_points` lists them; None: the newest. Where there
            is a log, None is its last write, and the number behind the dash may be any place of the log
            behind a snapshot.
        options: as in `Store.ship`.
        progress: told how many bytes are there.

    Returns:
        The moment that the store holds.

    Raises:
        StoreExists: something is at `path`.
        StoreNotFound: there is no snapshot, or not this one.
        CorruptStore: an object is damaged.
        ObjectStorageError: object storage failed.
        StorageError, StorageFull: the disk did.
    """
    storage, ref = open_storage(url, options), None if point is None else _ref_of(point)

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(Progress("restoring", done, total))

    target, prefix = Path(os.path.abspath(path)), _prefix_of(storage)
    if not prefix:
        return _point_of(restore_snapshot(storage, target, ref, report=report))
    done = restore_with_log(storage, prefix, target, None if ref is None else ref.place, report)
    return replace(
        _point_of(done.snapshot),
        name=f"{done.mark.epoch}-{done.mark.place}",
        generation=done.generation,
        rows=done.rows,
    )


def _prefix_of(storage: ObjectStorage) -> str:
    """The prefix of a store's snapshots: that of the only shard where there is a log, else none."""
    try:
        home = json.loads(storage.get(HOME, 65_536))
    except ObjectNotFound:
        return ""
    except ValueError as error:
        raise CorruptStore(f"{storage.url}/{HOME}", f"not the description of a cluster ({error})") from error
    if not isinstance(home, dict) or home.get("shards") != 1:
        raise InvalidInput(
            f"{storage.url}: a cluster of several shards; `mrlstore cluster export` makes one store of it"
        )
    return shard_prefix(0)


def _complete_points(storage: ObjectStorage, prefix: str, refs: list[SnapshotRef]) -> list[RestorePoint]:
    sizes, found = stored_sizes(storage, prefix), []  # listed after the manifests, which are put last
    for ref in refs:
        try:
            manifest = read_manifest(storage, prefix, ref)
        except (ObjectNotFound, CorruptStore):  # removed since the listing, or damaged
            continue
        if is_complete(manifest, sizes):
            found.append(_point_of(manifest))
    return found


def _point_of(manifest: SnapshotManifest) -> RestorePoint:
    return RestorePoint(
        f"{manifest.epoch}-{manifest.place}",
        manifest.generation,
        manifest.rows,
        manifest.taken,
        sum(manifest.objects().values()),
    )


def _ref_of(point: object) -> SnapshotRef:
    found = re.fullmatch(r"(\d{1,10})-(\d{1,20})", point) if isinstance(point, str) else None
    if found is None:
        raise InvalidInput(
            f"point: expected a name like 3-1520, as restore_points() lists them, got {point!r:.80}"
        )
    return SnapshotRef(int(found[1]), int(found[2]))
