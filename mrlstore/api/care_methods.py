"""The methods of `Store` that look after it: statistics, maintenance, checks, backup, warming."""

from __future__ import annotations

import os

from mrlstore.api import arguments
from mrlstore.api.arguments import ProgressCallback
from mrlstore.api.handle import Handle
from mrlstore.maintenance import repair, steps, verify
from mrlstore.storage import backup, statistics
from mrlstore.types import RepairReport, Stats, VerifyReport


class CareMethods(Handle):
    """Maintenance of a store; each method checks its arguments and delegates."""

    def stats(self) -> Stats:
        """The state of the store: rows, segments, bytes."""
        session = self._session
        with session.storing("looking at the store"):
            return statistics.stats(session)

    def optimize(self, progress: ProgressCallback | None = None, timeout_s: float | None = None) -> None:
        """Flush, merge and index everything committed before this call, and give disk space back.

        Waits up to `timeout_s` seconds (an hour by default) while another process indexes, then raises
        StoreLocked. Queries and writes go on meanwhile. Ctrl-C leaves everything as it was.
        """
        session, job = self._writable(), arguments.check_job(progress, timeout_s)
        with self._background_paused():
            steps.optimize(session, job)

    def verify(self, progress: ProgressCallback | None = None) -> VerifyReport:
        """Check every checksum, range and cross-reference; damaged parts are marked for every process."""
        session, job = self._session, arguments.check_job(progress)
        with session.storing("verifying"):
            return verify.verify(session, job)

    def repair(
        self, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> RepairReport:
        """Rebuild damaged indexes and columns, keep every row that is whole, tell which vectors are lost.

        Damaged files are moved to `damaged/` in the store. A row whose vector is lost keeps its metadata and
        document. Damage to the catalogue itself is not repaired: restore a backup. Raises StoreLocked as
        `optimize` does.
        """
        session, job = self._writable(), arguments.check_job(progress, timeout_s)
        with self._background_paused(), session.storing("repairing"):
            return repair.repair(session, job)

    def backup(self, dest: str | os.PathLike[str]) -> None:
        """Make `dest` a store of its own with the present content: parts are hard links where possible.

        Writers go on meanwhile. Complete and synced when this returns; StoreExists if `dest` exists.
        """
        session, target = self._session, arguments.check_path(dest)
        with session.storing(f"writing a backup to {target}"):
            backup.backup(session, target)

    def warm(self) -> None:
        """Load the kernels and bring codes and graphs into memory, so that the first query is fast."""
        steps.warm(self._session)
