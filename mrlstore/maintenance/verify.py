"""Verification: every checksum, every range, and the catalogue against the parts, both ways.

What is found damaged in a part is marked in the catalogue, so that every process works around it or refuses
it until it is repaired. The report says what is wrong, where, and what to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import calibrations, keywords, rows, segments, settings, tail
from mrlstore.catalogue.connection import Connection, translated
from mrlstore.catalogue.part_ref import PartRef
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.columns import InvalidColumns, open_columns
from mrlstore.errors import CorruptStore, FormatTooNew, MrlStoreError
from mrlstore.index.verification import verify_index
from mrlstore.storage.base_part import check_base
from mrlstore.storage.parts import Kind, Part, check_part, open_part
from mrlstore.storage.session import Session
from mrlstore.storage.texts import unpack
from mrlstore.storage.vector_rows import row_checksums
from mrlstore.system.job import Job
from mrlstore.system.log import tell
from mrlstore.types import Problem, VerifyReport

_PAGE = 1_000
_HOLDS: dict[Kind, str] = {"base": "the vectors", "index": "the graph", "columns": "the filter columns"}
_TRIES = 3
_REPAIR = (
    "run repair(): it is rebuilt from the vectors and the catalogue; until then answers are right, and slower"
)
_REPAIR_KEYWORDS = "run repair(): the keyword index is rebuilt from the documents; rows are not concerned"
_LOST = (
    "restore a backup, or run repair(), which keeps every vector that is whole and tells the ids that have "
    "lost theirs; until then vector queries of these namespaces are refused, get, scan and count go on"
)
_CATALOGUE = "restore a backup: the catalogue is the truth for ids, metadata and documents"


@dataclass
class _Findings:
    """What has been found so far."""

    job: Job
    total: int = 0
    checked: int = 0
    parts: int = 0
    problems: list[Problem] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)  # names of parts

    def add(self, path: Path, what: str, remedy: str) -> None:
        """One more problem."""
        self.problems.append(Problem(str(path), what, remedy))

    def count(self, bytes_read: int) -> None:
        """Tell the progress."""
        self.checked += bytes_read
        self.job.step("verify", self.checked, max(self.total, self.checked))


def verify(session: Session, job: Job) -> VerifyReport:
    """Check everything that one generation names; marks damaged parts unless the store is read only."""
    started = time.perf_counter()
    session.catalogue.connections.check_place()
    for _ in range(_TRIES):
        count, named, found = _look(session, job)
        if not found.damaged & (named - _names(session)):
            break  # else a part was not damaged but merged away, and removed, meanwhile
    if found.damaged and not session.catalogue.read_only:
        _mark(session, found.damaged)
    tell(
        "verified",
        session.path,
        level=logging.ERROR if found.problems else logging.INFO,
        problems=len(found.problems),
        rows=count,
        seconds=time.perf_counter() - started,
    )
    return VerifyReport(not found.problems, tuple(found.problems), count, found.parts, found.checked)


def _look(session: Session, job: Job) -> tuple[int, set[str], _Findings]:
    """One look at everything: (rows, names of the parts, findings)."""
    with session.catalogue.read() as connection:
        settings.generation(connection)
        found = _Findings(job)
        count = _check_catalogue(session, connection, found)
        try:
            with translated(session.catalogue.path):
                named = segments.load(connection)
        except MrlStoreError as error:
            found.add(session.catalogue.path, _words(error), _CATALOGUE)
            named = []
        found.total = _bytes_of(session, named)
        seen = [held for row in named for held in _check_segment(session, connection, row, found)]
        _check_vectors_of_rows(session, connection, seen, found)
    return count, {part.name for row in named for part in row.parts}, found


def _names(session: Session) -> set[str]:
    """The parts that are named now."""
    try:
        with session.catalogue.read() as connection:
            return {part.name for row in segments.load(connection) for part in row.parts}
    except MrlStoreError:
        return set()  # told already


def _check_catalogue(session: Session, connection: Connection, found: _Findings) -> int:
    """SQLite's own check, then every row's crc; gives the number of rows."""
    path, total = session.catalogue.path, 0
    try:
        with translated(path):
            for (words,) in connection.execute("PRAGMA integrity_check"):
                if words != "ok" and "fts5" not in words.lower():  # the keyword index has its own turn
                    found.add(path, f"SQLite's integrity_check: {words}", _CATALOGUE)
            spaces: dict[str, list[int]] = {}
            for row in _all_rows(connection):
                total += 1
                space = spaces.setdefault(row.namespace, [0, 0])
                space[0] += 1
                space[1] += row.bare
            counted = {name: list(counts) for name, counts in rows.namespaces(connection).items()}
            if counted != spaces:
                found.add(path, "the counts of namespaces are not those of the rows", _CATALOGUE)
            tail.removed_since(connection, -1)
            tail.since(connection, -1)
            for name in ("floor_gen", "generation", "next_key"):
                settings.get_int(connection, name)
            settings.load(connection, path)
            for words in calibrations.problems(connection):
                found.add(path, words, "run calibrate(), or optimize(): it is measured anew")
    except MrlStoreError as error:
        found.add(path, _words(error), _CATALOGUE)
    remedy = _CATALOGUE if found.problems else _REPAIR_KEYWORDS
    for words in keyword_problems(session, connection):
        found.add(path, words, remedy)
    return total


def keyword_problems(session: Session, connection: Connection) -> list[str]:
    """What is wrong with the keyword index, in words; nothing in an old store without one."""
    try:
        with translated(session.catalogue.path):
            if settings.load(connection, session.catalogue.path).tokenizer is None:
                return []
            return [f"the keyword index {words}" for words in keywords.problems(connection)]
    except MrlStoreError as error:
        return [f"the keyword index cannot be read: {_words(error)}"]


def _words(error: MrlStoreError) -> str:
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
            except OSError:
                continue
    return total


def _check_segment(
    session: Session, connection: Connection, row: SegmentRow, found: _Findings
) -> Iterator[NDArray[np.int64]]:
    """Check a segment's parts; gives the keys that it holds, if they can be trusted."""
    base = _open(session, row, row.base, "base", found, _LOST)
    if base is None:
        return
    problems = [] if row.base.name in found.damaged else _base_problems(base, row.rows)
    if not problems and row.base.name not in found.damaged:
        with suppress(MrlStoreError), translated(session.catalogue.path):  # its own faults are told already
            problems = _row_problems(connection, base)
        yield np.asarray(base.arrays["keys"])
    for words in problems:
        found.add(base.path, words, _LOST)
        found.damaged.add(row.base.name)
    if row.index is not None:
        index = _open(session, row, row.index, "index", found, _REPAIR)
        if index is not None and row.base.name not in found.damaged:
            _report(found, index, verify_index(index.arrays, index.info, base.arrays["groups"]))
    if row.columns is not None:
        columns = _open(session, row, row.columns, "columns", found, _REPAIR)
        if columns is not None:
            try:
                _report(found, columns, open_columns(columns.arrays["columns"]).verify())
            except (InvalidColumns, KeyError) as error:
                _report(found, columns, [str(error)])


def _report(found: _Findings, part: Part, problems: list[str]) -> None:
    for words in problems:
        found.add(part.path, words, _REPAIR)
        found.damaged.add(part.ref.name)


def _open(
    session: Session, row: SegmentRow, ref: PartRef, kind: Kind, found: _Findings, remedy: str
) -> Part | None:
    """Open a part of a segment and compare its checksums."""
    path, whose = session.parts / ref.name, f"{_HOLDS[kind]} of {row.rows:,} rows"
    found.parts += 1
    try:
        part = open_part(session.files, session.parts, ref, kind, session.settings.store_uuid)
        problems = check_part(session.files, part, found.count)
    except FileNotFoundError as error:
        name = Path(error.filename or path).name if path.exists() else "the folder"
        found.add(path, f"{whose}: {name} is missing", remedy)
    except CorruptStore as error:  # not a StorageError: a passing lack of descriptors, say
        found.add(path, f"{whose}: {Path(error.path).name}: {error.reason}", remedy)
    except FormatTooNew as error:
        found.add(path, f"{whose}: {error}", remedy)
    else:
        for words in problems:
            found.add(path, f"{whose}: {words}", remedy)
            found.damaged.add(ref.name)
        if ref.damaged and ref.name not in found.damaged:
            found.add(path, "is marked as damaged, though its checksums hold", remedy)
        return part
    found.damaged.add(ref.name)
    return None


def _base_problems(base: Part, count: int) -> list[str]:
    """Ranges and orders within a base part."""
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
            problems.append(f"{offsets}.npy does not rise from 0 to {end}")
    order = arrays["key_order"]
    if np.any((order < 0) | (order >= base.rows)) or np.any(np.diff(arrays["keys"][order]) <= 0):
        problems.append("keys.npy in the order of key_order.npy does not rise")
    if not problems:
        broken = np.count_nonzero(row_checks(base))
        if broken:
            problems.append(f"{broken} rows do not match their crc in row_crcs.npy")
    return problems


def row_checks(base: Part) -> NDArray[np.bool_]:
    """Which rows are not what was written: bool [rows]."""
    arrays = base.arrays
    crcs = row_checksums(arrays["keys"], arrays["norms"], arrays["inv_norms"], arrays["vectors"])
    return np.asarray(crcs != arrays["row_crcs"])


def _row_problems(connection: Connection, base: Part) -> list[str]:
    """Rows that the catalogue knows by another id or namespace than the part does."""
    arrays = base.arrays
    names = unpack(arrays["namespaces.offsets"], arrays["namespaces.bytes"])
    ids = unpack(arrays["ids.offsets"], arrays["ids.bytes"])
    space_of = np.repeat(np.arange(len(names)), np.diff(arrays["groups"]))
    wrong = 0
    keys = arrays["keys"].tolist()
    for start in range(0, len(keys), _PAGE):
        at = {key: start + i for i, key in enumerate(keys[start : start + _PAGE])}
        for row in rows.by_key(connection, at):
            place = at[row.key]
            wrong += (row.namespace.encode(), row.id.encode(), row.bare) != (
                names[space_of[place]],
                ids[place],
                False,
            )
    return [f"{wrong} rows have another id or namespace than the catalogue says"] if wrong else []


def _check_vectors_of_rows(
    session: Session, connection: Connection, seen: list[NDArray[np.int64]], found: _Findings
) -> None:
    """Every row with a vector has it exactly once, and what is dead is dead."""
    try:
        with translated(session.catalogue.path):
            wanted = np.array(
                [key for (key,) in connection.execute("SELECT key FROM rows WHERE bare = 0")], dtype=np.int64
            )
            waiting = np.array([key for (key,) in connection.execute("SELECT key FROM tail")], dtype=np.int64)
            removed = np.array(tail.removed_since(connection, -1), dtype=np.int64)
    except MrlStoreError:
        return  # reported already
    held = np.concatenate([*seen, waiting])
    live = np.setdiff1d(held, removed)
    path = session.catalogue.path
    if len(np.unique(held)) < len(held):
        found.add(path, f"{len(held) - len(np.unique(held))} vectors are in two places", _LOST)
    if not found.damaged:
        missing, surplus = np.setdiff1d(wanted, live), np.setdiff1d(live, wanted)
        if len(missing):
            found.add(path, f"{len(missing)} rows have lost their vector, key {missing[0]} first", _LOST)
        if len(surplus):
            found.add(path, f"{len(surplus)} vectors belong to no row, key {surplus[0]} first", _LOST)


def _mark(session: Session, damaged: set[str]) -> None:
    """Tell every process which parts not to trust."""
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
