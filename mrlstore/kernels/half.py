"""Unit rows as float16: numpy divides in one pass and rounds in another, one number at a time."""

from __future__ import annotations

from typing import Any

from .dot import divide_to_half, features
from .jit import kernel

KNOWN = "f16c" in features()  # elsewhere numpy has to do it: LLVM would call a function that is not there


@kernel("void(int64, float32[::1], uint16[:, ::1])")
def unit_halves(numbers: Any, lengths: Any, halves: Any) -> None:
    """Write the bits of rows / lengths as float16, rounded to the nearest: the same as numpy gives.

    numbers: address of float32 [n, dim], C-contiguous; lengths: float32 [n]; halves: uint16 [n, dim].
    """
    n, dim = halves.shape
    for row in range(min(n, lengths.size)):
        divide_to_half(numbers + 4 * row * dim, dim, lengths[row], halves.ctypes.data + 2 * row * dim)
