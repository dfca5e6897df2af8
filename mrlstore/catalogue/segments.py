"""The catalogue's `segments` table: which parts there are, and which of them are known to be damaged."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from mrlstore.catalogue.connection import Connection, matches
from mrlstore.catalogue.part_ref import PartKind, PartRef, is_name
from mrlstore.errors import CorruptStore

_FIELDS = (
    "id, gen, built_gen, rows, base, base_crc, base_damaged, idx, idx_crc, idx_damaged,"
    " columns, columns_crc, columns_damaged"
)


@dataclass(frozen=True)
class SegmentRow:
    """One segment: its parts, and the generation at which the rows of its base part were read.

    Only removals after `built_gen` can be of its rows: rows removed before were not written to it.
    """

    id: int
    built_gen: int
    rows: int
    base: PartRef
    index: PartRef | None = None
    columns: PartRef | None = None

    @property
    def parts_by_kind(self) -> dict[PartKind, PartRef]:
        """All parts that it names."""
        named: dict[PartKind, PartRef | None] = {
            "base": self.base,
            "index": self.index,
            "columns": self.columns,
        }
        return {kind: part for kind, part in named.items() if part is not None}

    @property
    def parts(self) -> tuple[PartRef, ...]:
        """The same without their kinds."""
        return tuple(self.parts_by_kind.values())


def load(connection: Connection) -> list[SegmentRow]:
    """All segments, by id."""
    found = connection.execute(f"SELECT {_FIELDS}, crc FROM segments ORDER BY id").fetchall()
    return [_checked(connection, raw) for raw in found]


def add(connection: Connection, generation: int, segment: SegmentRow) -> int:
    """Add a segment (the id in `segment` is ignored) and return its id."""
    connection.execute(
        "INSERT INTO segments(gen, built_gen, rows, base, base_crc, base_damaged, idx_damaged,"
        " columns_damaged, crc) VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0)",
        (generation, segment.built_gen, segment.rows, segment.base.name, segment.base.crc),
    )
    number = connection.last_insert_rowid()
    replace(connection, generation, SegmentRow(number, *_without_id(segment)))
    return number


def replace(connection: Connection, generation: int, segment: SegmentRow) -> None:
    """Change the parts of an existing segment."""
    values = _values(generation, segment)
    names = _FIELDS.replace(" ", "").split(",")
    assignments = ", ".join(f"{name} = ?" for name in [*names[1:], "crc"])
    connection.execute(
        f"UPDATE segments SET {assignments} WHERE id = ?", (*values[1:], _crc(values), segment.id)
    )


def drop(connection: Connection, segment_ids: list[int]) -> None:
    """Delete segments; garbage collection removes their folders later."""
    connection.executemany("DELETE FROM segments WHERE id = ?", ((number,) for number in segment_ids))


def _without_id(segment: SegmentRow) -> tuple[Any, ...]:
    return segment.built_gen, segment.rows, segment.base, segment.index, segment.columns


def _values(generation: int, segment: SegmentRow) -> list[Any]:
    values: list[Any] = [segment.id, generation, segment.built_gen, segment.rows]
    for part in (segment.base, segment.index, segment.columns):
        values += [None, None, 0] if part is None else [part.name, part.crc, int(part.damaged)]
    return values


def _crc(values: list[Any]) -> int:
    return zlib.crc32(json.dumps(values).encode())


def _checked(connection: Connection, raw: tuple[Any, ...]) -> SegmentRow:
    *values, crc = raw
    if not matches(crc, _crc, values):
        raise CorruptStore(connection.filename, f"the segment {raw[0]} does not match its crc")
    number, _, built_gen, rows, *parts = values
    base, index, columns = (
        None if name is None else PartRef(name, part_crc, bool(damaged))
        for name, part_crc, damaged in (parts[0:3], parts[3:6], parts[6:9])
    )
    if base is None or not all(is_name(part.name) for part in (base, index, columns) if part is not None):
        raise CorruptStore(connection.filename, f"the segment {number} names no parts")
    return SegmentRow(number, built_gen, rows, base, index, columns)
