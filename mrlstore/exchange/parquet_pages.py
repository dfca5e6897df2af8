"""How much memory the row groups of a Parquet file take when they are read, by its footer and page headers.

A column may name one text of megabytes in every row, or a page decompress to gigabytes, in a file of a few
kilobytes. pyarrow does not say so before it happens, and what it says of a damaged footer may end the
process; so the few numbers that are needed are read here. They stand in structs of Thrift's compact protocol,
where fields have numbers.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

_PAGE_BYTES: Final = 1024**3  # a page has 1 MB by custom, more where single texts are long
_FOOTER_BYTES: Final = 16 * 1024 * 1024
_DICTIONARY: Final = 2  # PageType
_DELTA_BYTE_ARRAY: Final = 7  # Encoding: each text begins with a part of the one before
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12  # Thrift's types
_DEEPEST: Final = 12  # structs and lists in each other; those of a footer are nine deep


@dataclass(frozen=True)
class GroupSize:
    """What a row group takes in memory."""

    rows: int
    bytes: int  # of all columns as they are encoded
    shared_text: int  # bytes that a text which rows share can have at most


def group_sizes(file: BinaryIO) -> list[GroupSize]:
    """The sizes of all row groups; the position in the file is left anywhere.

    Raises ValueError if a page is beyond reason, or a footer or header is none.
    """
    file.seek(-8, os.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    if length > _FOOTER_BYTES:
        raise ValueError(f"a footer of {length:,} bytes; at most {_FOOTER_BYTES:,}")
    file.seek(-8 - length, os.SEEK_END)
    footer = _struct(io.BytesIO(file.read(length)), 0)
    return [_group_size(file, group) for group in _structs(footer, 4)]


def _group_size(file: BinaryIO, group: dict[int, Any]) -> GroupSize:
    shared_text = 0
    for chunk in _structs(group, 1):
        for page in _pages(file, chunk.get(3, {})):
            if not 0 <= page.bytes <= _PAGE_BYTES:
                raise ValueError(f"a page of {page.bytes:,} bytes; at most {_PAGE_BYTES:,}")
            if page.type == _DICTIONARY or page.encoding == _DELTA_BYTE_ARRAY:
                shared_text = max(shared_text, page.bytes)
    return GroupSize(_integer(group, 3), _integer(group, 2), shared_text)


@dataclass(frozen=True)
class _Page:
    type: int
    stored_bytes: int
    bytes: int  # decompressed
    encoding: int


def _pages(file: BinaryIO, column: dict[int, Any]) -> Iterator[_Page]:
    """The pages of a column chunk, by its metadata."""
    at, dictionary = _integer(column, 9), column.get(11)
    if isinstance(dictionary, int) and 0 < dictionary < at:
        at = dictionary
    end = at + _integer(column, 7)
    while at < end:
        file.seek(at)
        page = _page_of(_struct(file, 0))
        at = file.tell() + page.stored_bytes
        yield page


def _page_of(header: dict[int, Any]) -> _Page:
    of_data = header.get(5) or header.get(8) or {}  # the header of a data page, version 1 or 2
    encoding = of_data.get(2 if 5 in header else 4, -1) if isinstance(of_data, dict) else -1
    page = _Page(_integer(header, 1), _integer(header, 3), _integer(header, 2), encoding)
    if page.stored_bytes < 0:
        raise ValueError("a page of less than no bytes")
    return page


def _integer(struct: dict[int, Any], field: int) -> int:
    value = struct.get(field)
    if not isinstance(value, int):
        raise ValueError("a footer or page header without its numbers")
    return value


def _structs(struct: dict[int, Any], field: int) -> list[dict[int, Any]]:
    values = struct.get(field)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("a footer without its row groups or columns")
    return values


def _struct(file: BinaryIO, depth: int) -> dict[int, Any]:
    """The numbers, lists and structs in a struct, by field; texts are passed over."""
    found: dict[int, Any] = {}
    field = 0
    while head := _byte(file):
        field = field + (head >> 4) if head >> 4 else _number(file)
        kind = head & 15
        found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else _value(file, kind, depth + 1)
    return found


def _value(file: BinaryIO, kind: int, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("a footer or page header that is nested too deep")
    if kind in (_TRUE, _FALSE, _BYTE):
        return _byte(file)
    if kind == _STRUCT:
        return _struct(file, depth)
    if kind in (_LIST, _SET):
        head = _byte(file)
        count = head >> 4 if head >> 4 < 15 else _varint(file)
        return [_value(file, head & 15, depth + 1) for _ in range(count)]
    if kind in (_BINARY, _DOUBLE):
        file.seek(_varint(file) if kind == _BINARY else 8, os.SEEK_CUR)
        return None
    if kind > _STRUCT or kind == 11:
        raise ValueError("a footer or page header of an unknown type")
    return _number(file)


def _number(file: BinaryIO) -> int:
    value = _varint(file)
    return (value >> 1) ^ -(value & 1)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while shift < 64:
        byte = _byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _byte(file: BinaryIO) -> int:
    one = file.read(1)
    if not one:
        raise ValueError("a footer or page header that ends early")
    return one[0]
