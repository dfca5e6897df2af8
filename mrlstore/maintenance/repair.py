"""Repair: rebuilds what can be rebuilt, keeps every row that is whole, and says which vectors are lost.

Index and columns parts follow from the vectors and the catalogue. Of a damaged base part every row that is
whole is kept (`salvage` tells which), under the id that the catalogue gives its key; a row whose vector is
lost keeps its metadata and document, without a vector. Damaged folders go to `damaged/`, none is deleted.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrlstore.catalogue import keywords, rows, segments, settings, tail
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.part_ref import PartRef
from mrlstore.catalogue.rows import Row
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.errors import CorruptStore
from mrlstore.maintenance import steps as maintain
from mrlstore.maintenance import verify
from mrlstore.maintenance.salvage import salvage
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.session import Session
from mrlstore.system.files import CANNOT_LINK, remove_tree
from mrlstore.system.job import Job
from mrlstore.system.log import tell
from mrlstore.types import RepairReport
from mrlstore.writing.writer import transaction

DAMAGED = "damaged"


def repair(session: Session, job: Job) -> RepairReport:
    """Verify, mend what verify found, and verify again. LOCK is taken for all of it."""
    with maintain.take_lock(session, job.wait_s):
        try:
            return _repair(session, job)
        except CorruptStore as error:
            if Path(error.path) != session.catalogue.path:
                raise
            raise CorruptStore(
                error.path,
                f"{error.reason}; repair() does not mend the catalogue: restore a backup, or export the rest",
            ) from error


def _repair(session: Session, job: Job) -> RepairReport:
    verify.verify(session, job)
    _mend_keywords(session)
    lost = _drop_broken_tail_rows(session)
    aside: list[str] = []
    with session.catalogue.read() as connection:
        damaged = [row for row in segments.load(connection) if any(part.damaged for part in row.parts)]
    for row in damaged:
        leaving = row.parts if row.base.damaged else [part for part in row.parts if part.damaged]
        kept = [part for part in leaving if _keep_aside(session, part)]
        if row.base.damaged:
            lost += _salvage(session, row)
        else:
            _forget_derived(session, row)
        aside += [
            str(_leave(session, part, linked=part in kept)) for part in leaving if _is_there(session, part)
        ]
    maintain.complete_all(session, job)
    report = verify.verify(session, job)
    if damaged or lost:
        tell("repaired", session.path, level=logging.WARNING, segments=len(damaged), lost_rows=len(lost))
    return RepairReport(report.ok, len(damaged), tuple(sorted(lost)), tuple(aside), report)


def _mend_keywords(session: Session) -> None:
    """Make the keyword index anew from the documents if anything is wrong with it."""
    with session.catalogue.read() as connection:
        if not verify.keyword_problems(session, connection):
            return
    with session.catalogue.write() as write:
        tokenizer = settings.load(write.connection, session.catalogue.path).tokenizer
        keywords.rebuild(write.connection, tokenizer or keywords.DEFAULT_TOKENIZER)


def _forget_derived(session: Session, row: SegmentRow) -> None:
    """Name the damaged index or columns no more; they are built anew afterwards."""
    with session.catalogue.write() as write:
        for now in segments.load(write.connection):  # afresh: another process's verify() may have marked it
            if now.id == row.id:
                index = None if row.index is not None and row.index.damaged else now.index
                columns = None if row.columns is not None and row.columns.damaged else now.columns
                segments.replace(
                    write.connection, write.generation, replace(now, index=index, columns=columns)
                )


def _salvage(session: Session, row: SegmentRow) -> list[tuple[str, str]]:
    """Write the whole rows of a damaged base part as a new one; (namespace, id) of the rows that are lost."""
    with session.catalogue.read() as connection:
        generation = settings.generation(connection)
        saved = salvage(session, connection, row)
        known = _rows_without_place(connection, session, row)
        removed = set(tail.removed_since(connection, -1))
    keys = saved.arrays["keys"]
    kept = [i for i in np.flatnonzero(saved.whole).tolist() if int(keys[i]) in known]
    kept.sort(key=lambda i: (known[int(keys[i])].namespace, int(keys[i])))
    alive = {int(keys[i]) for i in kept}
    gone = [found for key, found in known.items() if key not in alive and key not in removed]
    parts = []
    if kept:
        taken = np.array(kept, dtype=np.int64)
        named = [known[key] for key in keys[taken].tolist()]
        parts.append(
            write_base(
                session.files,
                session.parts,
                session.settings.store_uuid,
                [found.namespace for found in named],
                [found.id for found in named],
                base_arrays(keys[taken], saved.arrays["vectors"][taken], saved.arrays["norms"][taken]),
            )
        )
    with transaction(session, parts) as write:
        segments.drop(write.connection, [row.id])
        for part in parts:
            segments.add(write.connection, write.generation, SegmentRow(0, generation, len(kept), part.ref))
        return _make_bare(write.connection, [found.key for found in gone])


def _rows_without_place(connection: Connection, session: Session, broken: SegmentRow) -> dict[int, Row]:
    """The catalogue's rows whose vector is neither in the tail nor in another segment, by key."""
    wanted = _keys(connection, "SELECT key FROM rows WHERE bare = 0")
    elsewhere = set(_keys(connection, "SELECT key FROM tail"))
    for row in segments.load(connection):
        if row.id != broken.id:
            saved = salvage(session, connection, row)
            elsewhere.update(saved.arrays["keys"][saved.whole].tolist())
    return {row.key: row for row in rows.by_key(connection, [key for key in wanted if key not in elsewhere])}


def _keys(connection: Connection, sql: str) -> list[int]:
    found: list[tuple[int]] = connection.execute(sql).fetchall()  # type: ignore[assignment]  # STRICT
    return [key for (key,) in found]


def _make_bare(connection: Connection, lost: list[int]) -> list[tuple[str, str]]:
    """Keep rows whose vector is lost, without one; (namespace, id) of those that are still there.

    Others may write during a repair: a row that was replaced or deleted meanwhile is not touched.
    """
    current = list(rows.by_key(connection, lost))
    for row in current:
        rows.remove(connection, row.namespace, [row.id])
        rows.insert(connection, [row._replace(bare=True)])
    return [(row.namespace, row.id) for row in current]


def _drop_broken_tail_rows(session: Session) -> list[tuple[str, str]]:
    """Take tail rows with a wrong checksum out; (namespace, id) of each."""
    with session.catalogue.read() as connection:
        if not _broken_tail_rows(connection):
            return []
    with session.catalogue.write() as write:
        broken = _broken_tail_rows(write.connection)
        tail.remove(write.connection, write.generation, broken)
        return _make_bare(write.connection, broken)


def _broken_tail_rows(connection: Connection) -> list[int]:
    broken = []
    for key in _keys(connection, "SELECT key FROM tail"):
        try:
            tail.vectors(connection, [key])
        except CorruptStore:
            broken.append(key)
    return broken


def _is_there(session: Session, part: PartRef) -> bool:
    return part.name in session.files.list_dir(session.parts)


def _keep_aside(session: Session, part: PartRef) -> bool:
    """Give a folder's files second names in `damaged/`, ahead of the commit that names it no more.

    After a crash between the two garbage collection would take the only ones. False where files cannot have
    two names, or something else is in their place; the folder is then moved after the commit.
    """
    files, source, target = session.files, session.parts / part.name, session.path / DAMAGED / part.name
    if not _is_there(session, part):
        return False
    for folder in (target.parent, target):
        with suppress(FileExistsError):  # of a repair that did not come to its end
            files.make_dir(folder)
        files.sync_dir(folder.parent)
    try:
        for name in files.list_dir(source):
            with suppress(FileExistsError):
                files.link(source / name, target / name)
        files.sync_dir(target)
    except OSError as error:
        remove_tree(files, target)
        if error.errno not in (*CANNOT_LINK, errno.EISDIR):
            raise
        return False
    return True


def _leave(session: Session, part: PartRef, *, linked: bool) -> Path:
    """Take a folder that is named no more out of `parts/`; gives where its files are."""
    files, source, target = session.files, session.parts / part.name, session.path / DAMAGED / part.name
    if linked:
        remove_tree(files, source)
    else:
        with suppress(FileExistsError):
            files.make_dir(target.parent)
        files.rename(source, target)
        files.sync_dir(target.parent)
    files.sync_dir(session.parts)
    return target
