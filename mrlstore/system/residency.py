"""Which pages of mapped arrays are in memory, by mincore, on systems that have it."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def absent_pages(rows: NDArray[np.float16], numbers: NDArray[np.int64]) -> int | None:
    """How many pages under these rows of a mapped array [n, dim] must be read; None where unknown."""
    mincore = _mincore()
    if mincore is None or not rows.flags.c_contiguous:
        return None
    row_bytes = rows.shape[1] * rows.itemsize
    first = rows.__array_interface__["data"][0] + numbers.astype(np.int64) * row_bytes
    start, stop = first // mmap.PAGESIZE, (first + row_bytes - 1) // mmap.PAGESIZE + 1
    pages = np.unique(np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)] or [start]))
    answer = ctypes.create_string_buffer(1)
    absent = 0
    for page in pages.tolist():
        if mincore(page * mmap.PAGESIZE, mmap.PAGESIZE, answer) != 0:
            return None
        absent += not answer.raw[0] & 1
    return absent


@functools.cache
def _mincore() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    function.restype = ctypes.c_int
    return function
