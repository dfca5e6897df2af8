"""Fuzz targets: plain functions that take bytes, for hypothesis and for coverage-guided fuzzers.

With atheris: `atheris.Setup(sys.argv, targets.damaged_columns); atheris.Fuzz()`. An exception that leaves a
target is a finding; so are a crash, a hang, and memory out of proportion to the input.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns import Columns, InvalidColumns, build_columns, open_columns
from mrlstore.columns.layout import HEADER, MAGIC
from mrlstore.errors import InvalidInput
from mrlstore.where import Node, parse

MAX_ROWS = 4_096  # of a mask; a damaged header may claim billions

ROWS: list[dict[str, Any] | None] = [
    None,
    {},
    {"a": 1, "b": "x", "list": [1, "x", None, True, 2.5], "n": {"a": "deep", "b": [1, 2]}},
    {"a": 2.5, "b": "xyz", "list": [], "big": 2**64 + 1},
    {"a": None, "b": "long" * 100, "list": ["long" * 100, 10**700], "big": -(2**64) - 1},
    {"a": "one", "b": "two", "n": [[1]], "big": 10**700},
    *({"a": i, "b": f"row {i}", "list": [i % 7, f"tag {i % 5}"], "rare": i} for i in range(40)),
    *({"b": f"row {i}", "a": i / 3, "big": 2**65 + i} for i in range(300)),
]

FILTERS: list[dict[str, Any]] = [
    {"a": 1},
    {"a": {"$gt": 0.5, "$lt": 30}},
    {"a": {"$in": [None, True, "one", 2.5, *range(0, 40, 3)]}},
    {"b": {"$gte": "row 2"}},
    {"b": {"$contains": "w 1"}},
    {"b": {"$contains": ""}},
    {"b": {"$in": [f"row {i}" for i in range(0, 90, 7)]}},
    {"b": "long" * 100},
    {"list": {"$any": [1, "x"]}},
    {"list": {"$contains": "tag 3"}},
    {"list": {"$gt": 1}},
    {"big": {"$gt": 2**65 + 7}},
    {"big": 10**700},
    {"n.a": {"$ne": "deep"}},
    {"rare": {"$exists": True}},
    {"nowhere": {"$exists": False}},
    {"$or": [{"rare": {"$lte": 9}}, {"$not": {"a": {"$exists": True}, "list": "x"}}]},
]


@lru_cache(maxsize=1)
def nodes() -> list[Node]:
    return [node for where in FILTERS if (node := parse(where)) is not None]


@lru_cache(maxsize=2)
def sound(overflowing: bool) -> bytes:
    """The bytes of an undamaged part; or of one that has more paths than columns."""
    rows = [*ROWS, {f"k{i}": i for i in range(300)}] if overflowing else ROWS
    return build_columns((None if row is None else json.dumps(row) for row in rows), len(rows)).tobytes()


def sealed(blob: bytes) -> bytes:
    """The blob with the length and the checksum corrected, so that it is not refused for these."""
    if len(blob) < HEADER.size:
        return blob
    _, _, count, rows, _, overflow_at, overflow_length, names_length = HEADER.unpack_from(blob)
    counts = (count, rows, len(blob), overflow_at, overflow_length, names_length)
    end = HEADER.size + count * 192 + names_length
    crc = zlib.crc32(blob[HEADER.size : end], zlib.crc32(HEADER.pack(MAGIC, 0, *counts)[12:]))
    return HEADER.pack(MAGIC, crc, *counts) + blob[HEADER.size :]


def exercise(columns: Columns) -> None:
    """Call every reading method of columns that may be damaged; only shapes and types are checked."""

    def fetch(rows: NDArray[np.int64]) -> Sequence[dict[str, Any] | None]:
        assert rows.size == 0 or (rows.min() >= 0 and rows.max() < columns.rows)
        return [None] * rows.size

    last = columns.rows
    for start, stop in {
        (0, min(last, MAX_ROWS)),
        (max(0, last - 100), last),
        (last // 2, min(last, last // 2 + 9)),
    }:
        for node in nodes():
            mask = columns.mask(node, start, stop, fetch)
            assert mask.shape == (stop - start,)
            assert mask.dtype == np.bool_
    assert all(isinstance(problem, str) for problem in columns.verify())
    assert len(columns.fields()) <= 256


def raw_columns(data: bytes) -> None:
    """Arbitrary bytes as a columns part: first unchanged, then with a corrected header."""
    for blob in (data, sealed(data), sealed(MAGIC + data)):
        try:
            columns = open_columns(np.frombuffer(blob, dtype=np.uint8))
        except InvalidColumns:
            continue
        exercise(columns)


def damaged_columns(data: bytes) -> None:
    """A sound part, damaged as the bytes say: flags, then (offset, byte) pairs of three bytes each.

    Flag 1: more paths than columns. Flag 2: the checksum is corrected. Flag 4: cut short.
    Flag 8: offsets are 65,536ths of the length of the part, else bytes.
    """
    if not data:
        return
    blob = bytearray(sound(bool(data[0] & 1)))
    for offset, value in struct.iter_unpack("<HB", data[1 : 1 + (len(data) - 1) // 3 * 3]):
        blob[offset * len(blob) // 65_536 if data[0] & 8 else offset % len(blob)] = value
    if data[0] & 4:
        del blob[len(blob) * data[-1] // 256 :]
    try:
        columns = open_columns(
            np.frombuffer(sealed(bytes(blob)) if data[0] & 2 else bytes(blob), dtype=np.uint8)
        )
    except InvalidColumns:
        return
    exercise(columns)


def built_columns(data: bytes) -> None:
    """Arbitrary lines as metadata: refused, or built into columns that are sound."""
    lines = data.decode(errors="surrogateescape").split("\n")
    try:
        blob = build_columns(lines, len(lines))
    except InvalidColumns:
        return
    columns = open_columns(blob)
    assert columns.verify() == []
    exercise(columns)


def parsed_filter(data: bytes) -> None:
    """Arbitrary JSON as a filter: refused with InvalidInput, or a node that works on every row."""
    try:
        where = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        node = parse(where)
    except InvalidInput as error:
        str(error).encode()
        return
    if node is not None:
        assert node.key
        assert node.fields
        assert {node.matches(row) for row in ROWS} <= {True, False}
