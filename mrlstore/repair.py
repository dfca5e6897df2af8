"""Repair: rebuilds what can be rebuilt, keeps every row that is whole, and says which vectors are lost.

Index and columns parts follow from the vectors and the catalogue. Of a damaged base part every row whose
checksum holds is kept, under the id that the catalogue gives its key; a row whose vector is lost keeps its
metadata and document, without a vector. Damaged folders are moved aside, into `damaged/`, never deleted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore import maintain, verify
from mrlstore.catalogue import keywords, rows, segments, settings, tail
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import Row
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.core import Core
from mrlstore.errors import CorruptStore
from mrlstore.log import tell
from mrlstore.maintain import Work
from mrlstore.parts import npy_offset
from mrlstore.segment import base_arrays, write_base
from mrlstore.types import Progress, Repaired
from mrlstore.vectors import row_checksums
from mrlstore.writer import transaction

DAMAGED = "damaged"


def repair(core: Core, wait_s: float, progress: Callable[[Progress], None]) -> Repaired:
    """Verify, mend what verify found, and verify again. LOCK is taken for all of it."""
    with maintain.take_lock(core, wait_s):
        verify.verify(core, progress)
        _mend_keywords(core)
        lost = _drop_broken_tail_rows(core)
        aside: list[str] = []
        with core.catalogue.read() as connection:
            damaged = [row for row in segments.load(connection) if any(part.damaged for part in row.parts)]
        for row in damaged:
            if row.base.damaged:
                lost += _salvage(core, row)
            else:
                _forget_derived(core, row)
            aside += _set_aside(core, row)
        maintain.complete_all(core, Work(progress))
        report = verify.verify(core, progress)
    if damaged or lost:
        tell("repaired", core.path, level=logging.WARNING, segments=len(damaged), lost_rows=len(lost))
    return Repaired(report.ok, len(damaged), tuple(sorted(lost)), tuple(aside), report)


def _mend_keywords(core: Core) -> None:
    """Make the keyword index anew from the documents if anything is wrong with it."""
    with core.catalogue.read() as connection:
        if not verify.keyword_problems(core, connection):
            return
    with core.catalogue.write() as write:
        tokenizer = settings.load(write.connection, core.catalogue.path).tokenizer
        keywords.rebuild(write.connection, tokenizer or keywords.DEFAULT_TOKENIZER)


def _forget_derived(core: Core, row: SegmentRow) -> None:
    """Name the damaged index or columns no more; they are built anew afterwards."""
    index = None if row.index is not None and row.index.damaged else row.index
    columns = None if row.columns is not None and row.columns.damaged else row.columns
    with core.catalogue.write() as write:
        segments.replace(write.connection, write.generation, replace(row, index=index, columns=columns))


def _salvage(core: Core, row: SegmentRow) -> list[tuple[str, str]]:
    """Write the whole rows of a damaged base part as a new one; (namespace, id) of the rows that are lost."""
    arrays, whole = _read_whole_rows(core, row)
    with core.catalogue.read() as connection:
        generation = settings.generation(connection)
        removed = tail.removed_since(connection, -1)
        known = _rows_without_place(connection, core, row)
        kept = [i for i in np.flatnonzero(whole).tolist() if int(arrays["keys"][i]) in known]
    kept.sort(key=lambda i: (known[int(arrays["keys"][i])].namespace, int(arrays["keys"][i])))
    alive = {int(arrays["keys"][i]) for i in kept}
    gone = [found for key, found in known.items() if key not in alive and key not in set(removed)]
    parts = []
    if kept:
        taken = np.array(kept, dtype=np.int64)
        named = [known[key] for key in arrays["keys"][taken].tolist()]
        parts.append(
            write_base(
                core.files,
                core.parts,
                core.settings.store_uuid,
                [found.namespace for found in named],
                [found.id for found in named],
                base_arrays(arrays["keys"][taken], arrays["vectors"][taken], arrays["norms"][taken]),
            )
        )
    with transaction(core, parts) as write:
        segments.drop(write.connection, [row.id])
        for part in parts:
            segments.add(write.connection, write.generation, SegmentRow(0, generation, len(kept), part.ref))
        _make_bare(core, write.connection, gone)
    return [(found.namespace, found.id) for found in gone]


def _rows_without_place(connection: Connection, core: Core, broken: SegmentRow) -> dict[int, Row]:
    """The catalogue's rows whose vector is neither in the tail nor in another segment, by key."""
    wanted = _keys(connection, "SELECT key FROM rows WHERE bare = 0")
    elsewhere = set(_keys(connection, "SELECT key FROM tail"))
    for row in segments.load(connection):
        if row.id != broken.id:
            arrays, whole = _read_whole_rows(core, row)
            elsewhere.update(arrays["keys"][whole].tolist())
    return {row.key: row for row in rows.by_key(connection, [key for key in wanted if key not in elsewhere])}


def _keys(connection: Connection, sql: str) -> list[int]:
    found: list[tuple[int]] = connection.execute(sql).fetchall()  # type: ignore[assignment]  # STRICT
    return [key for (key,) in found]


_BY_ROW = {"keys": "<i8", "norms": "<f4", "inv_norms": "<f4", "row_crcs": "<u4", "vectors": "<f2"}


def _read_whole_rows(core: Core, row: SegmentRow) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """The row arrays of a base part, as far as the files go, and which rows match their checksum.

    part.json may be damaged too: dtypes and shapes are those that every base part of this store has.
    """
    dim = settings_dim(core)
    arrays = {}
    for name, dtype in _BY_ROW.items():
        shape = (row.rows, dim) if name == "vectors" else (row.rows,)
        arrays[name] = _read_array(core, row, name, np.dtype(dtype), shape)
    crcs = row_checksums(arrays["keys"], arrays["norms"], arrays["inv_norms"], arrays["vectors"])
    return arrays, np.asarray(crcs == arrays["row_crcs"])


def settings_dim(core: Core) -> int:
    """The store's dimension; a store with segments has one."""
    with core.catalogue.read() as connection:
        return settings.get_int(connection, "dim")


def _read_array(
    core: Core, row: SegmentRow, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """One array from its file, zeros where the file has ended or is missing."""
    array = np.zeros(shape, dtype=dtype)
    path, offset = core.parts / row.base.name / f"{name}.npy", npy_offset(dtype, shape)
    try:
        size = core.files.size(path)
        there = max(0, min(size - offset, math.prod(shape) * dtype.itemsize))
        if there:
            mapped = core.files.map(path, offset + there)
            array.reshape(-1).view(np.uint8)[:there] = np.frombuffer(mapped, np.uint8, there, offset)
    except OSError:
        pass  # what cannot be read is lost: the checksums say which rows that concerns
    return array


def _make_bare(core: Core, connection: Connection, lost: list[Row]) -> None:
    """Keep rows whose vector is lost, without one."""
    for row in lost:
        rows.remove(connection, row.namespace, [row.id])
        rows.insert(connection, [replace(row, bare=True)])


def _drop_broken_tail_rows(core: Core) -> list[tuple[str, str]]:
    """Take tail rows with a wrong checksum out; (namespace, id) of each."""
    with core.catalogue.read() as connection:
        broken: list[int] = []
        for key in _keys(connection, "SELECT key FROM tail"):
            try:
                tail.vectors(connection, [key])
            except CorruptStore:
                broken.append(key)
        lost = list(rows.by_key(connection, broken))
    if broken:
        with core.catalogue.write() as write:
            tail.remove(write.connection, write.generation, broken)
            _make_bare(core, write.connection, lost)
    return [(row.namespace, row.id) for row in lost]


def _set_aside(core: Core, row: SegmentRow) -> list[str]:
    """Move folders that are damaged and named no more into `damaged/`."""
    with core.catalogue.read() as connection:
        named = {part.name for other in segments.load(connection) for part in other.parts}
    place = core.path / DAMAGED
    moved = []
    for part in row.parts:
        if part.name not in named and part.name in core.files.list_dir(core.parts):
            if not place.is_dir():
                core.files.make_dir(place)
                core.files.sync_dir(core.path)
            core.files.rename(core.parts / part.name, place / part.name)
            core.files.sync_dir(place)
            core.files.sync_dir(core.parts)
            moved.append(str(place / part.name))
    return moved
