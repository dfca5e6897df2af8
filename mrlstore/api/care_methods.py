"""The methods of `Store` that look after it: statistics, maintenance, checks, backup, warming."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrlstore.api import arguments
from mrlstore.api.arguments import ProgressCallback
from mrlstore.api.handle import Handle
from mrlstore.checks import check_flag, check_namespace
from mrlstore.maintenance import steps
from mrlstore.storage import statistics
from mrlstore.system.job import callback_errors
from mrlstore.system.late import LateModule
from mrlstore.types import HnswlibFiles, RepairReport, Stats, VerifyReport

if TYPE_CHECKING:
    from mrlstore import object_storage, shipping
    from mrlstore.maintenance import repair, verify
    from mrlstore.shipping import Shipping
    from mrlstore.storage import backup, hnswlib_export
else:
    repair, verify = LateModule("mrlstore.maintenance.repair"), LateModule("mrlstore.maintenance.verify")
    backup = LateModule("mrlstore.storage.backup")
    object_storage, shipping = LateModule("mrlstore.object_storage"), LateModule("mrlstore.shipping")
    hnswlib_export = LateModule("mrlstore.storage.hnswlib_export")


class CareMethods(Handle):
    """Maintenance of a store; each method checks its arguments and delegates."""

    def stats(self) -> Stats:
        """The state of the store: rows, segments, bytes."""
        session = self._session
        with session.storing("looking at the store"):
            return statistics.stats(session)

    @callback_errors()
    def optimize(self, progress: ProgressCallback | None = None, timeout_s: float | None = None) -> None:
        """Flush, merge and index everything committed before this call, and give disk space back.

        Waits up to `timeout_s` seconds (an hour by default) while another process indexes, then raises
        StoreLocked. Queries and writes go on meanwhile. Ctrl-C leaves everything as it was.
        """
        session, job = self._writable(), arguments.check_job(progress, timeout_s)
        with self._background_paused():
            steps.optimize(session, job)

    @callback_errors()
    def verify(self, progress: ProgressCallback | None = None) -> VerifyReport:
        """Check every checksum, range and cross-reference; damaged parts are marked for every process."""
        session, job = self._session, arguments.check_job(progress)
        with session.storing("verifying"):
            return verify.verify(session, job)

    @callback_errors()
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

    @callback_errors()
    def backup(self, dest: str | os.PathLike[str], progress: ProgressCallback | None = None) -> None:
        """Make `dest` a store of its own with the present content: parts are hard links where possible.

        Writers go on meanwhile. Complete and synced when this returns; StoreExists if `dest` exists. Where
        `progress` raises an error, nothing is left at `dest`.
        """
        session, target = self._session, arguments.check_path(dest)
        job = arguments.check_job(progress)
        with session.storing(f"writing a backup to {target}"):
            backup.backup(session, target, job)

    def ship(
        self,
        url: str | os.PathLike[str],
        *,
        every_s: float = 10.0,
        keep: int = 2,
        options: Mapping[str, Any] | None = None,
    ) -> Shipping:
        """Keep a copy of the store in object storage up to date, in a background thread.

        It sends snapshots that show the store at one moment, as `backup` does: each part once, and of the
        catalogue only the pages that have changed. Any number of processes may write meanwhile; one process
        ships, which may be one of them. The copy lacks what was committed in the last `every_s` seconds and
        while a snapshot is made; `stats()` tells how far behind it is. `mrlstore.shipping.restore` makes a
        store from the copy. See docs/object-storage.md.

        Args:
            url: "s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix" or a folder: a place for
                this store alone. Buckets need mrlstore[object-storage].
            every_s: seconds between two snapshots while something is written; more if a snapshot takes long.
            keep: how many of the newest snapshots stay, 2 or more; what they do not need is removed.
            options: for buckets, what obstore takes, such as `region`, `endpoint`, `access_key_id`,
                `server_side_encryption`, `client_options`. What is not given comes from the environment.
                Nothing of it is stored.

        Returns:
            A `Shipping`, whose `now` ships at once and returns when it is done. Shipping ends when the store
            is closed, at `stop`, or at the end of a `with` block. After a fork only the parent ships.

        Raises:
            InvalidInput: an argument is wrong, another store is shipped there, or a newer copy of this one.
            ObjectStorageError: the place cannot be used, or its `create` does not exclude others.
        """
        arguments.check_shipping(every_s, keep)
        storage = object_storage.open_storage(url, options)
        return shipping.Shipping(self._session, storage, every_s, keep)

    @callback_errors()
    def export_hnswlib(
        self,
        path: str | os.PathLike[str],
        ids: str | os.PathLike[str] | None = None,
        *,
        namespace: str | None = None,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
    ) -> HnswlibFiles:
        """Write all live rows that have a vector as one index of hnswlib, with a file of ids beside it.

        Args:
            path: the index. `hnswlib.Index("cosine", dim)` loads it; row i has the label i. Metadata and
                documents are not in it; `mrlstore.exchange.export_rows` writes these.
            ids: a text file, UTF-8, whose line i, counted from 0, is the id of label i; by default `path`
                with the ending .ids.txt.
            namespace: only rows of this one; None takes all, if no id is in two of them.
            overwrite: replace files that are there.
            progress: called with how much is done.

        Returns:
            How many rows were written, and the paths. Both files are complete and synced, and the rows of one
            generation; a call that fails leaves neither. The vectors have unit length, to float16 precision;
            the graph is built with the store's m and ef_construction. While it is built hnswlib holds 4 x dim
            bytes a row.

        Raises:
            InvalidInput: no rows, an id with a line break or in several namespaces, or a path in the store.
            StoreExists: a file is there already. FileNotFoundError: the folder is not.
            ImportError: hnswlib is not installed. MemoryError: hnswlib lacks memory.
            StorageError, StorageFull: the files could not be written.
        """
        session, job = self._session, arguments.check_job(progress)
        index = arguments.check_file(path, "path")
        names = index.with_suffix(".ids.txt") if ids is None else arguments.check_file(ids, "ids")
        if namespace is not None:
            check_namespace(namespace)
        check_flag(overwrite, "overwrite")
        return hnswlib_export.export_hnswlib(
            session, index, names, namespace=namespace, overwrite=overwrite, job=job
        )

    def warm(self) -> None:
        """Load the kernels and bring codes and graphs into memory, so that the first query is fast."""
        steps.warm(self._session)
