"""Few rows multiplied by the axes of a rotation, on the caller's thread.

numpy multiplies by OpenBLAS on all cores, whose threads wait for each other: 100 rows take 0.7 ms on a quiet
machine, and 30 ms where the cores are busy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import kernel

_AT_ONCE = 4  # rows, so that the axes are read from memory once for all of them


@kernel("void(float32[:, ::1], float32[:, ::1], float32[:, ::1])")
def rotate_rows(rows: Any, axes: Any, rotated: Any) -> None:
    """Write rows @ axes to `rotated`: float32 [n, code dims].

    rows: float32 [n, prefix]; axes: float32 [prefix, code dims].
    """
    n, prefix = rows.shape
    width = axes.shape[1]
    rotated[:] = np.float32(0)
    whole = n - n % _AT_ONCE
    for row in range(0, whole, _AT_ONCE):
        for i in range(prefix):
            a, b, c, d = rows[row, i], rows[row + 1, i], rows[row + 2, i], rows[row + 3, i]
            for j in range(width):
                factor = axes[i, j]
                rotated[row, j] += a * factor
                rotated[row + 1, j] += b * factor
                rotated[row + 2, j] += c * factor
                rotated[row + 3, j] += d * factor
    for row in range(whole, n):
        for i in range(prefix):
            a = rows[row, i]
            for j in range(width):
                rotated[row, j] += a * axes[i, j]
