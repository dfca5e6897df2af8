"""Removing from object storage what the newest snapshots do not name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mrlstore.errors import CorruptStore, ObjectNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.manifest import (
    SnapshotManifest,
    SnapshotRef,
    below,
    is_complete,
    read_manifest,
    snapshot_refs,
    stored_sizes,
)


class CollectedSnapshots(NamedTuple):
    """What a collection has kept, the newest first, and how many objects it has removed."""

    kept: tuple[SnapshotManifest, ...]
    removed: int


def collect(
    storage: ObjectStorage,
    epoch: int,
    is_newest_epoch: Callable[[], bool],
    *,
    newest: SnapshotRef | None = None,
    keep: int = 2,
    prefix: str = "",
) -> CollectedSnapshots:
    """Remove the objects that the newest complete snapshots do not name.

    Only what was listed before it was seen that no later epoch has begun is removed, and nothing that carries
    a later epoch: a process that ships later finds everything that it counts on, and so does a process that
    was stopped in here for a long time leave alone what has been put meanwhile.

    Args:
        storage: where the snapshots are.
        epoch: that of the caller. Nothing is removed unless the newest complete snapshot is of it.
        is_newest_epoch: whether no later epoch has begun.
        newest: what the caller has shipped last. Nothing is removed unless that is the newest complete
            snapshot: a listing that lacks it is not one to rely on.
        keep: how many of the newest complete snapshots stay.
        prefix: that of the snapshots.

    Returns:
        The snapshots that stay; none where nothing was removed because the newest one is another.
    """
    sizes, refs = stored_sizes(storage, prefix), snapshot_refs(storage, prefix)
    kept, spared = _newest(storage, prefix, refs, sizes, keep)
    if spared or not kept or kept[0].epoch != epoch or not is_newest_epoch():
        return CollectedSnapshots((), 0)
    if newest is not None and kept[0].ref != newest:
        return CollectedSnapshots((), 0)
    named = {name for manifest in kept for name in manifest.objects()}
    oldest = kept[-1].ref
    outdated = [ref.object_name(prefix) for ref in refs if ref < oldest]
    incomplete = {ref for ref in refs if ref > oldest} - {manifest.ref for manifest in kept}
    outdated += [ref.object_name(prefix) for ref in sorted(incomplete) if ref < kept[0].ref]
    unnamed = [name for name in sorted(sizes) if name not in named and _epoch_of(name) <= epoch]
    storage.delete(outdated)  # first: no manifest shall name what is gone
    storage.delete(below(prefix, name) for name in unnamed)
    return CollectedSnapshots(tuple(kept), len(outdated) + len(unnamed))


def _newest(
    storage: ObjectStorage, prefix: str, refs: list[SnapshotRef], sizes: dict[str, int], keep: int
) -> tuple[list[SnapshotManifest], list[SnapshotRef]]:
    """The newest complete snapshots, at most `keep`, and the damaged or incomplete ones before the first."""
    kept: list[SnapshotManifest] = []
    before: list[SnapshotRef] = []
    for ref in refs:
        try:
            manifest = read_manifest(storage, prefix, ref)
        except ObjectNotFound:
            continue
        except CorruptStore:
            manifest = None
        if manifest is not None and is_complete(manifest, sizes):
            kept.append(manifest)
            if len(kept) == keep:
                break
        elif not kept:
            before.append(ref)
    return kept, before


def _epoch_of(name: str) -> int:
    """The epoch that has written a part or a bundle; beyond all where the name is not one of these."""
    number = name.rpartition("/")[2].partition("-")[0]
    return int(number) if number.isdigit() else 2**62
