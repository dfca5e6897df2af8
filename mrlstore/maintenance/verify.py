"""verify(): checks every checksum and range, and compares the catalogue with the parts in both directions.

A damaged part is marked in the catalogue. Every process then works around it, or refuses queries that need
it, until it is repaired. The report says what is wrong, where, and what to do.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import calibrations, keywords, marks, questions, rows, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection, begin_again, translated
from mrlstore.catalogue.part_ref import PartKind, PartRef
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.columns import InvalidColumns, open_columns
from mrlstore.errors import CorruptStore, FormatTooNew, MrlStoreError
from mrlstore.index.build import built_by, has_graphs
from mrlstore.index.verification import verify_index
from mrlstore.maintenance.row_verification import verify_rows
from mrlstore.planning import calibration_curves
from mrlstore.storage.base_part import check_base
from mrlstore.storage.parts import Part, check_part, open_part
from mrlstore.storage.row_texts import SegmentTexts, open_texts
from mrlstore.storage.session import Session
from mrlstore.storage.vector_rows import row_checksums
from mrlstore.system.job import Job
from mrlstore.system.log import log_event
from mrlstore.types import Problem, VerifyReport

_PAGE = 1_000  # rows that are read at a time
_CONTENT: dict[PartKind, str] = {"base": "the vectors", "index": "the graph", "columns": "the columns"}
_TRIES = 3  # while parts are merged away under verification
_REPAIR = (
    "run repair(): it is rebuilt from the vectors and the catalogue; until then answers are right, and slower"
)
_REPAIR_KEYWORDS = (
    "run repair(): the keyword index is rebuilt from the documents; the rows themselves are right"
)
_LOST = (
    "restore a backup, or run repair(), which keeps every undamaged vector and names the ids that have lost "
    "theirs; until then vector queries of these namespaces are refused, while get, scan and count work"
)
_CATALOGUE = "restore a backup: ids, metadata and documents are in the catalogue only"


@dataclass
class _Findings:
    """What a verification has found so far."""

    job: Job
    total: int = 0
    checked: int = 0
    parts: int = 0
    rows_by_graph: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)  # names of parts

    def add(self, path: Path, what: str, remedy: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(str(path), what, remedy))

    def count(self, bytes_read: int) -> None:
        """Report progress."""
        self.checked += bytes_read
        self.job.step("verify", self.checked, max(self.total, self.checked))


def verify(session: Session, job: Job) -> VerifyReport:
    """Check everything that the newest generation names; marks damaged parts unless opened read only."""
    started = time.perf_counter()
    session.catalogue.connections.check_not_replaced()
    for _ in range(_TRIES):
        count, named, found = begin_again(lambda: _check_generation(session, job))
        if not found.damaged & (named - _named_parts(session)):
            break  # else a part that looked damaged was merged away and removed meanwhile
    if found.damaged and not session.catalogue.read_only:
        _mark(session, found.damaged)
    log_event(
        "verified",
        session.path,
        level=logging.ERROR if found.problems else logging.INFO,
        problems=len(found.problems),
        rows=count,
        seconds=time.perf_counter() - started,
    )
    return VerifyReport(
        not found.problems,
        tuple(found.problems),
        count,
        found.parts,
        found.checked,
        dict(found.rows_by_graph),
    )


def _check_generation(session: Session, job: Job) -> tuple[int, set[str], _Findings]:
    """Check everything in one read transaction: (number of rows, names of the parts, findings)."""
    with session.catalogue.read() as connection:
        settings.generation(connection)
        found = _Findings(job)
        count = _check_catalogue(session, connection, found)
        try:
            with translated(session.catalogue.path):
                named = segments.load(connection)
        except MrlStoreError as error:
            found.add(session.catalogue.path, _reason(error), _CATALOGUE)
            named = []
        found.total = _bytes_of(session, named)
        held_keys = [held for row in named for held in _check_segment(session, connection, row, found)]
        _check_vectors_of_rows(session, connection, held_keys, found)
    return count, {part.name for row in named for part in row.parts}, found


def _named_parts(session: Session) -> set[str]:
    """The parts that the catalogue names now."""
    try:
        with session.catalogue.read() as connection:
            return {part.name for row in segments.load(connection) for part in row.parts}
    except MrlStoreError:
        return set()  # reported already


def _check_catalogue(session: Session, connection: Connection, found: _Findings) -> int:
    """SQLite's own check, then the crc of every row; returns the number of rows."""
    path, total = session.catalogue.path, 0
    try:
        with translated(path):
            for (words,) in connection.execute("PRAGMA integrity_check"):
                if words != "ok" and "fts5" not in words.lower():  # the keyword index is checked below
                    found.add(path, f"SQLite's integrity_check: {words}", _CATALOGUE)
            counted: Counter[str] = Counter()
            without_vector: Counter[str] = Counter()
            for row in _all_rows(connection):
                total += 1
                counted[row.namespace] += 1
                without_vector[row.namespace] += row.without_vector
            counts = {name: rows.Count(counted[name], without_vector[name]) for name in counted}
            if counts != rows.namespaces(connection):
                found.add(path, "the counts of namespaces differ from the numbers of their rows", _CATALOGUE)
            tail_rows.removed_since(connection, -1)
            tail_rows.since(connection, -(2**63))
            for name in ("floor_gen", "generation", "next_key"):
                settings.get_int(connection, name)
            settings.load(connection, path)
            marks.load(connection)
            for words in marks.problems(connection):
                found.add(path, words, _CATALOGUE)
            for words in (
                *calibrations.problems(connection),
                *_forged_curves(connection),
            ):
                found.add(path, words, "run calibrate() or optimize(): it is measured again")
            for words in questions.problems(connection):
                found.add(path, words, "it is left out; drop_questions() deletes all that are kept")
    except MrlStoreError as error:
        found.add(path, _reason(error), _CATALOGUE)
    remedy = _CATALOGUE if found.problems else _REPAIR_KEYWORDS
    for words in keyword_problems(session, connection):
        found.add(path, words, remedy)
    return total


def _forged_curves(connection: Connection) -> Iterator[str]:
    """A sentence for each calibration with values that no calibration writes, though its crc fits."""
    for stored in calibrations.load(connection):
        try:
            calibration_curves.read(*stored)
        except ValueError as error:
            yield f"the calibration for k {stored.k}, class {stored.filters!r} cannot be used: {error}"


def keyword_problems(session: Session, connection: Connection) -> list[str]:
    """A sentence for everything that is wrong with the keyword index; none if an old store has no index."""
    try:
        with translated(session.catalogue.path):
            if settings.load(connection, session.catalogue.path).tokenizer is None:
                return []
            return [f"the keyword index {words}" for words in keywords.problems(connection)]
    except MrlStoreError as error:
        return [f"the keyword index cannot be read: {_reason(error)}"]


def _reason(error: MrlStoreError) -> str:
    """What happened, without the path, which is reported beside it."""
    return error.reason if isinstance(error, CorruptStore) else str(error)


def _all_rows(connection: Connection) -> Iterator[rows.Row]:
    keys = [key for (key,) in connection.execute("SELECT key FROM rows ORDER BY key")]
    for start in range(0, len(keys), _PAGE):
        yield from rows.by_key(connection, keys[start : start + _PAGE])


def _bytes_of(session: Session, named: list[SegmentRow]) -> int:
    total = 0
    for row in named:
        for part in row.parts:
            try:
                total += sum(
                    session.files.size(session.parts / part.name / name)
                    for name in session.files.list_dir(session.parts / part.name)
                )
            except (OSError, CorruptStore):
                continue
    return total


def _check_segment(
    session: Session, connection: Connection, row: SegmentRow, found: _Findings
) -> Iterator[NDArray[np.int64]]:
    """Check the parts of a segment; yields the keys of its rows, unless they are damaged."""
    base = _open(session, row, row.base, "base", found, _LOST)
    if base is None:
        return
    problems = [] if row.base.name in found.damaged else _base_problems(base, row.rows)
    texts = _check_columns(session, row, found)
    if not problems and row.base.name not in found.damaged:
        with (
            suppress(MrlStoreError),
            translated(session.catalogue.path),
        ):  # damage to the catalogue is reported already
            differing = verify_rows(connection, base, texts)
            if differing.names:
                problems = [f"{differing.names} rows have another id or namespace than in the catalogue"]
            for kind, count in differing.texts.items():
                if count and row.columns is not None:
                    words = f"{count} rows have other {kind} than in the catalogue"
                    found.add(session.parts / row.columns.name, words, _REPAIR)
                    found.damaged.add(row.columns.name)
        yield np.asarray(base.arrays["keys"])
    for words in problems:
        found.add(base.path, words, _LOST)
        found.damaged.add(row.base.name)
    if row.index is not None:
        index = _open(session, row, row.index, "index", found, _REPAIR)
        if index is not None and has_graphs(index.arrays):
            found.rows_by_graph[str(built_by(index.info))] += row.rows
        if index is not None and row.base.name not in found.damaged:
            _report(found, index, verify_index(index.arrays, index.info, base.arrays["groups"]))


def _check_columns(session: Session, row: SegmentRow, found: _Findings) -> SegmentTexts | None:
    """Check the columns part of a segment; the texts in it, if they can be compared with the catalogue."""
    if row.columns is None:
        return None
    part = _open(session, row, row.columns, "columns", found, _REPAIR)
    if part is None:
        return None
    try:
        _report(found, part, open_columns(part.arrays["columns"]).verify())
    except (InvalidColumns, KeyError) as error:
        _report(found, part, [str(error)])
    try:
        if part.ref.name not in found.damaged and part.rows == row.rows:
            return open_texts(part, lambda: _add_once(found, part, "texts of rows do not match their crc"))
    except CorruptStore as error:
        _report(found, part, [f"{Path(error.path).name} {error.reason}"])
    return None


def _add_once(found: _Findings, part: Part, words: str) -> None:
    if part.ref.name not in found.damaged:
        _report(found, part, [words])


def _report(found: _Findings, part: Part, problems: list[str]) -> None:
    for words in problems:
        found.add(part.path, words, _REPAIR)
        found.damaged.add(part.ref.name)


def _open(
    session: Session, row: SegmentRow, ref: PartRef, kind: PartKind, found: _Findings, remedy: str
) -> Part | None:
    """Open a part of a segment and check its checksums; None if it cannot be opened."""
    path, content = session.parts / ref.name, f"{_CONTENT[kind]} of {row.rows:,} rows"
    found.parts += 1
    try:
        part = open_part(session.files, session.parts, ref, kind, session.settings.store_uuid)
        problems = check_part(session.files, part, found.count)
    except FileNotFoundError as error:
        name = Path(error.filename or path).name if path.exists() else "the folder"
        found.add(path, f"{content}: {name} is missing", remedy)
    except (
        CorruptStore
    ) as error:  # a StorageError is raised: it may be passing, such as a lack of descriptors
        found.add(path, f"{content}: {Path(error.path).name}: {error.reason}", remedy)
    except FormatTooNew as error:
        found.add(path, f"{content}: {error}", remedy)
    else:
        for words in problems:
            found.add(path, f"{content}: {words}", remedy)
            found.damaged.add(ref.name)
        if ref.damaged and ref.name not in found.damaged:
            found.add(path, "is marked as damaged, though its checksums match", remedy)
        return part
    found.damaged.add(ref.name)
    return None


def _base_problems(base: Part, count: int) -> list[str]:
    """What is wrong with ranges and orders within a base part."""
    try:
        check_base(base, count)
    except CorruptStore as error:
        return [error.reason]
    arrays, problems = base.arrays, []
    for offsets, end in (
        ("groups", base.rows),
        ("ids.offsets", len(arrays["ids.bytes"])),
        ("namespaces.offsets", len(arrays["namespaces.bytes"])),
    ):
        values = arrays[offsets]
        if values[0] != 0 or values[-1] != end or np.any(np.diff(values) < 0):
            problems.append(f"{offsets}.npy does not increase from 0 to {end}")
    order = arrays["key_order"]
    if np.any((order < 0) | (order >= base.rows)) or np.any(np.diff(arrays["keys"][order]) <= 0):
        problems.append("keys.npy in the order of key_order.npy does not increase")
    if not problems:
        broken = np.count_nonzero(damaged_rows(base))
        if broken:
            problems.append(f"{broken} rows do not match their crc in row_crcs.npy")
    return problems


def damaged_rows(base: Part) -> NDArray[np.bool_]:
    """Which rows do not match their crc: bool [rows]."""
    arrays = base.arrays
    crcs = row_checksums(arrays["keys"], arrays["norms"], arrays["inv_norms"], arrays["vectors"])
    return np.asarray(crcs != arrays["row_crcs"])


def _check_vectors_of_rows(
    session: Session, connection: Connection, held_keys: list[NDArray[np.int64]], found: _Findings
) -> None:
    """Check that every row with a vector has it exactly once, and that every other vector is removed."""
    try:
        with translated(session.catalogue.path):
            wanted = np.array(
                [key for (key,) in connection.execute("SELECT key FROM rows WHERE bare = 0")], dtype=np.int64
            )
            waiting = np.array([key for (key,) in connection.execute("SELECT key FROM tail")], dtype=np.int64)
            removed = np.array(tail_rows.removed_since(connection, -1), dtype=np.int64)
    except MrlStoreError:
        return  # reported already
    held = np.concatenate([*held_keys, waiting])
    live = np.setdiff1d(held, removed)
    path = session.catalogue.path
    if len(np.unique(held)) < len(held):
        found.add(path, f"{len(held) - len(np.unique(held))} vectors are stored twice", _LOST)
    if not found.damaged:
        missing, surplus = np.setdiff1d(wanted, live), np.setdiff1d(live, wanted)
        if len(missing):
            found.add(path, f"{len(missing)} rows have lost their vector, key {missing[0]} first", _LOST)
        if len(surplus):
            found.add(path, f"{len(surplus)} vectors belong to no row, key {surplus[0]} first", _LOST)


def _mark(session: Session, damaged: set[str]) -> None:
    """Mark damaged parts in the catalogue, for every process."""
    with session.catalogue.write() as write:
        for row in segments.load(write.connection):
            marked = replace(
                row,
                base=_marked(row.base, damaged),
                index=row.index and _marked(row.index, damaged),
                columns=row.columns and _marked(row.columns, damaged),
            )
            if marked != row:
                segments.replace(write.connection, write.generation, marked)


def _marked(part: PartRef, damaged: set[str]) -> PartRef:
    return replace(part, damaged=True) if part.name in damaged else part
