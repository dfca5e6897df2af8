"""Float32 to float16: numpy does it one number at a time, which is half of what storing a batch costs."""

from __future__ import annotations

from typing import Any

from .dot import features, round_to_half
from .jit import kernel

KNOWN = "f16c" in features()  # elsewhere numpy has to do it: LLVM would call a function that is not there


@kernel("void(float32[::1], uint16[::1])")
def to_half(numbers: Any, halves: Any) -> None:
    """Write the bits of numbers as float16, rounded to the nearest as numpy does it; of equal length."""
    round_to_half(numbers.ctypes.data, min(numbers.size, halves.size), halves.ctypes.data)
