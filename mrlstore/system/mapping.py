"""Mapping a file for reading without keeping a descriptor open for it.

Python's mmap duplicates the descriptor and keeps it as long as the map lives (until 3.13, where `trackfd`
turns that off). An open store maps some 17 files a segment, so 40 stores would need more than the 1,024
descriptors that a process usually may have. Here an anonymous map of Python's reserves the addresses, and the
file is mapped over it: Python's object then owns the map, and there is no descriptor.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from collections.abc import Callable
from typing import Final

import numpy as np

_MAP_FIXED: Final = 0x10  # the same on Linux and macOS; Python's mmap does not name it
_FAILED: Final = ctypes.c_void_p(-1).value
_broken: list[mmap.mmap] = []  # never freed: what lies at their addresses is not known


def map_file(descriptor: int, size: int) -> mmap.mmap:
    """Map the first `size` bytes (> 0) of a file for reading; the descriptor may be closed afterwards."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, trackfd=False)
    remap = _mmap()
    if remap is None:
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    reserved = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    address = np.frombuffer(reserved, np.uint8).__array_interface__["data"][0]
    flags = mmap.MAP_SHARED | _MAP_FIXED
    if remap(address, size, mmap.PROT_READ, flags, descriptor, 0) == _FAILED:
        _broken.append(reserved)
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return reserved


@functools.cache
def _mmap() -> Callable[..., int] | None:
    """The system's mmap, or None where there is no such function."""
    try:
        function = ctypes.CDLL(None, use_errno=True).mmap
    except (AttributeError, OSError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    return function
