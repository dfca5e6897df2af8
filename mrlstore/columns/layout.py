"""The bytes of a columns part: one blob, a directory of fields and their arrays. Written once, then mapped.

All integers are little-endian; every array begins at a multiple of 8.

    header     64 bytes: magic, crc32 of the rest of the directory, fields, rows, length of the blob,
               offset and length of the overflow bits, length of the names
    records    one for each field, RECORD below
    names      the fields' paths, UTF-8, one after another
    arrays     the overflow bits, then each field's arrays, ARRAYS below

The directory (header, records, names) is checked in full when the blob is opened, and its size depends on
the fields, never on the rows. The arrays themselves are not read then: code that follows an offset or a code
from one of them bounds it first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"mrlcols1"
HEADER: Final = struct.Struct("<8sIIQQQQI12x")
MAX_FIELDS: Final = 256
MAX_ROWS: Final = 2**32 - 1

# What the codes of a field mean; the distinct scalars follow from FIRST on, in the order of DICTIONARY.
MISSING: Final = 0  # the row lacks the field
PRESENT: Final = 1  # there, but no scalar: an object, a list, NaN
ODD: Final = 2  # a scalar too large for the dictionary (`dictionary.is_odd`): the row's JSON decides
NULL: Final = 3
FALSE: Final = 4
TRUE: Final = 5
FIRST: Final = 6

SEPARATOR: Final = 0xFF  # closes every string and big number; UTF-8 never holds it

ARRAYS: Final = (
    "codes",  # uint8, 16 or 32: one code for each row if dense, else for each of `rows`
    "rows",  # uint32, ascending: the rows that have the field, if not dense
    "member_codes",  # as codes: the distinct scalar members of the lists
    "member_rows",  # uint32, ascending: the row of each member; those of one row are in no order
    "ints",  # int64, ascending: distinct whole numbers (with `floats`, only if too large for those)
    "floats",  # float64, ascending: the other distinct numbers
    "big_ends",  # uint32 or 64: where each of `bigs` ends, its closing 0xFF included
    "bigs",  # whole numbers beyond int64 that are not float64: `dictionary.sortable`, then SEPARATOR
    "string_ends",  # uint32 or 64
    "strings",  # distinct strings, ascending: UTF-8 (surrogates pass), then SEPARATOR
)
RECORD: Final = np.dtype(
    [
        ("name_end", "<u4"),  # of this field's name in the names
        ("dense", "u1"),  # 1: codes has an entry for every row
        ("code_width", "u1"),  # bytes
        ("end_width", "u1"),
        ("pad", "u1"),
        ("present", "<u8"),  # rows that have the field
        ("odd_scalars", "<u8"),  # of `codes`, how many are ODD
        ("odd_members", "<u8"),  # of `member_codes`
        ("offsets", "<u8", (len(ARRAYS),)),
        ("lengths", "<u8", (len(ARRAYS),)),  # in entries
    ]
)
_DTYPES: Final = {
    "rows": "<u4",
    "member_rows": "<u4",
    "ints": "<i8",
    "floats": "<f8",
    "bigs": "u1",
    "strings": "u1",
}
_CODES: Final = ("codes", "member_codes")
_ENDS: Final = ("big_ends", "string_ends")


class InvalidColumns(ValueError):
    """The blob is damaged or is not a columns part; nothing was read beyond its bounds."""


@dataclass(frozen=True)
class Field:
    """One field's arrays, as views into the blob (ARRAYS says what each holds), none of them checked."""

    name: str
    dense: bool
    present: int
    odd_scalars: int
    odd_members: int
    codes: NDArray[Any]
    rows: NDArray[np.uint32]
    member_codes: NDArray[Any]
    member_rows: NDArray[np.uint32]
    ints: NDArray[np.int64]
    floats: NDArray[np.float64]
    big_ends: NDArray[Any]
    bigs: NDArray[np.uint8]
    string_ends: NDArray[Any]
    strings: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many codes there are: every valid code is below it."""
        return FIRST + self.ints.size + self.floats.size + self.big_ends.size + self.string_ends.size

    @property
    def distinct(self) -> int:
        """How many distinct numbers and strings there are."""
        return self.size - FIRST

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)


@dataclass(frozen=True)
class Layout:
    """An opened blob: its checked directory."""

    blob: NDArray[np.uint8]
    rows: int
    records: NDArray[np.void]  # RECORD [fields]
    names: Mapping[str, int]  # path -> record
    overflow: NDArray[np.uint8]  # bits [rows], or empty: the row has a field that has no column

    def field(self, name: str) -> Field | None:
        """The field at this path, or None. Views, nothing is copied."""
        number = self.names.get(name)
        if number is None:
            return None
        record = self.records[number]
        arrays = {
            array: _view(self.blob, int(offset), int(length), _dtype(array, record))
            for array, offset, length in zip(ARRAYS, record["offsets"], record["lengths"], strict=True)
        }
        return Field(
            name=name,
            dense=bool(record["dense"]),
            present=int(record["present"]),
            odd_scalars=int(record["odd_scalars"]),
            odd_members=int(record["odd_members"]),
            **arrays,
        )


def assemble(rows: int, columns: Sequence[Field], overflow: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One blob, uint8 [bytes], of at most 256 fields over this many rows.

    `overflow` is bits [rows] (`numpy.packbits`) or empty. Raises InvalidColumns beyond the limits.
    """
    if len(columns) > MAX_FIELDS or rows > MAX_ROWS:
        raise InvalidColumns(f"{len(columns)} fields, {rows} rows: more than {MAX_FIELDS} or {MAX_ROWS}")
    names = [column.name.encode(errors="surrogatepass") for column in columns]
    records = np.zeros(len(columns), dtype=RECORD)
    position = _aligned(HEADER.size + records.nbytes + sum(map(len, names)))
    overflow_at = position
    position = _aligned(position + overflow.nbytes)
    name_end = 0
    for record, column, name in zip(records, columns, names, strict=True):
        name_end += len(name)
        record["name_end"] = name_end
        for key in ("dense", "present", "odd_scalars", "odd_members"):
            record[key] = getattr(column, key)
        record["code_width"] = column.codes.itemsize
        record["end_width"] = column.string_ends.itemsize
        for i, array in enumerate(ARRAYS):
            values = getattr(column, array)
            record["offsets"][i] = position
            record["lengths"][i] = values.size
            position = _aligned(position + values.nbytes)
    blob = np.zeros(position, dtype=np.uint8)
    directory = records.tobytes() + b"".join(names)
    counts = (len(columns), rows, position, overflow_at, overflow.nbytes, name_end)
    crc = zlib.crc32(directory, zlib.crc32(HEADER.pack(MAGIC, 0, *counts)[12:]))
    head = HEADER.pack(MAGIC, crc, *counts) + directory
    blob[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    blob[overflow_at : overflow_at + overflow.nbytes] = overflow
    for record, column in zip(records, columns, strict=True):
        for array, offset in zip(ARRAYS, record["offsets"], strict=True):
            values = getattr(column, array)
            _view(blob, int(offset), values.size, _dtype(array, record))[:] = values
    return blob


def read_layout(blob: NDArray[np.uint8]) -> Layout:
    """Check a blob's directory whole and open it; raises InvalidColumns. Reads O(fields) bytes."""
    if blob.ndim != 1 or blob.dtype != np.uint8 or blob.size < HEADER.size:
        raise InvalidColumns(f"no columns part: {blob.size} elements of {blob.dtype}")
    head = blob[: HEADER.size].tobytes()
    magic, crc, count, rows, length, overflow_at, overflow_length, names_length = HEADER.unpack(head)
    if magic != MAGIC:
        raise InvalidColumns("it does not begin as a columns part does")
    if length != blob.size:
        raise InvalidColumns(f"{blob.size} bytes, of which the header expects {length}")
    names_at = HEADER.size + count * RECORD.itemsize
    if count > MAX_FIELDS or rows > MAX_ROWS or names_at + names_length > length:
        raise InvalidColumns("the header's counts are out of bounds")
    directory = blob[HEADER.size : names_at + names_length].tobytes()
    if zlib.crc32(directory, zlib.crc32(head[12:])) != crc:
        raise InvalidColumns("the directory's checksum does not fit")
    if overflow_length not in (0, -(-rows // 8)) or overflow_at > length - overflow_length:
        raise InvalidColumns("the overflow bits lie out of bounds")
    records = np.frombuffer(directory, dtype=RECORD, count=count)
    _check_records(records, rows, length)
    names = _names(records, directory[records.nbytes :])
    return Layout(blob, rows, records, names, blob[overflow_at : overflow_at + overflow_length])


def _check_records(records: NDArray[np.void], rows: int, length: int) -> None:
    """Every array lies within the blob, and the arrays of a field fit each other."""
    if not np.isin(records["code_width"], (1, 2, 4)).all() or not np.isin(records["end_width"], (4, 8)).all():
        raise InvalidColumns("a field's code or offset width is none of those allowed")
    lengths = {array: records["lengths"][:, i] for i, array in enumerate(ARRAYS)}
    for i, array in enumerate(ARRAYS):
        size = np.uint64(np.dtype(_DTYPES.get(array, "u1")).itemsize)
        width = "code_width" if array in _CODES else "end_width" if array in _ENDS else None
        sizes = records[width].astype(np.uint64) if width else size
        offsets = records["offsets"][:, i]
        # In this order nothing wraps: the product is formed only for lengths that the blob can hold.
        outside = (lengths[array] > np.uint64(length) // sizes) | (offsets > np.uint64(length))
        if outside.any() or (lengths[array] * sizes > np.uint64(length) - offsets).any():
            raise InvalidColumns(f"a field's {array} lie outside the blob")
    dense = records["dense"] == 1
    if (
        (records["dense"] > 1).any()
        or (lengths["codes"][dense] != rows).any()
        or (lengths["rows"][dense] != 0).any()
        or (lengths["codes"][~dense] != lengths["rows"][~dense]).any()
        or (lengths["member_codes"] != lengths["member_rows"]).any()
    ):
        raise InvalidColumns("a field's codes do not fit its rows")
    distinct = lengths["ints"] + lengths["floats"] + lengths["big_ends"] + lengths["string_ends"]
    if (
        distinct + np.uint64(FIRST) > np.uint64(1) << (np.uint64(8) * records["code_width"].astype(np.uint64))
    ).any():
        raise InvalidColumns("a field has more distinct values than codes")


def _names(records: NDArray[np.void], names: bytes) -> dict[str, int]:
    found: dict[str, int] = {}
    start = 0
    for number, end in enumerate(records["name_end"].tolist()):
        if not start <= end <= len(names):
            raise InvalidColumns("the fields' names lie out of bounds")
        try:
            found[names[start:end].decode(errors="surrogatepass")] = number
        except UnicodeDecodeError:
            raise InvalidColumns("a field's name is not valid UTF-8") from None
        start = end
    if len(found) != len(records) or start != len(names):
        raise InvalidColumns("the fields' names are not distinct, or some belong to none")
    return found


def _dtype(array: str, record: np.void) -> np.dtype[Any]:
    if array in _CODES:
        return np.dtype(f"<u{record['code_width']}")
    if array in _ENDS:
        return np.dtype(f"<u{record['end_width']}")
    return np.dtype(_DTYPES[array])


def _view(blob: NDArray[np.uint8], offset: int, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return blob[offset : offset + length * dtype.itemsize].view(dtype)


def _aligned(position: int) -> int:
    return -(-position // 8) * 8
