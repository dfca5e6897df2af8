"""From a snapshot in object storage to a store on disk."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from mrlstore.catalogue.identity import LOCK
from mrlstore.errors import (
    CorruptStore,
    MrlStoreError,
    ObjectNotFound,
    StorageError,
    StoreExists,
    StoreNotFound,
)
from mrlstore.object_storage import ObjectStorage
from mrlstore.object_storage.interface import PIECE_BYTES
from mrlstore.shipping import page_bundles
from mrlstore.shipping.manifest import (
    PageBundle,
    ShippedPart,
    SnapshotManifest,
    SnapshotRef,
    below,
    newest_complete,
    read_manifest,
)
from mrlstore.storage.backup import remove_copy
from mrlstore.storage.session import CATALOGUE, PARTS
from mrlstore.system.files import Files, SyncFailed, make_parents, remove_tree, storage_error, write_file
from mrlstore.system.names import beside

_AT_ONCE: Final = 8  # requests on their way at the same time; of bundles, at most 256 MB are in memory
_BUNDLES: Final = "bundles"  # a folder of the draft
_TRIES: Final = 100  # so often may a snapshot be collected while it is read, each time with less left to read

Report = Callable[[int, int], None]
"""Called with how many bytes of how many are there."""


@dataclass
class _Restore:
    """One restore under way: where to, and what has been read."""

    storage: ObjectStorage
    prefix: str
    files: Files
    draft: Path
    pool: ThreadPoolExecutor
    like: Path | None = None
    done: int = 0


def restore_snapshot(
    storage: ObjectStorage,
    target: Path,
    ref: SnapshotRef | None = None,
    *,
    prefix: str = "",
    files: Files | None = None,
    report: Report = lambda done, total: None,
    like: Path | None = None,
) -> SnapshotManifest:
    """Make `target` the store of a snapshot, by default the newest complete one.

    Every byte is checked against the checksums of the snapshot. The store appears whole, synced, by one
    rename. If snapshots are collected meanwhile it goes on with the newest one, and reads what that one has
    more.

    Args:
        storage: where the snapshots are.
        target: the folder; nothing may be there.
        ref: which snapshot.
        prefix: that of the snapshots.
        files: the file seam.
        report: called with how much is done.
        like: a store on the same disk that may have parts of the snapshot already; these are linked.

    Raises:
        StoreExists: something is at `target`.
        StoreNotFound: there is no complete snapshot, or not the one of `ref`.
        CorruptStore: an object of the snapshot is damaged.
        ObjectStorageError: object storage failed.
        StorageError, StorageFull: the disk did. Nothing is left at `target`.
    """
    files = files or Files()
    if os.path.lexists(target):
        raise StoreExists(f"{target} exists; a store is restored to a new path")
    draft = beside(target, f".tmp-{uuid.uuid4().hex}")
    try:
        make_parents(files, target)
        files.make_dir(draft)
        with ThreadPoolExecutor(_AT_ONCE, "mrlstore-restore") as pool:
            reading = _Restore(storage, prefix, files, draft, pool, like)
            manifest = _read(reading, ref, report)
        files.rename(draft, target)
        files.sync_dir(target.parent)
        return manifest
    except SyncFailed as error:
        raise StorageError(errno.EIO, f"restoring to {target}: {error}", str(target)) from error
    except MrlStoreError:
        raise
    except OSError as error:
        raise storage_error(error, f"restoring to {target}") from error
    finally:
        with suppress(OSError):
            remove_tree(files, draft / _BUNDLES)
            remove_copy(files, draft)


def _read(reading: _Restore, ref: SnapshotRef | None, report: Report) -> SnapshotManifest:
    """Fill the draft; the manifest that it holds in the end."""
    for name in (PARTS, _BUNDLES):
        reading.files.make_dir(reading.draft / name)
    for attempt in range(_TRIES):
        manifest = _manifest(reading, ref)
        try:
            _read_objects(reading, manifest, report)
            break
        except ObjectNotFound as error:
            if ref is not None:
                raise StoreNotFound(f"{error}: the snapshot has been removed meanwhile") from error
            if attempt == _TRIES - 1:
                raise
    _drop_others(reading, manifest)
    _assemble(reading, manifest)
    remove_tree(reading.files, reading.draft / _BUNDLES)
    write_file(reading.files, reading.draft / LOCK, [])
    for folder in (reading.draft / PARTS, reading.draft):
        reading.files.sync_dir(folder)
    return manifest


def _manifest(reading: _Restore, ref: SnapshotRef | None) -> SnapshotManifest:
    if ref is not None:
        try:
            return read_manifest(reading.storage, reading.prefix, ref)
        except ObjectNotFound as error:
            raise StoreNotFound(f"{error}: there is no such snapshot") from error
    manifest = newest_complete(reading.storage, reading.prefix)
    if manifest is None:
        raise StoreNotFound(f"{reading.storage.url}: there is no complete snapshot of a store here")
    return manifest


def _read_objects(reading: _Restore, manifest: SnapshotManifest, report: Report) -> None:
    """Bring every part and bundle of a snapshot into the draft that is not there yet."""
    total = sum(manifest.objects().values())
    reading.done = 0

    def progress(more: int) -> None:
        reading.done += more
        report(reading.done, total)

    for part in manifest.parts:
        folder = reading.draft / PARTS / part.name
        if folder.exists() or _linked(reading, part, folder):
            progress(part.size)
        else:
            _read_part(reading, part, folder, progress)
    for size in reading.pool.map(partial(_read_bundle, reading), manifest.bundles):
        progress(size)


def _linked(reading: _Restore, part: ShippedPart, folder: Path) -> bool:
    """Whether the part could be linked from the store that may have it; parts never change."""
    if reading.like is None:
        return False
    files, source, draft = (
        reading.files,
        reading.like / PARTS / part.name,
        folder.with_name(f"{part.name}.tmp"),
    )
    with suppress(FileNotFoundError):
        remove_tree(files, draft)
    try:
        if any(files.size(source / file.name) != file.size for file in part.files):
            return False
        files.make_dir(draft)
        for file in part.files:
            files.link(source / file.name, draft / file.name)
        files.sync_dir(draft)
        files.rename(draft, folder)
    except OSError:  # it has no such part, has removed it meanwhile, or files cannot be linked here
        return False
    return True


def _read_bundle(reading: _Restore, bundle: PageBundle) -> int:
    """A bundle as a file of the draft; gives its length. Several are read at the same time."""
    path = reading.draft / _BUNDLES / _file_of(bundle)
    if not path.exists():
        data = b"".join(reading.storage.get_pieces(below(reading.prefix, bundle.object), bundle.size))
        page_bundles.check_bundle(data, bundle)
        write_file(reading.files, path, [data])
    return bundle.size


def _file_of(bundle: PageBundle) -> str:
    return bundle.object.rpartition("/")[2]


def _read_part(reading: _Restore, part: ShippedPart, folder: Path, progress: Callable[[int], None]) -> None:
    """A part, which gets its name once it has been read and checked whole."""
    files, draft = reading.files, folder.with_name(f"{part.name}.tmp")
    with suppress(FileNotFoundError):
        remove_tree(files, draft)
    files.make_dir(draft)
    digest = hashlib.blake2b(digest_size=32)
    pieces = _pieces(reading, part.object, part.size, progress)
    rest = memoryview(b"")

    def content(size: int) -> Iterator[memoryview]:
        nonlocal rest
        while size:
            rest = rest if len(rest) else memoryview(next(pieces))
            piece, rest = rest[:size], rest[size:]
            digest.update(piece)
            size -= len(piece)
            yield piece

    for name, size in part.files:
        write_file(files, draft / name, content(size))
    if digest.hexdigest() != part.digest:
        raise CorruptStore(f"{reading.storage.url}/{part.object}", "does not match its checksum")
    files.sync_dir(draft)
    files.rename(draft, folder)


def _pieces(reading: _Restore, name: str, size: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes of an object in their order, several requests ahead."""
    where = below(reading.prefix, name)

    def read(start: int) -> Future[bytes]:
        length = min(PIECE_BYTES, size - start)
        return reading.pool.submit(reading.storage.get_range, where, start, length)

    starts = iter(range(0, size, PIECE_BYTES))
    ahead = [read(start) for start in islice(starts, _AT_ONCE)]
    try:
        while ahead:
            data = ahead.pop(0).result()
            ahead += [read(start) for start in islice(starts, 1)]
            progress(len(data))
            yield data
    finally:
        for future in ahead:
            future.cancel()


def _drop_others(reading: _Restore, manifest: SnapshotManifest) -> None:
    """Remove parts of an earlier try that this snapshot does not have."""
    named = {part.name for part in manifest.parts}
    for name in reading.files.list_dir(reading.draft / PARTS):
        if name not in named:
            remove_tree(reading.files, reading.draft / PARTS / name)


def _assemble(reading: _Restore, manifest: SnapshotManifest) -> None:
    """Write the catalogue from its bundles, page by page in order."""
    files, folder = reading.files, reading.draft / _BUNDLES
    maps: list[memoryview] = []
    where = np.full((manifest.pages, 2), -1, np.int64)  # of each page: bundle, and offset in it
    for number, bundle in enumerate(manifest.bundles):
        whole = memoryview(files.map(folder / _file_of(bundle), bundle.size))
        table = page_bundles.table_of(whole, bundle, manifest.page_bytes)
        inside = np.flatnonzero(table.numbers < manifest.pages)
        where[table.numbers[inside], 0] = number
        where[table.numbers[inside], 1] = table.start + inside * manifest.page_bytes
        maps.append(whole)
    if (where < 0).any():
        raise CorruptStore(reading.storage.url, "the snapshot lacks pages of the catalogue")
    pages = (maps[number][start : start + manifest.page_bytes] for number, start in where.tolist())
    write_file(files, reading.draft / CATALOGUE, _joined(pages))


def _joined(pages: Iterator[memoryview]) -> Iterator[bytes]:
    """The pages, many of them at a time."""
    while block := b"".join(islice(pages, 1024)):
        yield block
