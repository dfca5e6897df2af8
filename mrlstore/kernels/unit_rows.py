"""Rows brought to unit length: queries as float32, rows to be stored as float16."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import square_root
from .convert import divide_to_half
from .dot import sum_of_squares
from .group_table import LARGEST_SQUARE, SMALLEST_SQUARE
from .jit import kernel


@kernel("void(int64, float32[::1], uint16[:, ::1])")
def unit_halves(numbers: Any, lengths: Any, halves: Any) -> None:
    """Write the bits of rows / lengths as float16, rounded to the nearest: the same bits that numpy gives.

    numbers: address of float32 [n, dim], C-contiguous; lengths: float32 [n]; halves: uint16 [n, dim].
    One pass; numpy divides in one pass and rounds one number at a time in another.
    """
    n, dim = halves.shape
    for row in range(min(n, lengths.size)):
        divide_to_half(numbers + 4 * row * dim, dim, lengths[row], halves.ctypes.data + 2 * row * dim)


@kernel("boolean(float32[:, ::1], int64, float64[::1])")
def normalise(vectors: Any, prefix_dim: Any, norms: Any) -> Any:
    """Scale the rows of vectors: float32 [m, dim] to unit length in place.

    norms: float64 [m], receives the length of each row's first prefix_dim dims as a part of the whole. False,
    at the first row whose length is zero, not finite, or outside of what float32 squares hold: its norm is
    then -1, and rows behind it are left as they were.
    """
    m, size = vectors.shape
    prefix_dim = min(prefix_dim, size)
    for row in range(m):
        address = vectors[row].ctypes.data
        prefix = sum_of_squares(address, prefix_dim)
        whole = prefix + sum_of_squares(address + 4 * prefix_dim, size - prefix_dim)
        if not SMALLEST_SQUARE < whole < LARGEST_SQUARE:
            norms[row] = -1.0
            return False
        factor = np.float32(1.0 / square_root(np.float64(whole)))
        for i in range(size):
            vectors[row, i] *= factor
        norms[row] = square_root(np.float64(prefix) / np.float64(whole))
    return True
