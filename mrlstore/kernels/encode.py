"""The query's code: its prefix, rotated where the index says so, as int8 with one scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlstore.kernels import group_table as t

from .dot import dot_codes_of_four, largest, load_byte, load_float, quantise, sum_of_squares
from .jit import device

NO_PREFIX = np.float32(-4)


@device
def encode_query(table: Any, query: Any, padded: Any, code: Any, rotated_code: Any) -> Any:
    """Write the query's int8 code; gives (its address, scale, 128 x the sum of its codes).

    query: float32 [dim]; padded: float32 [>= max(stride, rotation stride)]; code, rotated_code: addresses of
    int8, as many.
    """
    prefix, stride = table[t.PREFIX_DIM], table[t.STRIDE]
    rotated = table[t.ROTATION] != 0
    length = table[t.ROTATION_STRIDE] if rotated else stride
    first = 0 if rotated else table[t.NUMBERS]
    padded[:length] = 0
    padded[first : first + prefix] = query[:prefix]
    squares = sum_of_squares(padded.ctypes.data, length)
    if not squares > 0:
        squares = np.float32(1)
    peak = max(largest(padded.ctypes.data, length), np.float32(1e-30))
    total = quantise(padded.ctypes.data, length, np.float32(127) / peak, code)
    scale = peak / (np.float32(127) * np.sqrt(squares))
    if not rotated:
        return code, scale, 128 * np.int64(total)
    last, first = table[t.CODE_DIM] - 1, table[t.NUMBERS]
    padded[:stride] = 0
    for j in range(0, last + 1, 4):
        rows = (j, min(j + 1, last), min(j + 2, last), min(j + 3, last))
        a, b, c, d = (
            table[t.ROTATION] + rows[0] * length,
            table[t.ROTATION] + rows[1] * length,
            table[t.ROTATION] + rows[2] * length,
            table[t.ROTATION] + rows[3] * length,
        )
        products = dot_codes_of_four(a, b, c, d, code, length)
        for i in range(4):
            product = np.float32(products[i] - 128 * np.int64(total))
            padded[first + rows[i]] = product * load_float(table[t.ROTATION_SCALES] + 4 * rows[i]) * scale
    peak = max(largest(padded.ctypes.data, stride), np.float32(1e-30))
    total = quantise(padded.ctypes.data, stride, np.float32(127) / peak, rotated_code)
    return rotated_code, peak / np.float32(127), 128 * np.int64(total)


@device
def lead_of(code: Any, length: Any, stride: Any) -> Any:
    """Of the first `length` bytes of a query's code: 128 x their sum, and their share of its squares."""
    total: Any = np.int64(0)
    squares: Any = np.int64(0)
    whole: Any = np.int64(0)
    for i in range(stride):
        number = np.int64(np.int8(load_byte(code + i)))
        whole += number * number
        if i < length:
            total += number
            squares += number * number
    return 128 * total, squares / max(whole, 1)


@device
def score_four(
    table: Any, a: Any, b: Any, c: Any, d: Any, length: Any, code: Any, scale: Any, bias: Any
) -> Any:
    """The approximate cosine of the prefixes: four stored code rows against the query's code.

    Of the first `length` bytes alone, and with their bias, it is the part that these have in the sum. Four at
    once take less than four times as long as one. NO_PREFIX for rows whose prefix is too short for a code:
    their scale is zero.
    """
    dots, at = dot_codes_of_four(a, b, c, d, code, length), table[t.SCALE]
    return (
        scaled(dots[0], a + at, scale, bias),
        scaled(dots[1], b + at, scale, bias),
        scaled(dots[2], c + at, scale, bias),
        scaled(dots[3], d + at, scale, bias),
    )


@device
def scaled(dot: Any, at: Any, scale: Any, bias: Any) -> Any:
    """The score that a dot product stands for with the codes whose scale is at this address."""
    own = load_float(at)
    if own == np.float32(0):
        return NO_PREFIX
    return np.float32(dot - bias) * (own * scale)
