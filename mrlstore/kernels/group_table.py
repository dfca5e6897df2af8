"""One group as a table of addresses and sizes: int64 [FIELDS], made once, passed to every kernel.

A kernel call with twenty arrays spends more time on unpacking them than a small search takes, and mapped
read-only arrays take numba's slow path. A zero address means that the array is absent.
"""

from __future__ import annotations

from typing import Final

VECTORS: Final = 0  # float16 [n, dim]
INV_NORMS: Final = 1  # float32 [n]
KEYS: Final = 2  # int64 [n]
ROWS: Final = 3  # n
DIM: Final = 4
CODES: Final = 5  # uint8 [n, stride]
STRIDE: Final = 6  # a multiple of 64
NEIGHBOURS: Final = 7  # uint32 [n, width]
WIDTH: Final = 8
ENTRIES: Final = 9  # uint32 [entry count]
ENTRY_CODES: Final = 10  # uint8 [entry count, stride]
ENTRY_COUNT: Final = 11
UNPREFIXED: Final = 12  # uint32 [unprefixed count]
UNPREFIXED_COUNT: Final = 13
PREFIX_DIM: Final = 14
ROTATION: Final = 15  # uint8 [code dim, rotation stride], biased int8
ROTATION_SCALES: Final = 16  # float32 [code dim]
ROTATION_STRIDE: Final = 17  # the prefix, padded to a multiple of 64
CODE_DIM: Final = 18
ID_STARTS: Final = 19  # int64 [n + 1], where in ID_TEXT each row's id begins
ID_TEXT: Final = 20  # uint8 [...]
ID_BYTES: Final = 21  # length of ID_TEXT
SCALE: Final = 22  # where in a code row its scale stands, float32
NUMBERS: Final = 23  # where in a code row its numbers begin
FIELDS: Final = 24
