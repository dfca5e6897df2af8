"""One group as a table of addresses and sizes: int64 [FIELDS], made once, passed to every kernel.

Unpacking twenty array arguments would take longer than a small search, and read-only arrays, such as mapped
ones, take numba's slow path. The address 0 means that the array is absent.
"""

from __future__ import annotations

from typing import Final

EMPTY: Final = 0xFFFFFFFF  # an unused slot of a neighbour list
LAST_ROW: Final = 0x7FFFFFFF  # the largest row number, or place, that an entry of a beam holds
# Squared lengths of vectors outside of these bounds lose digits, or overflow, in float32.
SMALLEST_SQUARE: Final = 1e-30
LARGEST_SQUARE: Final = 1e37

VECTORS: Final = 0  # float16 [n, dim]
INV_NORMS: Final = 1  # float32 [n]
KEYS: Final = 2  # int64 [n]
ROWS: Final = 3  # n
DIM: Final = 4
CODES: Final = 5  # uint8 [n, stride]
STRIDE: Final = 6  # bytes of a code row, a multiple of 64
NEIGHBOURS: Final = 7  # uint32 [n, width], padded with EMPTY
WIDTH: Final = 8
ENTRIES: Final = 9  # uint32 [entry count]
ENTRY_CODES: Final = 10  # uint8 [entry count, stride]
ENTRY_COUNT: Final = 11
UNPREFIXED: Final = 12  # uint32 [unprefixed count]
UNPREFIXED_COUNT: Final = 13
PREFIX_DIM: Final = 14
ROTATION: Final = 15  # uint8 [code dim, rotation stride], int8 numbers plus 128
ROTATION_SCALES: Final = 16  # float32 [code dim]
ROTATION_STRIDE: Final = 17  # prefix dim, rounded up to a multiple of 64
CODE_DIM: Final = 18
ID_STARTS: Final = 19  # int64 [n + 1], where each row's id begins in ID_TEXT
ID_TEXT: Final = 20  # uint8 [...]
ID_BYTES: Final = 21  # length of ID_TEXT
SCALE: Final = 22  # offset of the scale, float32, in a code row
NUMBERS: Final = 23  # offset of the first number in a code row
COPY_SETS: Final = 24  # uint32 [set count, 3]: a node, and where its copies begin and end; by rising node
SET_COUNT: Final = 25
COPIES: Final = 26  # uint32 [copy count]: rows that are no nodes; the copies of a node stand together
COPY_COUNT: Final = 27
FIELDS: Final = 28
