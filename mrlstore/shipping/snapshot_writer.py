"""`SnapshotWriter`: puts moments of a store into object storage, only what is new of each."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.manifest import PageBundle, ShippedFile, ShippedPart, SnapshotManifest, below
from mrlstore.shipping.page_bundles import MOST_BYTES, PageLedger, content_name, encoded, page_digests
from mrlstore.storage.backup import CopiedMoment, backup, remove_copy
from mrlstore.storage.session import CATALOGUE, PARTS, Session
from mrlstore.system.files import Files
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.system.names import beside

_BLOCK: Final = 8 * 1024 * 1024
_PAGE_SIZE_AT: Final = slice(16, 18)  # of the header of an SQLite file: a big-endian number, 1 for 65,536
_DRAFT: Final = ".ship-"
BEING_MADE_S: Final = 600.0  # a moment of a large catalogue takes seconds


class SnapshotWriter:
    """Ships one store under one epoch, from one thread.

    Objects are named by the epoch that has written them, so what an overtaken process removes is never what a
    later one has put. What the newest snapshot names at the start is used again.
    """

    def __init__(
        self, storage: ObjectStorage, epoch: int, newest: SnapshotManifest | None, prefix: str = ""
    ) -> None:
        """Go on from what `newest_complete` has given after the epoch was claimed."""
        self.bytes_sent = 0
        self._job = UNWATCHED
        self._storage, self._prefix, self._epoch = storage, prefix, epoch
        self._parts = {} if newest is None else {part.name: part for part in newest.parts}
        self._ledger = PageLedger() if newest is None else PageLedger.of(storage, prefix, newest)

    def forget(self) -> None:
        """Send everything anew: objects that were thought to be there are missing."""
        self._parts, self._ledger = {}, PageLedger()

    def ship(
        self, session: Session, place_of: Callable[[CopiedMoment], int], job: Job = UNWATCHED
    ) -> SnapshotManifest:
        """Take a moment of the store and put it into object storage; the snapshot counts when this returns.

        Args:
            session: the store.
            place_of: from the moment to its place in the order of writes, which must rise.
            job: may stop it between two pieces of 8 MB: Interrupted.
        """
        self._job = job
        draft = beside(session.path, f"{_DRAFT}{uuid.uuid4().hex}")
        try:
            moment = backup(session, draft)
            with session.files.lock(draft) or nullcontext():  # see `remove_old_drafts`
                parts = tuple(
                    self._shipped(session.files, path) for path in _part_folders(session.files, draft)
                )
                manifest = self._with_catalogue(session, draft / CATALOGUE, moment, place_of(moment), parts)
                self._put(manifest.ref.object_name(""), manifest.encoded())
        finally:
            with suppress(OSError):
                remove_copy(session.files, draft)
        self._parts = {part.name: part for part in parts}
        return manifest

    def _with_catalogue(
        self,
        session: Session,
        catalogue: Path,
        moment: CopiedMoment,
        place: int,
        parts: tuple[ShippedPart, ...],
    ) -> SnapshotManifest:
        size = session.files.size(catalogue)
        with memoryview(session.files.map(catalogue, size)) as whole:
            page_bytes = int.from_bytes(whole[_PAGE_SIZE_AT], "big")
            page_bytes = 65_536 if page_bytes == 1 else page_bytes
            digests = page_digests(whole, page_bytes)
            sent = [
                (self._put_bundle(encoded(numbers, digests, whole, page_bytes), len(numbers)), numbers)
                for numbers in _cut(self._ledger.to_send(digests), MOST_BYTES // page_bytes)
            ]
        self._ledger = self._ledger.replaced(digests, sent)
        return SnapshotManifest(
            self._epoch,
            place,
            session.settings.store_uuid,
            moment.generation,
            moment.rows,
            datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            page_bytes,
            len(digests),
            tuple(self._ledger.bundles),
            parts,
        )

    def _put_bundle(self, data: bytes, pages: int) -> PageBundle:
        """Put a bundle under a name that no other has ever had, even of the same pages.

        Pages may become again what they were. A removal that object storage carries out late, after the call
        for it has failed, would otherwise take away the bundle that was put since.
        """
        name = f"catalogue/{self._epoch:010}-{uuid.uuid4().hex}-{content_name(data)}"
        bundle = PageBundle(name, pages, len(data))
        self._put(bundle.object, data)
        return bundle

    def _put(self, name: str, data: bytes) -> None:
        self._job.check()
        self._storage.put_pieces(below(self._prefix, name), _blocks(memoryview(data)), len(data))
        self.bytes_sent += len(data)

    def _shipped(self, files: Files, folder: Path) -> ShippedPart:
        """The part, which is sent unless it is there already."""
        known = self._parts.get(folder.name)
        if known is not None:
            return known
        found = tuple(ShippedFile(name, files.size(folder / name)) for name in files.list_dir(folder))
        checksums = _checksums(files, folder)
        digest = hashlib.blake2b(digest_size=32)

        def pieces() -> Iterator[memoryview]:
            for name, size in found:
                crc = 0
                for block in _blocks(memoryview(files.map(folder / name, size)) if size else memoryview(b"")):
                    crc = zlib.crc32(block, crc)
                    digest.update(block)
                    self._job.check()
                    yield block
                if checksums.get(name, crc) != crc:
                    raise CorruptStore(
                        folder / name, "does not match its crc and is not shipped: run verify()"
                    )

        part = ShippedPart(folder.name, f"parts/{self._epoch:010}-{folder.name}", found, "")
        self._storage.put_pieces(below(self._prefix, part.object), pieces(), part.size)
        self.bytes_sent += part.size
        part = ShippedPart(part.name, part.object, found, digest.hexdigest())
        self._parts[part.name] = part  # also where a later step fails: the next try needs not send it again
        return part


def remove_old_drafts(session: Session) -> None:
    """Remove the moments that processes left behind which died while they shipped this store.

    A process holds a lock on its own, but for the time in which it is made.
    """
    files, start = session.files, session.path.name + _DRAFT
    for name in files.list_dir(session.path.parent):
        path = session.path.parent / name
        if name.startswith(start) and time.time() - files.stamp(path).changed_ns / 1e9 > BEING_MADE_S:
            with suppress(OSError):
                lock = files.lock(path)
                if lock is not None:
                    with lock:
                        remove_copy(files, path)


def _part_folders(files: Files, draft: Path) -> list[Path]:
    return [draft / PARTS / name for name in files.list_dir(draft / PARTS)]


def _checksums(files: Files, folder: Path) -> dict[str, int]:
    """The crc32 of each array file, as part.json has them; none where that cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        head = json.loads(files.read(folder / "part.json", _BLOCK))
        return {f"{name}.npy": int(entry["crc32"]) for name, entry in head["files"].items()}
    return {}


def _blocks(whole: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(whole), _BLOCK):
        yield whole[start : start + _BLOCK]


def _cut(numbers: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(numbers), most):
        yield numbers[start : start + most]
