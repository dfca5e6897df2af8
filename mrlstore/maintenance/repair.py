"""repair(): rebuilds what can be rebuilt, keeps every undamaged row, and reports which vectors are lost.

Index and columns parts are rebuilt from the vectors and the catalogue. Of a damaged base part all undamaged
rows are kept (see `salvage`), with the ids that the catalogue has for their keys. A row whose vector is lost
keeps its metadata and document, without a vector. Damaged folders are moved to `damaged/`, none is deleted.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrlstore.catalogue import keywords, rows, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.part_ref import PartRef
from mrlstore.catalogue.rows import Row
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.errors import CorruptStore
from mrlstore.index.build import require_builder
from mrlstore.maintenance import steps, verify
from mrlstore.maintenance.salvage import salvage
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.session import Session
from mrlstore.system.files import CANNOT_LINK, remove_tree
from mrlstore.system.job import Job
from mrlstore.system.log import log_event
from mrlstore.types import RepairReport
from mrlstore.writing.writer import transaction

DAMAGED = "damaged"


def repair(session: Session, job: Job) -> RepairReport:
    """Verify, repair what is damaged, and verify again, holding LOCK."""
    with steps.take_lock(session, job.wait_s):
        try:
            return _repair(session, job)
        except CorruptStore as error:
            if Path(error.path) != session.catalogue.path:
                raise
            raise CorruptStore(
                error.path,
                f"{error.reason}; repair() cannot repair the catalogue: restore a backup, or export the rest",
            ) from error


def _repair(session: Session, job: Job) -> RepairReport:
    with suppress(CorruptStore):  # of the setting itself, which verify() reports
        require_builder(steps.index_settings(session).graph)
    verify.verify(session, job)
    _repair_keywords(session)
    lost = _drop_broken_tail_rows(session)
    aside: list[str] = []
    with session.catalogue.read() as connection:
        damaged = [row for row in segments.load(connection) if any(part.damaged for part in row.parts)]
    for row in damaged:
        leaving = row.parts if row.base.damaged else [part for part in row.parts if part.damaged]
        kept = [part for part in leaving if _link_aside(session, part)]
        if row.base.damaged:
            lost += _salvage(session, row)
        else:
            _drop_damaged_derived(session, row)
        aside += [
            str(_move_aside(session, part, linked=part in kept))
            for part in leaving
            if _is_there(session, part)
        ]
    steps.complete_all(session, job)
    report = verify.verify(session, job)
    if damaged or lost:
        log_event("repaired", session.path, level=logging.WARNING, segments=len(damaged), lost_rows=len(lost))
    return RepairReport(report.ok, len(damaged), tuple(sorted(lost)), tuple(aside), report)


def _repair_keywords(session: Session) -> None:
    """Rebuild the keyword index from the documents if anything is wrong with it."""
    with session.catalogue.read() as connection:
        if not verify.keyword_problems(session, connection):
            return
    with session.catalogue.write() as write:
        tokenizer = settings.load(write.connection, session.catalogue.path).tokenizer
        keywords.rebuild(write.connection, tokenizer or keywords.DEFAULT_TOKENIZER)


def _drop_damaged_derived(session: Session, row: SegmentRow) -> None:
    """Remove damaged index or columns parts from a segment; they are rebuilt afterwards."""
    with session.catalogue.write() as write:
        for now in segments.load(
            write.connection
        ):  # read again: verify() of another process may have marked it
            if now.id == row.id:
                index = None if row.index is not None and row.index.damaged else now.index
                columns = None if row.columns is not None and row.columns.damaged else now.columns
                segments.replace(
                    write.connection, write.generation, replace(now, index=index, columns=columns)
                )


def _salvage(session: Session, row: SegmentRow) -> list[tuple[str, str]]:
    """Write the undamaged rows of a damaged base part as a new one; returns what is lost, (namespace, id)."""
    with session.catalogue.read() as connection:
        generation = settings.generation(connection)
        saved = salvage(session, connection, row)
        known = _rows_only_in(connection, session, row)
        removed = set(tail_rows.removed_since(connection, -1))
    keys = saved.arrays["keys"]
    kept = [i for i in np.flatnonzero(saved.undamaged).tolist() if int(keys[i]) in known]
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
        return _drop_vectors(write.connection, [found.key for found in gone])


def _rows_only_in(connection: Connection, session: Session, broken: SegmentRow) -> dict[int, Row]:
    """The catalogue's rows, by key, whose vector is neither in the tail nor in another segment."""
    wanted = _keys(connection, "SELECT key FROM rows WHERE bare = 0")
    elsewhere = set(_keys(connection, "SELECT key FROM tail"))
    for row in segments.load(connection):
        if row.id != broken.id:
            saved = salvage(session, connection, row)
            elsewhere.update(saved.arrays["keys"][saved.undamaged].tolist())
    return {row.key: row for row in rows.by_key(connection, [key for key in wanted if key not in elsewhere])}


def _keys(connection: Connection, sql: str) -> list[int]:
    found: list[tuple[int]] = connection.execute(sql).fetchall()  # type: ignore[assignment]  # STRICT
    return [key for (key,) in found]


def _drop_vectors(connection: Connection, lost: list[int]) -> list[tuple[str, str]]:
    """Keep rows whose vector is lost, without a vector; returns (namespace, id) of each.

    A row that another process has replaced or deleted since is not touched.
    """
    current = list(rows.by_key(connection, lost))
    for row in current:
        rows.remove(connection, row.namespace, [row.id])
        rows.insert(connection, [row._replace(without_vector=True)])
    return [(row.namespace, row.id) for row in current]


def _drop_broken_tail_rows(session: Session) -> list[tuple[str, str]]:
    """Remove tail rows that do not match their crc; returns (namespace, id) of each."""
    with session.catalogue.read() as connection:
        if not tail_rows.broken(connection):
            return []
    with session.catalogue.write() as write:
        broken = tail_rows.broken(write.connection)
        tail_rows.remove(write.connection, write.generation, broken)
        return _drop_vectors(write.connection, broken)


def _is_there(session: Session, part: PartRef) -> bool:
    return part.name in session.files.list_dir(session.parts)


def _link_aside(session: Session, part: PartRef) -> bool:
    """Hard-link a folder's files into `damaged/`, before the commit that drops the folder.

    If the process died between the commit and a move, garbage collection would remove the only copy. Returns
    False where there are no hard links, or an entry is no file; the folder is then moved after the commit.
    """
    files, source, target = session.files, session.parts / part.name, session.path / DAMAGED / part.name
    if not _is_there(session, part) or any(
        files.is_strange(source / name) for name in files.list_dir(source)
    ):
        return False
    for folder in (target.parent, target):
        with suppress(FileExistsError):  # of a repair that was interrupted
            files.make_dir(folder)
        files.sync_dir(folder.parent)
    try:
        for name in files.list_dir(source):
            try:
                files.link(source / name, target / name)
            except FileExistsError:
                if files.stamp(source / name) != files.stamp(target / name):
                    raise CorruptStore(target / name, "is in the way of a damaged file: move it") from None
        files.sync_dir(target)
    except OSError as error:
        remove_tree(files, target)
        if error.errno not in (*CANNOT_LINK, errno.EISDIR):
            raise
        return False
    return True


def _move_aside(session: Session, part: PartRef, *, linked: bool) -> Path:
    """Take a folder that the catalogue no longer names out of `parts/`; returns where its files are."""
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
