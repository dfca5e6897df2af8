"""The code of a query: its prefix, rotated where the index has a rotation, as int8 with one scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import square_root
from .convert import largest, quantise
from .dot import dot_codes_of_four, sum_of_squares
from .group_table import (
    CODE_DIM,
    NUMBERS,
    PREFIX_DIM,
    ROTATION,
    ROTATION_SCALES,
    ROTATION_STRIDE,
    SCALE,
    STRIDE,
)
from .jit import device
from .memory import load_byte, load_float

NO_PREFIX = np.float32(-4)  # a score below all cosines


@device
def encode_query(table: Any, query: Any, padded: Any, code: Any, rotated_code: Any) -> Any:
    """Write the query's int8 code; gives (its address, its scale, 128 x the sum of its numbers).

    query: float32 [dim], unit length; padded: float32 [>= the longer of stride and rotation stride],
    overwritten; code, rotated_code: addresses of int8 of that length, overwritten.
    """
    prefix, stride = table[PREFIX_DIM], table[STRIDE]
    rotated = table[ROTATION] != 0
    length = table[ROTATION_STRIDE] if rotated else stride
    first = 0 if rotated else table[NUMBERS]
    padded[:length] = 0
    for i in range(prefix):
        padded[first + i] = query[i]
    squares = sum_of_squares(padded.ctypes.data, length)
    if not squares > 0:
        squares = np.float32(1)
    peak = max(largest(padded.ctypes.data, length), np.float32(1e-30))
    total = quantise(padded.ctypes.data, length, np.float32(127) / peak, code)
    scale = peak / (np.float32(127) * square_root(squares))
    if not rotated:
        return code, scale, 128 * np.int64(total)
    last, first = table[CODE_DIM] - 1, table[NUMBERS]
    padded[:stride] = 0
    for j in range(0, last + 1, 4):
        rows = (j, min(j + 1, last), min(j + 2, last), min(j + 3, last))
        a, b, c, d = (
            table[ROTATION] + rows[0] * length,
            table[ROTATION] + rows[1] * length,
            table[ROTATION] + rows[2] * length,
            table[ROTATION] + rows[3] * length,
        )
        products = dot_codes_of_four(a, b, c, d, code, length)
        for i in range(4):
            product = np.float32(of_four(products, i) - 128 * np.int64(total))
            padded[first + rows[i]] = product * load_float(table[ROTATION_SCALES] + 4 * rows[i]) * scale
    peak = max(largest(padded.ctypes.data, stride), np.float32(1e-30))
    total = quantise(padded.ctypes.data, stride, np.float32(127) / peak, rotated_code)
    return rotated_code, peak / np.float32(127), 128 * np.int64(total)


@device
def code_head(code: Any, length: Any, stride: Any) -> Any:
    """Of the first `length` numbers of a query's code: (128 x their sum, their share of the sum of squares).

    code: address of int8 [stride].
    """
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
    """Approximate cosines of prefixes, four float32: four stored code rows against the query's code.

    a, b, c, d: addresses of uint8 [stride]. With a `length` below the stride, and the bias of the query's
    first `length` numbers, it is the part of the score that these contribute. Four rows at once take less
    than four times as long as one. NO_PREFIX for rows whose prefix is too short for a code: their scale is
    zero.
    """
    dots, at = dot_codes_of_four(a, b, c, d, code, length), table[SCALE]
    return (
        scaled(dots[0], a + at, scale, bias),
        scaled(dots[1], b + at, scale, bias),
        scaled(dots[2], c + at, scale, bias),
        scaled(dots[3], d + at, scale, bias),
    )


@device
def of_four(four: Any, i: Any) -> Any:
    """four[i]; no exception where i is not 0 to 3, since kernels raise none."""
    if i == 0:
        return four[0]
    if i == 1:
        return four[1]
    return four[2] if i == 2 else four[3]


@device
def scaled(dot: Any, at: Any, scale: Any, bias: Any) -> Any:
    """The score, float32, of a dot product with a stored code row.

    at: address of the scale of that row, float32.
    """
    own = load_float(at)
    if own == np.float32(0):
        return NO_PREFIX
    return np.float32(dot - bias) * (own * scale)
