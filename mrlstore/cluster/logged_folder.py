"""The copy of the only shard of a home as a store at a path of its own, open while its writers change."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mrlstore.cluster.home import Home
from mrlstore.cluster.shard_copy import HeldStore, ShardCopy
from mrlstore.cluster.shard_store import ShardStore, settings_of
from mrlstore.errors import CorruptStore, InvalidInput, StoreNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.storage import create, log_place
from mrlstore.storage.log_place import LogPlace
from mrlstore.system.files import Files, make_parents
from mrlstore.system.log import log_event
from mrlstore.system.names import beside

_DRAFT = ".restored-"
_OLD = ".replaced-"


class LoggedFolder(ShardCopy):
    """A store whose content the log decides. Whoever makes it holds the lock that keeps other writers out.

    The store is opened once and given to callers, so that it cannot be replaced by a snapshot any more: a
    successor of the writer that finds one stops with WriterReplaced.
    """

    def __init__(
        self,
        home: Home,
        storage: ObjectStorage,
        path: Path,
        opened: Callable[[Path], ShardStore],
        files: Files,
    ) -> None:
        super().__init__(home, 0, storage, path.parent, auto_maintain=False, files=files)
        self._path, self._make, self._given = path, opened, False

    def handed_out(self) -> ShardStore:
        """The store, for callers."""
        self._given = True
        return self.store

    def start(self) -> None:
        """Open the store; before it is handed out, one that is behind the newest snapshot is restored."""
        newest = self.snapshots.newest()
        if self._held is None:
            self._remove_drafts()
            found = self._found()
            if found is not None:
                self._held = HeldStore(found)
        behind = self._held is None or (newest is not None and newest.place > self.mark.place)
        if behind and self._given:
            raise self.replaced_by(self.newest_epoch())
        if behind:
            self._make_anew(restored=newest is not None)

    def close(self) -> None:
        """Nothing: the store stays open for its callers, and for the next writer of this process."""

    def shut(self) -> None:
        """Close the store."""
        held, self._held = self._held, None
        if held is not None:
            held.store.close()

    def _found(self) -> ShardStore | None:
        """The store at the path; None where there is none, or one that has to be restored."""
        try:
            there = log_place.read(self._files, self._path)
            if there is None and any(self._files.list_dir(self._path)):
                raise InvalidInput(
                    f"{self._path}: something is there that is not a copy of the log at {self.storage.url}. "
                    "Give another path; the rows of a store go into a log by `mrlstore cluster import STORE "
                    "URL`, and are restored from there"
                )
            if there is not None and there.home != self.home.uuid:
                raise InvalidInput(f"{self._path}: belongs to another log, at {there.url}; give another path")
            return None if there is None else self._make(self._path)
        except (FileNotFoundError, StoreNotFound):
            return None
        except CorruptStore as error:
            log_event("copy of a log dropped", self._path, str(error))
            return None

    def _make_anew(self, *, restored: bool) -> None:
        """Put a new store at the path: that of the newest snapshot, or an empty one."""
        self.shut()
        fresh = beside(self._path, f"{_DRAFT}{uuid.uuid4().hex}")
        if restored:
            self.snapshots.restore(fresh, like=self._path)
        else:
            make_parents(self._files, fresh)
            create.ensure(self._files, fresh, "a", settings_of(self.home))
        log_place.write(self._files, fresh, LogPlace(self.storage.url, self.home.uuid))
        with suppress(FileNotFoundError):
            self._files.rename(self._path, beside(self._path, f"{_OLD}{uuid.uuid4().hex}"))
        self._files.rename(fresh, self._path)
        self._files.sync_dir(self._path.parent)
        self._remove_drafts()
        self._held = HeldStore(self._make(self._path))

    def _remove_drafts(self) -> None:
        """Remove what this process, or one that died, has put beside the path."""
        starts = tuple(beside(self._path, suffix).name for suffix in (_DRAFT, _OLD))
        for name in self._files.list_dir(self._path.parent):
            if name.startswith(starts):
                shutil.rmtree(self._path.parent / name, ignore_errors=True)
