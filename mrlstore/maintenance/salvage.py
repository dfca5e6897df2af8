"""Salvage: which rows of a damaged base part are undamaged, and their arrays.

Every row has a crc32 of its key, lengths and vector. Values that can be computed from others are computed
again before a row is given up: the inverse length from the vector, and the key from the id, by which the
catalogue finds it. If the file of the rows' checksums is damaged itself, and the files of the other arrays
match their own checksums, all rows are undamaged.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.errors import CorruptStore, FormatTooNew
from mrlstore.storage.parts import FileEntry, npy_offset, read_entries
from mrlstore.storage.session import Session
from mrlstore.storage.texts import unpack
from mrlstore.storage.vector_rows import inverse_lengths, row_checksums

Arrays = dict[str, NDArray[Any]]

_BY_ROW: Final = {"keys": "<i8", "norms": "<f4", "inv_norms": "<f4", "row_crcs": "<u4", "vectors": "<f2"}
_NAMES: Final = ("groups", "namespaces.offsets", "namespaces.bytes", "ids.offsets", "ids.bytes")
_PAGE: Final = 1_000  # ids that are looked up at a time


@dataclass(frozen=True)
class Salvaged:
    """The row arrays of a base part, as far as they could be read, and which rows are undamaged."""

    arrays: Arrays  # keys, norms and vectors
    undamaged: NDArray[np.bool_]  # [rows]


def salvage(session: Session, connection: Connection, row: SegmentRow) -> Salvaged:
    """Read a base part whose files may be damaged, truncated or missing; none of these is an error here."""
    reader = _Reader(session, row)
    dim = settings.get_int(connection, "dim")  # every store with a segment has one
    arrays = {
        name: reader.read(name, np.dtype(dtype), (row.rows, dim) if name == "vectors" else (row.rows,))
        for name, dtype in _BY_ROW.items()
    }
    undamaged = _undamaged(arrays)
    if not undamaged.all():
        with np.errstate(all="ignore"):  # of rows that could not be read
            arrays["inv_norms"] = np.where(undamaged, arrays["inv_norms"], inverse_lengths(arrays["vectors"]))
        undamaged |= _undamaged(arrays)
    if not reader.is_undamaged("row_crcs") and all(
        reader.is_undamaged(n) for n in ("keys", "norms", "vectors")
    ):
        undamaged[:] = True
    if not undamaged.all() and all(reader.is_undamaged(name) for name in _NAMES):
        arrays["keys"] = np.where(undamaged, arrays["keys"], _keys_by_id(reader, connection, row.rows))
        undamaged |= _undamaged(arrays)
    return Salvaged(arrays, undamaged)


def _undamaged(arrays: Arrays) -> NDArray[np.bool_]:
    crcs = row_checksums(arrays["keys"], arrays["norms"], arrays["inv_norms"], arrays["vectors"])
    return np.asarray(crcs == arrays["row_crcs"])


def _keys_by_id(reader: _Reader, connection: Connection, count: int) -> NDArray[np.int64]:
    """The key of each row's id in the catalogue, int64 [count]; 0 where the catalogue has no such id."""
    parts = {name: reader.described(name) for name in _NAMES}
    starts, keys = parts["groups"].tolist(), np.zeros(count, dtype=np.int64)
    spaces = [name.decode() for name in unpack(parts["namespaces.offsets"], parts["namespaces.bytes"])]
    ids = [name.decode() for name in unpack(parts["ids.offsets"], parts["ids.bytes"])]
    for number, space in enumerate(spaces):
        for start in range(starts[number], starts[number + 1], _PAGE):
            at = {ids[i]: i for i in range(start, min(start + _PAGE, starts[number + 1]))}
            for found in rows.by_id(connection, space, at):
                keys[at[found.id]] = found.key
    return keys


class _Reader:
    """The files of one base part. Arrays by row have known dtypes and shapes; others need part.json."""

    def __init__(self, session: Session, row: SegmentRow) -> None:
        self._files, self._folder = session.files, session.parts / row.base.name
        self._entries: Mapping[str, FileEntry] = {}
        with suppress(OSError, CorruptStore, FormatTooNew):
            self._entries = read_entries(
                session.files, session.parts, row.base, "base", session.settings.store_uuid
            )

    def read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """One array, with zeros where its file is too short, missing or unreadable."""
        array = np.zeros(shape, dtype=dtype)
        offset = npy_offset(dtype, shape)
        there = max(0, min(self._size(name) - offset, math.prod(shape) * dtype.itemsize))
        if there:
            with suppress(OSError, ValueError, CorruptStore):
                mapped = self._files.map(self._folder / f"{name}.npy", offset + there)
                array.reshape(-1).view(np.uint8)[:there] = np.frombuffer(mapped, np.uint8, there, offset)
        return array

    def described(self, name: str) -> NDArray[Any]:
        """One array with the dtype and shape that part.json gives."""
        entry = self._entries[name]
        return self.read(name, entry.dtype, entry.shape)

    def is_undamaged(self, name: str) -> bool:
        """Whether a file has the size and checksum that part.json gives."""
        entry, size = self._entries.get(name), self._size(name)
        if entry is None or size != entry.offset + entry.bytes:
            return False
        try:
            return zlib.crc32(self._files.map(self._folder / f"{name}.npy", size)) == entry.crc
        except (OSError, ValueError, CorruptStore):
            return False

    def _size(self, name: str) -> int:
        try:
            return self._files.size(self._folder / f"{name}.npy")
        except (OSError, CorruptStore):
            return 0
