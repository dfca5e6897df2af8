"""Codes of rows that were just written, on the caller's thread, each row read once.

numpy takes a pass over all rows for each step, and multiplies by OpenBLAS on all cores, whose threads wait
for each other: where the cores are busy 100 rows then take 30 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import square_root
from .convert import largest, quantise, widen_squares
from .dot import multiply_rows
from .jit import kernel
from .views import floats, signed_bytes

_AT_ONCE = 4  # rows, so that the axes are read from memory once for all of them
_TILE = 32  # axes that multiply_rows takes at a time
_SCALE_BYTES = 4
_TINY = 1e-30


@kernel(
    "void(int64, int64, int64, int64, float32, float32[:, ::1], float32[:, ::1], float32[::1], uint8[:, ::1],"
    " uint8[::1])"
)
def encode_rows(
    vectors: Any, dim: Any, prefix_dim: Any, code_dim: Any, short_prefix: Any, axes: Any, room: Any,
    inv_norms: Any, codes: Any, has_prefix: Any,
) -> None:  # fmt: skip
    """Write the code of each row, 1 / its length, and whether its prefix is long enough for a code.

    vectors: address of float16 [n, dim]; code_dim: numbers in a code; short_prefix: the least part of the
    whole length that a usable prefix has; axes: float32 [prefix_dim, w], those of the rotation beside each
    other, w being code_dim rounded up to a multiple of 32, or of no size without one; room: float32 [9, at
    least dim + 16 and w], overwritten; inv_norms: float32 [n]; codes: uint8 [n, stride]; has_prefix: uint8
    [n].
    A row that is zero or not finite has an inverse length that is not finite, or 0.
    """
    n, width, room_bytes = min(inv_norms.size, len(codes), has_prefix.size), axes.shape[1], 4 * room.shape[1]
    numbers, rotated, spare = room.ctypes.data, room[4].ctypes.data, room[8].ctypes.data
    whole = -(-code_dim // 16) * 16
    for first in range(0, n, _AT_ONCE):
        for r in range(_AT_ONCE):
            row = min(first + r, n - 1)
            at, prefix = vectors + 2 * row * dim, room[r]
            squares = widen_squares(at, prefix_dim, prefix.ctypes.data)
            rest = widen_squares(at + 2 * prefix_dim, dim - prefix_dim, spare)
            length, all_length = square_root(squares), square_root(squares + rest)
            inv_norms[row] = np.float32(1.0 / all_length)
            usable = length > short_prefix * max(all_length, _TINY)
            has_prefix[row] = usable
            factor = np.float32(1.0 / max(length, _TINY)) if usable else np.float32(0)
            for i in range(prefix_dim):
                prefix[i] *= factor
            prefix[prefix_dim:whole] = np.float32(0)
        if width > 0:
            for j in range(0, width, _TILE):
                multiply_rows(
                    numbers, room_bytes, axes.ctypes.data + 4 * j, 4 * width, prefix_dim, rotated + 4 * j
                )
        for r in range(min(_AT_ONCE, n - first)):
            row, source = first + r, (rotated if width > 0 else numbers) + r * room_bytes
            peak = max(largest(source, whole), np.float32(_TINY))
            quantise(source, whole, np.float32(127) / peak, spare)
            code, signed = codes[first + r], signed_bytes(spare, code_dim)
            code[:] = 128
            for i in range(min(code_dim, code.size - _SCALE_BYTES)):
                code[_SCALE_BYTES + i] = np.uint8(np.int16(signed[i]) + 128)
            floats(code.ctypes.data, 1)[0] = peak / np.float32(127) if has_prefix[row] else np.float32(0)
