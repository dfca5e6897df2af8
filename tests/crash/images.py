"""What a disk may hold after a power cut: a model of files and folders whose unsynced changes may be lost.

The log of a recorded workload is fed in operation by operation. At any point `image` writes out one disk
that a crash there could leave: everything synced, and any subset of what was not, each write possibly torn.
Folders are as strict as POSIX allows: an entry lasts once its folder was synced, whatever became of the file.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.seam import Op


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, None): cut there
    fresh: bool = True  # not synced since SQLite made it


@dataclass(frozen=True)
class _Entry:
    """A pending change of a folder: `node` None removes the name."""

    folder: int
    name: str
    node: int | None
    group: int  # changes of one group (a rename) happen together


class Disk:
    """The model. Paths are absolute strings below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.files: dict[int, _File] = {}
        self.folders: dict[int, dict[str, int]] = {0: {}}  # as the running process sees it
        self.lasting: dict[int, dict[str, int]] = {0: {}}  # as it is on the medium
        self.pending: list[_Entry] = []
        self._next = 1

    def feed(self, op: Op) -> None:
        """Take the next operation of the log."""
        if not op.path.startswith(self.root):
            return
        if op.verb == "create":
            self.files[self._next] = _File()
            self._enter(op.path, self._next)
            self._next += 1
        elif op.verb == "make_dir":
            self.folders[self._next], self.lasting[self._next] = {}, {}
            self._enter(op.path, self._next)
            self._next += 1
        elif op.verb == "link":
            self._enter(op.other, self._find(op.path))
        elif op.verb in ("unlink", "remove_dir"):
            self._enter(op.path, None)
        elif op.verb == "rename":
            node = self._find(op.path)
            self._enter(op.path, None)
            self._enter(op.other, node, group=self._next - 1)
        elif op.verb == "write":
            self.files[self._find(op.path)].pending.append((op.offset, op.data))
        elif op.verb == "truncate":
            self.files[self._find(op.path)].pending.append((op.offset, None))
        elif op.verb == "sync":
            self._sync_file(op.path)
        elif op.verb == "sync_dir":
            self._sync_folder(self._find(op.path))

    def unsynced(self) -> int:
        """How many changes a crash could lose now."""
        return len(self.pending) + sum(len(file.pending) for file in self.files.values())

    def image(self, target: Path, rng: random.Random, keep: float) -> None:
        """Write one possible disk to `target`: each unsynced change is kept with probability `keep`."""
        entries = {number: dict(names) for number, names in self.lasting.items()}
        kept: dict[int, bool] = {}
        for change in self.pending:
            if kept.setdefault(change.group, rng.random() < keep):
                self._apply(entries, change)
        self._write_folder(entries, 0, target, rng, keep)

    def _find(self, path: str) -> int:
        node = 0
        for part in self._parts(path):
            node = self.folders[node][part]
        return node

    def _parts(self, path: str) -> list[str]:
        return [part for part in path[len(self.root) :].split("/") if part]

    def _enter(self, path: str, node: int | None, group: int | None = None) -> None:
        *above, name = self._parts(path)
        folder = 0
        for part in above:
            folder = self.folders[folder][part]
        number = self._next if group is None else group
        self._next += group is None
        change = _Entry(folder, name, node, number)
        self._apply(self.folders, change)
        self.pending.append(change)

    @staticmethod
    def _apply(entries: dict[int, dict[str, int]], change: _Entry) -> None:
        if change.node is None:
            entries[change.folder].pop(change.name, None)
        else:
            entries[change.folder][change.name] = change.node

    def _sync_file(self, path: str) -> None:
        file = self.files[self._find(path)]
        for write in file.pending:
            _put(file.durable, write)
        file.pending = []
        if file.fresh and path.endswith(("-wal", "-journal")):  # SQLite syncs the folder of a new log as well
            self._sync_folder(self._find(path.rsplit("/", 1)[0]))
        file.fresh = False

    def _sync_folder(self, folder: int) -> None:
        groups = {change.group for change in self.pending if change.folder == folder}
        for change in self.pending:
            if change.group in groups:
                self._apply(self.lasting, change)
        self.pending = [change for change in self.pending if change.group not in groups]

    def _write_folder(
        self, entries: dict[int, dict[str, int]], node: int, target: Path, rng: random.Random, keep: float
    ) -> None:
        target.mkdir()
        for name, number in entries[node].items():
            if number in self.folders:
                self._write_folder(entries, number, target / name, rng, keep)
            elif not name.endswith("-shm"):
                (target / name).write_bytes(self._content(self.files[number], rng, keep))

    @staticmethod
    def _content(file: _File, rng: random.Random, keep: float) -> bytes:
        data = bytearray(file.durable)
        for offset, piece in file.pending:
            if rng.random() >= keep:
                continue
            if piece and rng.random() < 0.2:  # torn: a prefix, in sectors or in bytes
                cut = rng.randrange(len(piece))
                piece = piece[: cut // 512 * 512 if rng.random() < 0.5 else cut]
            _put(data, (offset, piece))
        return bytes(data)


def _put(data: bytearray, write: tuple[int, bytes | None]) -> None:
    offset, piece = write
    if piece is None:
        if offset < len(data):
            del data[offset:]
        else:
            data.extend(bytes(offset - len(data)))
        return
    if not piece:
        return
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def same_tree(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files, -shm apart."""

    def content(root: Path) -> dict[str, bytes]:
        return {
            os.path.relpath(path, root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and not path.name.endswith("-shm")
        }

    return content(left) == content(right)
