"""`verify`: whether all that object storage has of a cluster is whole, byte by byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mrlstore.checks import check_progress
from mrlstore.cluster.home import Home, read_home
from mrlstore.cluster.snapshots import KEPT
from mrlstore.errors import CorruptStore, ObjectNotFound
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.shared_log import LogObjects
from mrlstore.shipping import page_bundles
from mrlstore.shipping.manifest import (
    PageBundle,
    ShippedPart,
    SnapshotManifest,
    SnapshotRef,
    below,
    is_complete,
    read_manifest,
    snapshot_refs,
    stored_sizes,
)
from mrlstore.types import Problem, Progress

_TRIES: Final = 100  # so often may a shard's snapshots change while they are read
_REMEDY: Final = (
    "while a copy on some disk is whole: remove the object, where it is there, connect with the folder of "
    "that copy, and call snapshot(), which ships all that no complete snapshot has"
)


@dataclass(frozen=True)
class HomeReport:
    """What `verify` found in object storage. `ok` is true when nothing is wrong."""

    ok: bool
    problems: tuple[Problem, ...]
    shards: int
    snapshots: int  # that were read whole
    log_entries: int  # that were read
    bytes_checked: int  # of parts and of pages of the catalogue


@dataclass
class _ShardCheck:
    """What one reading of a shard has found so far."""

    problems: list[Problem] = field(default_factory=list)
    snapshots: int = 0
    log_entries: int = 0
    bytes_checked: int = 0

    def note(self, where: str, what: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(where, what, _REMEDY))


def verify(
    home: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> HomeReport:
    """Read all that a cluster could be restored from, and compare it with its checksums.

    Of each shard these are the newest two snapshots and the log behind the older one, which must have an
    entry at every place. What is written meanwhile disturbs nothing. `ShardedStore.verify` checks the copies.

    Args:
        home: where the cluster is, as in `create`.
        options: for buckets, as in `create`.
        progress: is given how many shards are checked.

    Raises:
        StoreNotFound: there is no cluster.
        FormatTooNew: a newer mrlstore has written it.
        ObjectStorageError: object storage cannot be read.
    """
    check_progress(progress)
    storage = open_storage(home, options)
    try:
        found = read_home(storage)
        checks = []
        for shard in range(found.shards):
            checks.append(_checked_shard(storage, found, shard))
            if progress is not None:
                progress(Progress("verifying", shard + 1, found.shards))
    finally:
        storage.close()
    problems = tuple(problem for one in checks for problem in one.problems)
    return HomeReport(
        not problems,
        problems,
        found.shards,
        sum(one.snapshots for one in checks),
        sum(one.log_entries for one in checks),
        sum(one.bytes_checked for one in checks),
    )


def _checked_shard(storage: ObjectStorage, home: Home, shard: int) -> _ShardCheck:
    """A problem counts if no snapshot has come or gone meanwhile: objects are removed only after one has."""
    prefix = home.prefix(shard)
    for _ in range(_TRIES):
        refs, found = snapshot_refs(storage, prefix), _ShardCheck()
        kept = _complete_snapshots(storage, prefix, refs, found)
        for name, one in _objects(kept).items():
            _check_object(storage, below(prefix, name), one, found)
        found.snapshots = len(kept)
        _check_log(storage, prefix, kept[-1].place if kept else 0, found)
        if not found.problems or snapshot_refs(storage, prefix) == refs:
            break
    return found


def _complete_snapshots(
    storage: ObjectStorage, prefix: str, refs: list[SnapshotRef], found: _ShardCheck
) -> list[SnapshotManifest]:
    """The newest complete ones; what is newer than these and not complete is a problem."""
    kept: list[SnapshotManifest] = []
    for ref in refs:
        name = f"{storage.url}/{ref.object_name(prefix)}"
        try:
            manifest = read_manifest(storage, prefix, ref)
        except ObjectNotFound:  # removed since the listing
            continue
        except CorruptStore as error:
            found.note(error.path, error.reason)
            continue
        sizes = stored_sizes(storage, prefix)
        if is_complete(manifest, sizes):
            kept.append(manifest)
            if len(kept) == KEPT:
                break
        elif not kept:
            wrong = [name for name, size in manifest.objects().items() if sizes.get(name) != size]
            found.note(name, f"the snapshot lacks {', '.join(wrong[:3])}" + (" and more" * (len(wrong) > 3)))
    return kept


def _objects(kept: Iterable[SnapshotManifest]) -> dict[str, tuple[ShippedPart | PageBundle, int]]:
    """What the snapshots consist of, each object once, with the bytes of a page of the catalogue."""
    found: dict[str, tuple[ShippedPart | PageBundle, int]] = {}
    for manifest in kept:
        found |= {part.object: (part, manifest.page_bytes) for part in manifest.parts}
        found |= {bundle.object: (bundle, manifest.page_bytes) for bundle in manifest.bundles}
    return found


def _check_object(
    storage: ObjectStorage, name: str, described: tuple[ShippedPart | PageBundle, int], found: _ShardCheck
) -> None:
    one, page_bytes = described
    try:
        if isinstance(one, ShippedPart):
            digest = hashlib.blake2b(digest_size=32)
            for piece in storage.get_pieces(name, one.size):
                digest.update(piece)
            if digest.hexdigest() != one.digest:
                raise CorruptStore(name, "does not match its checksum")
        else:
            data = b"".join(storage.get_pieces(name, one.size))
            page_bundles.check_bundle(data, one)
            page_bundles.table_of(memoryview(data), one, page_bytes)
        found.bytes_checked += one.size
    except ObjectNotFound:
        found.note(f"{storage.url}/{name}", "is missing")
    except CorruptStore as error:
        found.note(f"{storage.url}/{name}", error.reason)


def _check_log(storage: ObjectStorage, prefix: str, start: int, found: _ShardCheck) -> None:
    """Read every place behind one, up to the newest that is listed now."""
    log, expected = LogObjects(storage, prefix), start + 1
    for listed in log.places(start):
        while expected < listed.number and _is_there(log, expected, found):
            expected += 1  # created while the listing was made, which may lack it
        if expected < listed.number:
            last = listed.number - 1
            text = f"place {last} is" if expected == last else f"places {expected} to {last} are"
            found.note(f"{storage.url}/{prefix}/log", f"{text} missing")
        if not _is_there(log, listed.number, found):
            found.note(f"{storage.url}/{prefix}/log", f"place {listed.number} is missing")
        expected = listed.number + 1


def _is_there(log: LogObjects, place: int, found: _ShardCheck) -> bool:
    """Read an entry; False where there is none. One that is damaged is noted."""
    try:
        there = log.read(place) is not None
    except CorruptStore as error:
        found.note(error.path, error.reason)
        there = True
    found.log_entries += there
    return there
