"""Writes the vectors of a store as an index file of hnswlib, with a file of ids beside it.

All rows are of one generation. hnswlib has no ids: row i is under the label i, and its id is line i of the
file, both counted from 0. `exchange.migrate` reads both back.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore, InvalidInput, StorageError, StoreExists
from mrlstore.index.hnsw import CHUNK, new_index
from mrlstore.storage.segment import Segment
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import Snapshot
from mrlstore.storage.tail import Tail
from mrlstore.system.job import Job
from mrlstore.system.log import log_event
from mrlstore.system.whole_file import sync_path
from mrlstore.types import HnswlibFiles

_BREAKS: Final = ("\n", "\r")  # characters that end a line of a file of ids


class _LiveRows(NamedTuple):
    """Some live rows of a snapshot."""

    holder: Segment | Tail
    rows: NDArray[np.int64]  # rows of the holder
    vectors: NDArray[np.float16]  # all of the holder, of which `rows` are meant


def export_hnswlib(
    session: Session, target: Path, names: Path, *, namespace: str | None, overwrite: bool, job: Job
) -> HnswlibFiles:
    """Write the files; neither appears before both are complete. Arguments as of `Store.export_hnswlib`."""
    for path in (target, names):
        _check_target(session, path, overwrite)
    if target == names:
        raise InvalidInput(f"{target} cannot hold both the index and the ids")
    started = time.perf_counter()
    snapshot = session.snapshots.latest()
    runs = list(_live_rows(snapshot, namespace))
    ids = [id for run in runs for id in run.holder.ids(run.rows.tolist())]
    _check_ids(ids, "the store" if namespace is None else f"namespace {namespace!r}")
    assert snapshot.dim is not None  # there are rows
    index = new_index("cosine", snapshot.dim, len(ids), session.settings.m, session.settings.ef_construction)
    _fill(index, runs, len(ids), session.threads, job)
    with session.storing(f"writing {target}"):
        _write(index, target, ids, names)
    log_event("exported", session.path, rows=len(ids), seconds=time.perf_counter() - started)
    return HnswlibFiles(len(ids), str(target), str(names))


def _write(index: Any, target: Path, ids: list[str], names: Path) -> None:
    """Write the index and the ids under hidden names, and give them theirs when both are complete."""
    hidden = [path.with_name(f".{secrets.token_hex(8)}.partial") for path in (target, names)]
    try:
        hidden[1].write_text("".join(f"{id}\n" for id in ids), encoding="utf-8", newline="")
        index.save_index(str(hidden[0]))
        _check_complete(hidden[0], index.index_file_size())
        for path in hidden:
            sync_path(path)
        for path, final in zip(hidden, (target, names), strict=True):
            os.replace(path, final)
        for folder in {target.parent, names.parent}:
            sync_path(folder)
    finally:
        for path in hidden:
            with suppress(FileNotFoundError):
                path.unlink()


def _live_rows(snapshot: Snapshot, namespace: str | None) -> Iterator[_LiveRows]:
    """All live rows of a namespace, or of all; CorruptStore where vectors are known to be damaged."""
    for part in snapshot.segments:
        segment = part.segment
        if segment.row.base.damaged:
            raise CorruptStore(segment.base.path, "its vectors are damaged: run repair()")
        for run in segment.runs():
            if namespace in (None, run.namespace):
                rows = np.arange(run.start, run.stop)
                if part.live is not None:
                    rows = rows[part.live[run.start : run.stop]]
                yield _LiveRows(segment, rows, segment.base.arrays["vectors"])
    if snapshot.tail is not None:
        rows = np.flatnonzero(snapshot.tail.mask(namespace, None))
        yield _LiveRows(snapshot.tail, rows, snapshot.tail.buffer.vectors)


def _check_ids(ids: list[str], place: str) -> None:
    """Refuse what a file of lines cannot hold."""
    if not ids:
        raise InvalidInput(f"export_hnswlib: {place} has no rows with a vector")
    broken = next((id for id in ids if any(character in id for character in _BREAKS)), None)
    if broken is not None:
        raise InvalidInput(f"export_hnswlib: the id {broken!r} has a line break: export_rows keeps such ids")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InvalidInput(f"export_hnswlib: {twice!r} is an id in several namespaces: name one of these")


def _fill(index: Any, runs: list[_LiveRows], total: int, threads: int, job: Job) -> None:
    """Give hnswlib the rows under the labels 0, 1, 2 ..., in chunks, between which the job may stop."""
    done = 0
    for run in runs:
        for start in range(0, len(run.rows), CHUNK):
            rows = run.rows[start : start + CHUNK]
            vectors = run.vectors[rows].astype(np.float32)
            index.add_items(vectors, np.arange(done, done + len(rows)), num_threads=threads)
            done += len(rows)
            job.step("exporting", done, total)


def _check_target(session: Session, path: Path, overwrite: bool) -> None:
    if session.path.resolve() in (path.resolve(), *path.resolve().parents):
        raise InvalidInput(f"{path} lies inside the store")
    if path.is_dir():
        raise StoreExists(f"{path} is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if path.exists() and not overwrite:
        raise StoreExists(f"{path} exists; overwrite=True (--force) replaces it")


def _check_complete(path: Path, size: int) -> None:
    """Hnswlib does not look whether its writes succeed: a full disk cuts its files short."""
    written = path.stat().st_size
    if written != size:
        raise StorageError(errno.EIO, f"hnswlib wrote {written:,} of {size:,} bytes", str(path))
