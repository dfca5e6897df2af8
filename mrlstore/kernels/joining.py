"""Texts of rows, copied out of a mapped file into one text and checked on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import device, kernel
from .memory import load_byte, load_long, load_row, move, prefetch

COMMA = 0x2C
NULL = 0x6C6C756E  # "null"
PREFETCHED = 1_024  # bytes of each text
MARK = 0xFF  # a text that begins with it is in the catalogue only
_BYTE, _SHIFT, _ALL = np.uint64(0xFF), np.uint64(8), np.uint64(0xFFFFFFFF)


@device
def crc32(address: Any, length: Any, begun: Any, steps: Any) -> Any:
    """The crc32, uint64, of the bytes at an address, as zlib.crc32(bytes, begun), eight bytes at a time.

    steps: uint32 [8, 256]; steps[j, b] is the crc of byte b with j bytes of zeros behind it.
    """
    crc = np.uint64(begun) ^ _ALL
    stop = address + length
    while stop - address >= 8:
        word = np.uint64(load_long(address)) ^ crc
        crc = np.uint64(0)
        for j in range(7, -1, -1):
            crc ^= np.uint64(steps[j, word & _BYTE])
            word >>= _SHIFT
        address += 8
    while address < stop:
        crc = np.uint64(steps[0, (crc ^ np.uint64(load_byte(address))) & _BYTE]) ^ (crc >> _SHIFT)
        address += 1
    return (crc ^ _ALL) & _ALL


@kernel("void(int64[::1], uint32[:, ::1], int64, int64[::1], int64[::1], uint8[::1], int64[::1])")
def join_texts(table: Any, steps: Any, as_json: Any, chosen: Any, rows: Any, joined: Any, ends: Any) -> None:
    """Write the texts of some rows one after the other, COMMA between them; with as_json "null" for none.

    table: int64 [5]: the addresses of offsets: int64 [n + 1], bytes: uint8 [size] and crcs: uint32 [n]; n;
    size. chosen: int64 [2]: how many of `rows`: int64 are meant, and what is added to each. ends: int64, at
    least one more than rows: receives where each text ends in `joined`: uint8, and behind them where all end.
    That is -1 where `joined` is too short, a text is marked, does not match its crc, or lies elsewhere.
    """
    offsets, text, crcs, n, size = table[0], table[1], table[2], table[3], table[4]
    count, at = min(chosen[0], rows.size), 0
    out = joined.ctypes.data
    ends[count] = -1
    for i in range(count):
        row = rows[i] + chosen[1]
        if not 0 <= row < n:
            return
        prefetch(offsets + 8 * row, 16)
        prefetch(crcs + 4 * row, 4)
    for i in range(count):
        at_row = offsets + 8 * (rows[i] + chosen[1])
        start = load_long(at_row)
        prefetch(text + start, min(max(load_long(at_row + 8) - start, 0), PREFETCHED))
    for i in range(count):
        row = rows[i] + chosen[1]
        start, stop = load_long(offsets + 8 * row), load_long(offsets + 8 * row + 8)
        if not 0 <= start <= stop <= size or stop - start + 5 > joined.size - at:
            return
        length = stop - start
        if crc32(text + start, length, row, steps) != np.uint64(load_row(crcs + 4 * row)):
            return
        if length > 0:
            if load_byte(text + start) == MARK:
                return
            move(out + at, text + start, length)
            at += length
        elif as_json:
            for j in range(4):
                joined[at + j] = (NULL >> (8 * j)) & 0xFF
            at += 4
        ends[i] = at
        if i + 1 < count:
            joined[at] = COMMA
            at += 1
    ends[count] = at
