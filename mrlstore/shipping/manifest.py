"""Manifests: what one snapshot of a store in object storage consists of.

A snapshot is a moment of a store as `backup()` makes it. Its manifest names the parts, each one object, and
the bundles that hold the pages of the catalogue. It is put last, and counts only if everything that it names
is there with its length. Snapshots are ordered by (epoch, place): the epoch of the process that ships, and
the place in its order of writes, which is the generation of a store that is shipped by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from mrlstore.errors import CorruptStore, FormatTooNew, ObjectNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.system.log import log_event

FORMAT: Final = 1
_FOLDER: Final = "snapshots"
_NAME: Final = re.compile(r"(\d{10})-(\d{20})\.json")
_PART: Final = re.compile(r"[0-9a-f]{32}")
_OBJECT: Final = re.compile(r"(parts/\d{10}-[0-9a-f]{32}|catalogue/\d{10}-[0-9a-f]{32}-[0-9a-f]{40})")
_FILE: Final = re.compile(r"[a-z][a-z0-9_.]{0,70}\.(npy|json)")
_LIMIT: Final = 64 * 1024 * 1024  # bytes of a manifest; a real one has a few thousand


class SnapshotRef(NamedTuple):
    """Which snapshot: refs are ordered as snapshots are."""

    epoch: int
    place: int

    def object_name(self, prefix: str) -> str:
        """The name of its manifest."""
        return f"{below(prefix, _FOLDER)}/{self.epoch:010}-{self.place:020}.json"


class ShippedFile(NamedTuple):
    """A file of a part, and its length in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class ShippedPart:
    """A part as one object: its files one behind the other."""

    name: str  # of the part
    object: str  # the name of the object, below the prefix
    files: tuple[ShippedFile, ...]
    digest: str  # blake2b of the object, 32 bytes as hex

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class PageBundle:
    """An object that holds pages of a catalogue. Its name ends with the blake2b of its bytes."""

    object: str
    pages: int
    size: int


@dataclass(frozen=True)
class SnapshotManifest:
    """One snapshot."""

    epoch: int
    place: int
    store_uuid: str
    generation: int
    rows: int
    taken: str  # when, as ISO 8601 in UTC: for people, nothing is decided by it
    page_bytes: int
    pages: int  # of the catalogue
    bundles: tuple[PageBundle, ...]  # a page that is in several counts in the last of them
    parts: tuple[ShippedPart, ...]

    @property
    def ref(self) -> SnapshotRef:
        """Which snapshot it is."""
        return SnapshotRef(self.epoch, self.place)

    def objects(self) -> dict[str, int]:
        """The names, below the prefix, of all objects that it needs, and their lengths."""
        sizes = {part.object: part.size for part in self.parts}
        return sizes | {bundle.object: bundle.size for bundle in self.bundles}

    def encoded(self) -> bytes:
        """It as bytes, with a checksum."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return f'{{"blake2b":"{_digest(text)}","manifest":{text}}}'.encode()


def below(prefix: str, name: str) -> str:
    """The name of an object or a folder below a prefix, which may be empty."""
    return f"{prefix}/{name}" if prefix else name


def decoded(data: bytes, where: str) -> SnapshotManifest:
    """The manifest of these bytes; CorruptStore or FormatTooNew where it cannot be read."""
    try:
        text = data.decode()
        body = text[text.index('"manifest":') + len('"manifest":') : -1]
        outer = json.loads(text)
        found = outer["manifest"]
        if outer["blake2b"] != _digest(body):
            raise CorruptStore(where, "a manifest that does not match its checksum")
        if found.pop("format") > FORMAT:
            raise FormatTooNew(f"{where}: written by a newer mrlstore; upgrade mrlstore to restore it")
        return _checked(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptStore(where, f"no manifest of a snapshot ({error!r:.200})") from error


def read_manifest(storage: ObjectStorage, prefix: str, ref: SnapshotRef) -> SnapshotManifest:
    """The manifest of a snapshot; ObjectNotFound where there is none, CorruptStore where it is damaged."""
    name = ref.object_name(prefix)
    manifest = decoded(storage.get(name, _LIMIT), f"{storage.url}/{name}")
    if manifest.ref != ref:
        raise CorruptStore(f"{storage.url}/{name}", "the manifest of another snapshot")
    return manifest


def snapshot_refs(storage: ObjectStorage, prefix: str) -> list[SnapshotRef]:
    """All snapshots that have a manifest, the newest first, complete or not."""
    folder = below(prefix, _FOLDER)
    found = (_NAME.fullmatch(each.name[len(folder) + 1 :]) for each in storage.list_objects(folder))
    return sorted((SnapshotRef(int(each[1]), int(each[2])) for each in found if each), reverse=True)


def stored_sizes(storage: ObjectStorage, prefix: str) -> dict[str, int]:
    """Name, below the prefix, and length of every part and bundle that is there."""
    cut = len(prefix) + 1 if prefix else 0
    return {
        each.name[cut:]: each.size
        for folder in ("parts", "catalogue")
        for each in storage.list_objects(below(prefix, folder))
    }


def is_complete(manifest: SnapshotManifest, sizes: Mapping[str, int]) -> bool:
    """Whether everything that it names is there with its length."""
    return all(sizes.get(name) == size for name, size in manifest.objects().items())


def newest_complete(storage: ObjectStorage, prefix: str = "") -> SnapshotManifest | None:
    """The newest snapshot of which everything is there; None if there is none.

    One whose objects are missing is stepped over and logged: it was put by a process that others have
    overtaken, or its objects were removed. CorruptStore if a newer manifest is damaged: what it says is not
    known, so an older snapshot would be a guess; a chosen one can still be restored.
    """
    before = None
    while True:
        refs = snapshot_refs(storage, prefix)
        found = _first_complete(storage, prefix, refs)
        # None of these: each may have been removed, once a newer one was there, before it was looked at.
        if found is not None or refs in ([], before):
            return found
        before = refs


def _first_complete(
    storage: ObjectStorage, prefix: str, refs: Iterable[SnapshotRef]
) -> SnapshotManifest | None:
    for ref in refs:
        try:
            manifest = read_manifest(storage, prefix, ref)
        except ObjectNotFound:  # removed since the listing
            continue
        if is_complete(manifest, stored_sizes(storage, prefix)):
            return manifest
        log_event("incomplete snapshot", storage.url, "stepped over", epoch=ref.epoch, place=ref.place)
    return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _checked(found: dict[str, Any]) -> SnapshotManifest:
    """A manifest of plain JSON values: names lead nowhere else, numbers are such."""
    bundles = tuple(PageBundle(**each) for each in found.pop("bundles"))
    parts = []
    for each in found.pop("parts"):
        files = tuple(ShippedFile(*file) for file in each.pop("files"))
        part = ShippedPart(files=files, **each)
        names = [file.name for file in files]
        if not _PART.fullmatch(part.name) or not all(map(_FILE.fullmatch, names)):
            raise ValueError(f"a part {part.name!r:.50} with files {names!r:.200}")
        parts.append(part)
    manifest = SnapshotManifest(bundles=bundles, parts=tuple(parts), **found)
    numbers: list[object] = [
        manifest.epoch,
        manifest.place,
        manifest.generation,
        manifest.rows,
        manifest.pages,
        manifest.page_bytes,
    ]
    numbers += [number for each in bundles for number in (each.pages, each.size)]
    numbers += [file.size for part in parts for file in part.files]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("a number below 0, or none")
    if not all(map(_OBJECT.fullmatch, manifest.objects())):
        raise ValueError("the name of an object that is neither a part nor a bundle")
    if manifest.pages > sum(each.pages for each in bundles):
        raise ValueError("more pages than the bundles have")
    if any(each.pages * manifest.page_bytes > each.size for each in bundles):
        raise ValueError("a bundle with more pages than it is long")
    if manifest.page_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
        raise ValueError(f"pages of {manifest.page_bytes} bytes")
    return manifest
