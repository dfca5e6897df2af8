"""Backups: hard links of the parts and a copy of the catalogue, of one generation, while others write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from mrlstore.catalogue import marks, rows, segments, settings
from mrlstore.catalogue.connection import AGAIN_S, Overtaken, begin_again
from mrlstore.catalogue.identity import LOCK
from mrlstore.catalogue.part_ref import PartKind, PartRef
from mrlstore.errors import CorruptStore, FormatTooNew, InvalidInput, StoreExists
from mrlstore.storage.parts import read_entries
from mrlstore.storage.session import CATALOGUE, PARTS, Session
from mrlstore.system import late
from mrlstore.system.files import CANNOT_LINK, Files, make_parents, remove_tree, write_file
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.system.log import log_event
from mrlstore.system.names import beside

_BLOCK: Final = 8 * 1024 * 1024  # bytes copied at a time, where files cannot be linked
_LINKING: Final = "parts"  # the phases that are reported
_COPYING: Final = "catalogue"


class CopiedMoment(NamedTuple):
    """What a copy holds: a generation, the mark of that time, and so many rows."""

    generation: int
    mark: marks.Mark
    rows: int


def backup(session: Session, target: Path, job: Job = UNWATCHED) -> CopiedMoment:
    """Make `target` a store of its own that holds this one's generation of now; it must not exist.

    What the job's callback raises ends it before the target exists.
    """
    if os.path.lexists(target):
        raise StoreExists(f"{target} exists; a backup goes to a new path")
    if session.path in (target, *target.parents):
        raise InvalidInput(f"{target} lies inside the store; a backup goes to a path of its own")
    session.catalogue.connections.check_not_replaced()
    make_parents(session.files, target)
    started = time.perf_counter()
    before = -1
    while True:
        generation = begin_again(lambda: _generation(session))
        draft = beside(target, f".tmp-{late.uuid.uuid4().hex}")
        try:
            moment = _write(session, draft, job)
            if os.path.lexists(target):
                raise StoreExists(f"{target} appeared while the backup was made")
            session.files.rename(draft, target)
            session.files.sync_dir(target.parent)
            log_event("backed up", session.path, target=str(target), seconds=time.perf_counter() - started)
            return moment
        except FileNotFoundError as error:  # a part was merged away and removed meanwhile: start again
            if Path(error.filename or "").is_relative_to(draft):
                raise  # the backup's own folder is gone
            if generation == before:
                raise CorruptStore(error.filename, "is missing, but the catalogue names it") from error
            before = generation
        except Overtaken:
            if time.perf_counter() - started > AGAIN_S:
                raise
        finally:
            if os.path.lexists(draft):
                with suppress(OSError):
                    remove_copy(session.files, draft)


def _generation(session: Session) -> int:
    with session.catalogue.read() as connection:
        return settings.generation(connection)


def _write(session: Session, draft: Path, job: Job) -> CopiedMoment:
    files = session.files
    files.make_dir(draft)
    files.make_dir(draft / PARTS)
    with session.catalogue.read() as connection:
        generation = settings.generation(connection)  # the transaction sees this one from here on
        moment = CopiedMoment(generation, marks.load(connection), rows.count(connection, None).rows)
        parts = [each for row in segments.load(connection) for each in row.parts_by_kind.items()]
        job.step(_LINKING, 0, len(parts))
        for done, (kind, part) in enumerate(parts, 1):
            _link_part(session, kind, part, draft / PARTS / part.name)
            job.step(_LINKING, done, len(parts))
        job.step(_COPYING, 0, 1)
        session.catalogue.backup(draft / CATALOGUE, connection)
    write_file(files, draft / LOCK, [])
    for folder in (draft / PARTS, draft):
        files.sync_dir(folder)
    job.step(_COPYING, 1, 1)
    return moment


def _link_part(session: Session, kind: PartKind, part: PartRef, target: Path) -> None:
    """Hard-link the files of a part into a folder of the backup, or copy them where that is impossible."""
    files, source = session.files, session.parts / part.name
    files.make_dir(target)
    for name in _files_of(session, kind, part):
        try:
            files.link(source / name, target / name)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            write_file(files, target / name, _blocks(files, source / name))
    files.sync_dir(target)


def _files_of(session: Session, kind: PartKind, part: PartRef) -> list[str]:
    """The files of a part. A list of its folder would lack those that garbage collection has just removed."""
    if not part.damaged:
        with suppress(CorruptStore, FormatTooNew):  # not found before by verify()
            entries = read_entries(session.files, session.parts, part, kind, session.settings.store_uuid)
            return ["part.json", *(f"{name}.npy" for name in entries)]
    folder = session.parts / part.name
    there = [name for name in session.files.list_dir(folder) if name.endswith((".json", ".npy"))]
    return [name for name in there if not session.files.is_strange(folder / name)]


def _blocks(files: Files, path: Path) -> Iterator[memoryview]:
    size = files.size(path)
    if size:
        whole = memoryview(files.map(path, size))
        for start in range(0, size, _BLOCK):
            yield whole[start : start + _BLOCK]


def remove_copy(files: Files, path: Path) -> None:
    """Remove a copy of a store that nobody has opened; the parts of the store itself stay."""
    with suppress(FileNotFoundError):
        for name in files.list_dir(path / PARTS):
            remove_tree(files, path / PARTS / name)
        files.remove_dir(path / PARTS)
    remove_tree(files, path)
