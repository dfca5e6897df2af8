"""The protocol of one shard as a model: what is in object storage, writers and followers, each step by step.

One step of a process is one call to object storage and what the process then does by itself. Between two
steps anything may happen to it: it may sleep while others take many steps, crash, or lose its disk. A put may
be late: its sender hears nothing, and it arrives at some later step or never. Deletions are late always.

Content is reduced to the operations that it holds, in order; a log place holds one operation, or a claim.

With `local` a writer acknowledges what its folder has, and creates the log places of it behind that. Then the
loss of a disk, and a writer elsewhere that begins meanwhile, may cost what was not uploaded: these operations
are `excused`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Rule = Literal[
    "look before acknowledging",
    "look before applying",
    "look before replaying",
    "look after claiming",
    "look before following",
    "look before removing",
    "list before looking",
    "void entries",
    "newest snapshot at the start",
    "nothing read below the snapshot",
    "nothing created below the snapshot",
    "contiguous entries",
    "own operation recognised",
    "operations count once",
    "manifest last",
    "complete manifests only",
    "a snapshot of one's own epoch",
    "one's own last snapshot",
    "names are not used again",
    "abandoned copies are dropped",
    "what was kept is uploaded before the claim",
    "look after uploading",
    "uploaded in order",
]


class Entry(NamedTuple):
    """An object of the log."""

    place: int
    epoch: int
    operation: str | None  # None: a claim


class PartName(NamedTuple):
    """The name of an immutable part of a snapshot."""

    epoch: int
    mark: int


class Manifest(NamedTuple):
    """A snapshot: it is put under (epoch, mark), and counts while all parts that it names are there."""

    epoch: int
    mark: int
    content: tuple[str, ...]
    claimed: int  # the greatest epoch that had claimed the log up to the mark
    parts: frozenset[PartName]


class Folder(NamedTuple):
    """A copy on the disk of a node: the content up to a place of the log."""

    mark: int = 0
    content: tuple[str, ...] = ()
    claimed: int = 0
    base: PartName | None = None  # the part that the next snapshot shares with the one before


class Removal(NamedTuple):
    """Deletions that were sent and may arrive at any time; one bundle arrives as one."""

    objects: frozenset[PartName | Manifest | Entry | int]  # an int: the log place, whatever lies there then


class Writer(NamedTuple):
    """A process that starts, claims the log and writes; `state` says what it does next."""

    state: str = "down"
    epoch: int = 0
    folder: Folder = Folder()
    operation: str | None = None  # that is being written
    entry: Entry | None = None  # that was read and is not applied
    snapshot: Manifest | None = None  # that is being shipped
    removal: tuple[frozenset[PartName | Manifest], int] | None = None  # found; and the log up to a place
    shipped: int = 0  # the mark of the last snapshot that was begun in this epoch, whatever became of it
    queue: tuple[Entry, ...] = ()  # with `local`: acknowledged, not uploaded, and on the disk
    found: Manifest | None = None  # with `local`: the newest snapshot when it started


class Follower(NamedTuple):
    """A process that only reads."""

    state: str = "start"
    folder: Folder = Folder()
    entry: Entry | None = None


class World(NamedTuple):
    """Object storage, what is on its way there, the processes, and what clients were told."""

    epochs: int = 0  # they are numbered without gaps and never removed
    log: frozenset[Entry] = frozenset()
    parts: frozenset[PartName] = frozenset()
    manifests: frozenset[Manifest] = frozenset()
    late: frozenset[Entry | Manifest | Removal] = frozenset()
    writers: tuple[Writer, ...] = ()
    followers: tuple[Follower, ...] = ()
    acknowledged: frozenset[str] = frozenset()
    excused: frozenset[str] = frozenset()
    uploaded: frozenset[str] = frozenset()  # operations of which `stats()` says so, with `local`
    late_puts: int = 0  # how many puts were late so far
    crashes: int = 0
    snapshots: int = 0  # how many were begun
    collections: int = 0


class Bounds(NamedTuple):
    """How far the exploration goes."""

    writers: int = 2
    followers: int = 0
    operations: tuple[str, ...] = ("x", "y")
    epochs: int = 2
    late_puts: int = 0
    crashes: int = 0
    lost_disks: bool = False
    snapshots: int = 0
    collections: int = 0
    local: bool = False

    def start(self) -> World:
        """Everything empty, nobody started."""
        return World(writers=(Writer(),) * self.writers, followers=(Follower(),) * self.followers)


def entry_at(world: World, place: int) -> Entry | None:
    """What the log has at a place."""
    for entry in world.log:
        if entry.place == place:
            return entry
    return None


def with_entry(folder: Folder, entry: Entry, off: frozenset[Rule]) -> Folder:
    """The folder after the entry, which stands behind its mark."""
    mark, content, claimed, base = folder
    if entry.epoch < claimed and "void entries" not in off:
        return Folder(entry.place, content, claimed, base)
    if entry.operation is None:
        return Folder(entry.place, content, max(claimed, entry.epoch), base)
    return Folder(entry.place, (*content, entry.operation), claimed, base)


def newest(world: World, off: frozenset[Rule]) -> Manifest | None:
    """The newest snapshot that counts."""
    trusting = "complete manifests only" in off
    whole = [one for one in world.manifests if trusting or one.parts <= world.parts]
    return max(whole, key=lambda one: (one.epoch, one.mark), default=None)


def restored(manifest: Manifest) -> Folder:
    """The folder that a snapshot gives."""
    return Folder(manifest.mark, manifest.content, manifest.claimed, PartName(manifest.epoch, manifest.mark))


def recovered(world: World, off: frozenset[Rule]) -> tuple[str, ...] | None:
    """What somebody reads who starts now with an empty disk and is not disturbed; None: it is damaged."""
    manifest = newest(world, off)
    folder = Folder()
    if manifest is not None:
        if not manifest.parts <= world.parts:
            return None
        folder = restored(manifest)
    while (entry := entry_at(world, folder.mark + 1)) is not None:
        folder = with_entry(folder, entry, off)
    return folder.content


def arrivals(world: World) -> Iterator[World]:
    """What was late arrives. A put of a name that is taken has no effect."""
    for one in world.late:
        left = world.late - {one}
        if isinstance(one, Entry):
            taken = entry_at(world, one.place) is not None
            yield world._replace(late=left, log=world.log if taken else world.log | {one})
        elif isinstance(one, Manifest):
            yield world._replace(late=left, manifests=world.manifests | {one})
        else:
            gone = one.objects
            yield world._replace(
                late=left,
                log=frozenset(entry for entry in world.log if entry.place not in gone),
                parts=world.parts - gone,
                manifests=world.manifests - gone,
            )
