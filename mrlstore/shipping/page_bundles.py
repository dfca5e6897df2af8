"""Bundles: pages of a catalogue as objects, so that only the pages that have changed are sent.

A bundle has a table, the number and the blake2b of each of its pages, and then the pages. The pages of a
snapshot are those of its bundles, of a page that is in several the last one. A change of a few rows touches
pages all over a catalogue, so a page, not a larger block, is the unit; and since an object costs the same
whatever its length, many pages go into one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.manifest import PageBundle, SnapshotManifest, below

_MAGIC: Final = b"mrlpage1"
_DIGEST: Final = 16  # bytes of the blake2b of a page and of a table
_HEAD: Final = len(_MAGIC) + 4 + 4 + _DIGEST  # magic, count and page_bytes as uint32, digest of the table
_ENTRY: Final = 4 + _DIGEST
MOST_BYTES: Final = 32 * 1024 * 1024  # pages of one bundle; held in memory while it is made
SMALL_BUNDLES: Final = 32  # so many bundles below half of MOST_BYTES may be there before some become one
_DIGESTS: Final = np.dtype(f"V{_DIGEST}")


@dataclass
class PageLedger:
    """Which bundle holds each page of the last snapshot, and what the pages were.

    page i of the catalogue: `digests[i]`, `owners[i]` as an index into `bundles`.
    """

    bundles: list[PageBundle] = field(default_factory=list)
    digests: NDArray[np.void] = field(default_factory=lambda: np.empty(0, _DIGESTS))
    owners: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @staticmethod
    def of(storage: ObjectStorage, prefix: str, manifest: SnapshotManifest) -> PageLedger:
        """That of a snapshot in object storage: the tables of all bundles are read."""
        ledger = PageLedger(
            list(manifest.bundles),
            np.zeros(manifest.pages, _DIGESTS),
            np.full(manifest.pages, -1, np.int32),
        )
        for number, bundle in enumerate(manifest.bundles):
            where = below(prefix, bundle.object)
            table = _table(storage.get_range(where, 0, _HEAD + _ENTRY * bundle.pages), where)
            there = table.numbers < manifest.pages
            ledger.digests[table.numbers[there]] = table.digests[there]
            ledger.owners[table.numbers[there]] = number
        if (ledger.owners < 0).any():
            raise CorruptStore(f"{storage.url}/{prefix}", "pages of the catalogue are in no bundle")
        return ledger

    def to_send(self, digests: NDArray[np.void]) -> NDArray[np.int64]:
        """The pages of a catalogue with these digests that new bundles must hold.

        Those that have changed, and those of bundles that are dropped: where less than half of the pages are
        still used, and the smaller half of the small bundles once these are many.
        """
        common = min(len(self.digests), len(digests))
        changed = np.ones(len(digests), np.bool_)
        changed[:common] = self.digests[:common] != digests[:common]
        kept = np.flatnonzero(~changed)
        used = np.bincount(self.owners[kept], minlength=len(self.bundles))
        dropped = {i for i, bundle in enumerate(self.bundles) if 2 * int(used[i]) < bundle.pages}
        small = [i for i, bundle in enumerate(self.bundles) if bundle.size < MOST_BYTES // 2]
        small = [i for i in small if i not in dropped]
        if len(small) > SMALL_BUNDLES:
            dropped |= set(sorted(small, key=lambda i: int(used[i]))[: len(small) // 2])
        moved = kept[np.isin(self.owners[kept], list(dropped))]
        return np.sort(np.concatenate((np.flatnonzero(changed), moved)))

    def replaced(
        self, digests: NDArray[np.void], sent: Sequence[tuple[PageBundle, NDArray[np.int64]]]
    ) -> PageLedger:
        """The ledger once these bundles are there. Bundles without a page in use are left out."""
        owners = np.full(len(digests), -1, np.int32)
        common = min(len(self.owners), len(digests))
        owners[:common] = self.owners[:common]
        bundles = [*self.bundles, *(bundle for bundle, _ in sent)]
        for number, (_, pages) in enumerate(sent, len(self.bundles)):
            owners[pages] = number
        used = np.unique(owners)
        assert not len(used) or used[0] >= 0, "a page is in no bundle"
        return PageLedger([bundles[i] for i in used], digests, np.searchsorted(used, owners).astype(np.int32))


def page_digests(pages: memoryview, page_bytes: int) -> NDArray[np.void]:
    """The blake2b of each page."""
    found = bytearray()
    for start in range(0, len(pages), page_bytes):
        found += hashlib.blake2b(pages[start : start + page_bytes], digest_size=_DIGEST).digest()
    return np.frombuffer(bytes(found), _DIGESTS)


def encoded(
    numbers: NDArray[np.int64], digests: NDArray[np.void], pages: memoryview, page_bytes: int
) -> bytes:
    """A bundle of these pages of a catalogue."""
    table = numbers.astype("<u4").tobytes() + digests[numbers].tobytes()
    head = _MAGIC + len(numbers).to_bytes(4, "little") + page_bytes.to_bytes(4, "little") + _digest(table)
    chosen = [pages[number * page_bytes : (number + 1) * page_bytes] for number in numbers.tolist()]
    return b"".join((head, table, *chosen))


@dataclass(frozen=True)
class BundleTable:
    """What a bundle holds: page numbers, uint32 [n], and their digests, [n]; page i lies at `starts + i`."""

    numbers: NDArray[np.uint32]
    digests: NDArray[np.void]
    page_bytes: int
    start: int  # where the first page begins in the bundle


def _table(data: bytes, where: str) -> BundleTable:
    head, table = data[:_HEAD], data[_HEAD:]
    count = int.from_bytes(head[8:12], "little")
    if head[:8] != _MAGIC or len(table) < count * _ENTRY:
        raise CorruptStore(where, "not a bundle of pages")
    table = table[: count * _ENTRY]
    if _digest(table) != head[16:]:
        raise CorruptStore(where, "the table of the bundle does not match its checksum")
    numbers = np.frombuffer(table, "<u4", count)
    digests = np.frombuffer(table, _DIGESTS, count, 4 * count)
    return BundleTable(numbers, digests, int.from_bytes(head[12:16], "little"), _HEAD + len(table))


def check_bundle(data: bytes, bundle: PageBundle) -> None:
    """Raise CorruptStore where the bytes of a bundle are not those that its name tells."""
    if len(data) != bundle.size or not bundle.object.endswith(content_name(data)):
        raise CorruptStore(bundle.object, "the bundle does not match the checksum in its name")


def table_of(data: memoryview, bundle: PageBundle, page_bytes: int) -> BundleTable:
    """The table of a whole bundle; CorruptStore where it holds other pages than the manifest says."""
    table = _table(bytes(data[: _HEAD + _ENTRY * bundle.pages]), bundle.object)
    whole = table.start + len(table.numbers) * page_bytes == len(data)
    if not whole or table.page_bytes != page_bytes or len(table.numbers) != bundle.pages:
        raise CorruptStore(bundle.object, "a bundle of other pages than the manifest says")
    return table


def content_name(data: bytes) -> str:
    """A name that belongs to these bytes."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def _digest(table: bytes) -> bytes:
    return hashlib.blake2b(table, digest_size=_DIGEST).digest()
