"""What an open store consists of, shared by everything that `Store` delegates to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mrlstore.catalogue import Catalogue
from mrlstore.errors import MrlStoreError, StorePoisoned
from mrlstore.storage.snapshot import Snapshots
from mrlstore.system.files import Files, storage_error
from mrlstore.types import Settings

if TYPE_CHECKING:
    from mrlstore.recall.audit import Audit

CATALOGUE, LOCK, PARTS = "catalogue.db", "LOCK", "parts"
_KEY_RANGE = 4_096


@dataclass
class Session:
    """One open store of one process."""

    path: Path
    files: Files
    catalogue: Catalogue
    snapshots: Snapshots
    threads: int
    audit: Audit | None = None
    _key_lock: threading.RLock = field(default_factory=threading.RLock)
    _next_key: int = 0
    _keys_left: int = 0

    @property
    def parts(self) -> Path:
        """The folder of all parts."""
        return self.path / PARTS

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self.catalogue.settings

    def take_keys(self, count: int) -> int:
        """The first of `count` consecutive row keys that nobody else has or will have."""
        with self._key_lock:
            if self._keys_left < count:
                wanted = max(count, _KEY_RANGE)
                self._next_key, self._keys_left = self.catalogue.reserve_keys(wanted), wanted
            first = self._next_key
            self._next_key += count
            self._keys_left -= count
            return first

    @contextmanager
    def storing(self, doing: str) -> Iterator[None]:
        """Give errors of the file system their type; one that leaves the disk's state unknown poisons."""
        try:
            yield
        except StorePoisoned as error:
            self.catalogue.poison(str(error))
            raise
        except MrlStoreError:
            raise
        except OSError as error:
            raise storage_error(error, doing) from error
        except RuntimeError as error:
            if "new thread" in str(error):
                raise MemoryError(f"{doing}: no memory for another thread") from error
            raise


def open_session(path: Path, files: Files, *, read_only: bool, threads: int) -> Session:
    """Open the catalogue of an existing store."""
    catalogue = Catalogue(files, path / CATALOGUE, read_only=read_only)
    return Session(path, files, catalogue, Snapshots(files, path / PARTS, catalogue), threads)
