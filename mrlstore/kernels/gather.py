"""Copy texts that lie scattered side by side: many cache misses at a time instead of one after the other."""

from __future__ import annotations

from typing import Any

from .dot import load_long, move, prefetch
from .jit import kernel

ENDS = 16  # bytes of two offsets
AHEAD = 64  # bytes of a text that are prefetched


@kernel("int64(int64, int64, int64, int64, int64[::1], uint8[::1], int64[::1])")
def gather(offsets: Any, n: Any, text: Any, size: Any, rows: Any, copied: Any, ends: Any) -> Any:
    """Copy the texts of rows to `copied`, one after the other, and note in `ends` [m] where each ends.

    offsets: address of int64 [n + 1]; text: address of uint8 [size]; rows: int64 [m]. Gives the bytes of all
    of them; where these are more than `copied` holds, nothing of the rest was written. What damaged offsets
    or rows that are none name is taken for empty.
    """
    for i in range(rows.size):
        if 0 <= rows[i] < n:
            prefetch(offsets + 8 * rows[i], ENDS)
    for i in range(rows.size):
        if 0 <= rows[i] < n:
            start = load_long(offsets + 8 * rows[i])
            if 0 <= start < size:
                prefetch(text + start, AHEAD)
    total = 0
    for i in range(rows.size):
        start, stop = 0, 0
        if 0 <= rows[i] < n:
            start, stop = load_long(offsets + 8 * rows[i]), load_long(offsets + 8 * rows[i] + 8)
        if 0 <= start < stop <= size:
            if total + stop - start <= copied.size:
                move(copied.ctypes.data + total, text + start, stop - start)
            total += stop - start
        ends[i] = total
    return total
