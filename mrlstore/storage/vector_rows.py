"""How a caller's vectors become what is stored: checked, scaled to unit length, rounded to float16."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import is_number_type
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.kernels.load import kernels
from mrlstore.types import LIMITS

_KINDS: Final = {"U": "texts", "S": "bytes", "b": "booleans", "c": "complex numbers"}  # of arrays
_BLOCK = 512  # rows converted at a time: few enough that their float64 copy stays in the processor's cache
_NARROW = 32  # rows whose lengths are computed at a time, for the same reason
_MANY = 256  # from so many rows on, rounding by a compiled kernel is faster than by numpy
_SMALL_SQUARE, _LARGE_SQUARE = 1e-30, 1e37  # squared lengths that a float32 sum holds exactly enough
_SHORTEST, _LONGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def raw_array(values: Any, what: str) -> NDArray[Any]:
    """What numpy makes of values; InvalidInput where that is nothing, or where some of them are masked."""
    masked: Any = sys.modules.get("numpy.ma")  # not imported here: see system.late
    if isinstance(values, getattr(masked, "MaskedArray", ())) and masked.is_masked(values):
        raise InvalidInput(f"{what}: some values are masked; fill them, or leave these rows out")
    try:
        array = np.asarray(values)
        return array.astype(np.float32) if is_number_type(array.dtype) else array
    except ValueError as error:
        raise InvalidInput(f"{what}: rows of different lengths ({error})") from error
    except (TypeError, RuntimeError) as error:  # a tensor in another device's memory, for example
        raise InvalidInput(f"{what}: no array comes of a {type(values).__name__} ({error})") from error


def as_array(values: Any, what: str) -> NDArray[Any]:
    """As `raw_array`; arrays of Python objects, such as columns of data frames, are converted like lists."""
    array = raw_array(values, what)
    return raw_array(array.tolist(), what) if array.dtype == object else array


def as_matrix(vectors: Any, what: str = "vectors") -> NDArray[Any]:
    """An array of real numbers [n, dim], of any layout or byte order; InvalidInput says what else it is."""
    array = as_array(vectors, what)
    if array.dtype == object:
        raise InvalidInput(f"{what}: expected numbers, got Python objects or rows of different lengths")
    if array.dtype.kind not in "fiu":
        kind = _KINDS.get(array.dtype.kind, f"{array.dtype}")
        raise InvalidInput(
            f"{what}: expected real numbers, got {kind}; vectors.astype(np.float32) converts what can be"
        )
    if array.ndim == 1:
        raise InvalidInput(
            f"{what}: expected rows, of shape [n, dim], got one vector of {len(array)}: write [vector]"
        )
    if array.ndim != 2:
        raise InvalidInput(f"{what}: expected shape [n, dim], got {list(array.shape)}")
    return array


def check_dim(found: int, dim: int | None, what: str = "vectors") -> int:
    """The dimension to use: the store's, or for a new store the one found, if it is allowed."""
    if dim is not None and found != dim:
        raise InvalidInput(f"{what}: {found} dimensions, but this store has {dim}")
    if not LIMITS.min_dim <= found <= LIMITS.max_dim:
        raise LimitExceeded(f"{what}: {found} dimensions; allowed are {LIMITS.min_dim} to {LIMITS.max_dim}")
    return found


def to_unit_rows(
    array: NDArray[Any], names: list[str] | None = None, what: str = "vectors"
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Scale rows [n, dim] to unit length: (float16 [n, dim], float32 [n] original lengths).

    Non-finite values, zero rows and lengths outside float32 raise InvalidInput, with the row's name.
    """
    n, dim = array.shape
    rows, norms = np.empty((n, dim), dtype=np.float16), np.empty(n, dtype=np.float32)
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    for start in range(0, n, _BLOCK):
        block = np.ascontiguousarray(
            array[start : start + _BLOCK], dtype=np.float32 if narrow else np.float64
        )
        lengths = check_lengths(block, what, names, start)
        norms[start : start + _BLOCK] = lengths
        _write(block, lengths.astype(block.dtype), rows[start : start + _BLOCK])
    return rows, norms


def _write(block: NDArray[Any], lengths: NDArray[Any], rows: NDArray[np.float16]) -> None:
    """Write block / lengths as float16, all C-contiguous; a large one by a kernel, to the same bits."""
    if len(block) >= _MANY and block.dtype == np.float32:
        kernels().unit_halves(block.__array_interface__["data"][0], lengths, rows.view(np.uint16))
        return
    rows[:] = block / lengths[:, None]


def with_directions(matrix: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Rows [n, dim] as float32 whose squared lengths float32 holds; InvalidInput names one without direction.

    Rows that need no rescaling keep their values, so a row's scores do not depend on the rows beside it.
    """
    if matrix.dtype != np.float32:
        wide = matrix.astype(np.float64)
        return np.asarray(wide / check_lengths(wide, what)[:, None], dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is rescaled or refused below
        squares = np.vecdot(matrix, matrix)
    odd = ~((squares > _SMALL_SQUARE) & (squares < _LARGE_SQUARE))
    if not odd.any():
        return np.ascontiguousarray(matrix)
    lengths = check_lengths(matrix.astype(np.float64), what)
    units = np.array(matrix)
    units[odd] = matrix[odd] / lengths[odd, None]
    return units


def check_lengths(
    block: NDArray[Any], what: str, names: list[str] | None = None, first: int = 0
) -> NDArray[np.float64]:
    """Lengths of rows [n, dim], float64 [n]; InvalidInput names a row that has no usable direction."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = _lengths(block)
        wrong = np.flatnonzero(~((lengths >= _SHORTEST) & (lengths <= _LONGEST)))
    if len(wrong):
        at = int(wrong[0])
        name = f"row {first + at}" if names is None else f"row {first + at} (id {names[first + at]!r})"
        raise InvalidInput(f"{what}: {name} {_fault(block[at])}")
    return lengths


def _lengths(block: NDArray[Any]) -> NDArray[np.float64]:
    """Lengths of rows [n, dim] in float64, a few rows at once so that the wide copy stays in the cache."""
    lengths = np.empty(len(block), dtype=np.float64)
    room = np.empty((_NARROW, block.shape[1]), dtype=np.float64)
    for start in range(0, len(block), _NARROW):
        wide = room[: len(block) - start]
        wide[:] = block[start : start + _NARROW]
        lengths[start : start + _NARROW] = np.sqrt((wide[:, None, :] @ wide[:, :, None])[:, 0, 0])
    return lengths


def inverse_lengths(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """1 / length of float16 rows [n, dim].

    The squares are multiples of 2**-48 and their sum is about 1, so float64 adds them without rounding:
    every process gets the same bits, in whatever order it adds.
    """
    inverse = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        inverse[start : start + _BLOCK] = 1.0 / _lengths(rows[start : start + _BLOCK])
    return inverse


def in_original_length(row: NDArray[np.float16], inv_norm: float, norm: float) -> NDArray[np.float32]:
    """One stored row [dim] brought back to the length that the caller gave it.

    The product is taken in float64 and cut to what float32 holds: rounding to float16 could otherwise carry a
    number at the edge of float32 to infinity.
    """
    wide = row.astype(np.float64) * (float(inv_norm) * float(norm))
    largest = np.finfo(np.float32).max
    return np.clip(wide, -largest, largest).astype(np.float32)


def row_checksums(
    keys: NDArray[np.int64],
    norms: NDArray[np.float32],
    inv_norms: NDArray[np.float32],
    rows: NDArray[np.float16],
) -> NDArray[np.uint32]:
    """crc32 of each row's key, lengths and float16 vector, uint32 [n]: tells which rows damage has hit."""
    heads = np.zeros(len(keys), dtype=[("key", "<i8"), ("norm", "<f4"), ("inv_norm", "<f4")])
    heads["key"], heads["norm"], heads["inv_norm"] = keys, norms, inv_norms
    head_bytes, row_bytes = heads.dtype.itemsize, rows.shape[1] * rows.itemsize
    head, body = heads.tobytes(), np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    crcs = (
        zlib.crc32(
            body[i * row_bytes : (i + 1) * row_bytes],
            zlib.crc32(head[i * head_bytes : (i + 1) * head_bytes]),
        )
        for i in range(len(keys))
    )
    return np.fromiter(crcs, dtype=np.uint32, count=len(keys))


def _fault(row: NDArray[Any]) -> str:
    if not np.isfinite(row.astype(np.float64)).all():
        return "has a value that is not finite (NaN or infinity)"
    if not row.any():
        return "is a zero vector: it has no direction"
    return "has a length that float32 cannot hold"
