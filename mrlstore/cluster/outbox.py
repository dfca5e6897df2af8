"""`Outbox`: entries that are acknowledged and not in the log yet, as files beside the copy of a shard.

With durability="local" a writer keeps an entry here, applies it and acknowledges it; the log has it later.
What a killed process has left is uploaded by the next writer, before it claims the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from mrlstore.errors import MrlStoreError, ObjectStorageError, ShardUnavailable
from mrlstore.shared_log import LogEntry, LogObjects, decoded, encoded
from mrlstore.system.files import Files, make_parents, storage_error, write_file

MOST_BYTES: Final = 64 * 1024 * 1024  # that wait; then writes wait too
_ROOM_S: Final = 10.0  # for which a write waits for others to be uploaded
_LIMIT: Final = 1 << 32
_RETRY_S: Final = (0.05, 5.0)  # the first wait after a failure, and the longest; each is twice the last


class Kept(NamedTuple):
    """An entry that waits to be uploaded."""

    place: int
    size: int
    since: float  # time.monotonic


class Outbox:
    """The files of one shard, named by their places in the log."""

    def __init__(self, files: Files, folder: Path) -> None:
        self._files, self.folder = files, folder

    def keep(self, entry: LogEntry) -> Kept:
        """Keep an entry; synced when this returns."""
        data = encoded(entry)
        path = self._path(entry.place)
        make_parents(self._files, path)
        write_file(self._files, path, [data])
        self._files.sync_dir(self.folder)
        return Kept(entry.place, len(data), time.monotonic())

    def kept(self) -> list[Kept]:
        """What is kept, in the order of the log."""
        try:
            names = sorted(name for name in self._files.list_dir(self.folder) if name.isdigit())
        except FileNotFoundError:
            return []
        now = time.monotonic()
        return [Kept(int(name), self._files.size(self.folder / name), now) for name in names]

    def read(self, place: int) -> LogEntry:
        """An entry that is kept; CorruptStore where it is damaged."""
        path = self._path(place)
        return decoded(self._files.read(path, _LIMIT), str(path))

    def remove(self, place: int) -> None:
        """Keep an entry no longer."""
        with suppress(FileNotFoundError):
            self._files.unlink(self._path(place))

    def clear(self) -> None:
        """Keep nothing: the copy that these entries belong to is dropped."""
        for one in self.kept():
            self.remove(one.place)

    def _path(self, place: int) -> Path:
        return self.folder / f"{place:016}"


class Uploader:
    """A thread that creates the log places of what an outbox keeps, in their order."""

    def __init__(
        self,
        outbox: Outbox,
        log: LogObjects,
        look: Callable[[], None],
        taken: Callable[[LogEntry], MrlStoreError],
        ended: Callable[[MrlStoreError], None],
    ) -> None:
        """`look` raises WriterReplaced; `taken` says who has a place; `ended` gets the last error."""
        self._outbox, self._log = outbox, log
        self._look, self._taken, self._ended = look, taken, ended
        self._changed = threading.Condition()
        self._waiting = list[Kept]()
        self._stopped = False
        self.error: MrlStoreError | None = None  # of the last try
        self.place = 0  # up to which the log has all that was acknowledged
        self._thread = threading.Thread(target=self._run, name="mrlstore-upload", daemon=True)

    def begin(self, place: int) -> None:
        """Go on behind a place, up to which the log has everything."""
        self.place = place
        self._thread.start()

    def upload(self, kept: Kept) -> None:
        """Create one log place, and look at the epochs; the entry is kept no longer when this returns.

        Raises:
            WriterReplaced, CorruptStore: another has the place, or a later epoch has begun.
            ObjectStorageError: it is unknown whether the log has it; another call finds out.
        """
        entry = self._outbox.read(kept.place)
        if not self._log.create(entry):
            raise self._taken(entry)
        self._look()
        self._outbox.remove(kept.place)
        self.place = kept.place

    def add(self, kept: Kept) -> None:
        """Upload an entry that was kept and acknowledged."""
        with self._changed:
            self._waiting.append(kept)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until less than 64 MB are behind; ShardUnavailable where object storage takes nothing."""
        self._wait(lambda: sum(one.size for one in self._waiting) < MOST_BYTES, _ROOM_S)

    def wait_for(self, place: int, timeout_s: float) -> None:
        """Wait until the log has everything up to a place; ShardUnavailable if it has not in time."""
        self._wait(lambda: self.place >= place, timeout_s)

    def behind_s(self) -> float:
        """For how long the oldest entry waits; 0 where none does."""
        with self._changed:
            return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    def stop(self) -> None:
        """End the thread after the request that is under way; what waits is kept."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _wait(self, reached: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: reached() or self._stopped, timeout_s) or not reached():
                raise ShardUnavailable(
                    f"{self._log.storage.url}: object storage is behind by {len(self._waiting)} writes"
                    + ("" if self.error is None else f": {self.error}")
                )

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
                if self._stopped or (pause and self._changed.wait_for(lambda: self._stopped, pause)):
                    return
                first = self._waiting[0]
            try:
                self.upload(first)
            except ObjectStorageError as error:
                self.error, pause = error, min(_RETRY_S[1], 2 * pause or _RETRY_S[0])
                continue
            except MrlStoreError as error:
                self.error = error
                self._ended(error)
                return
            except OSError as error:
                self.error = storage_error(error, "uploading what was acknowledged")
                self._ended(self.error)
                return
            except Exception as error:
                self.error = ShardUnavailable(f"uploading what was acknowledged: {error!r}")
                self._ended(self.error)
                raise
            self.error, pause = None, 0.0
            with self._changed:
                self._waiting.pop(0)
                self._changed.notify_all()
