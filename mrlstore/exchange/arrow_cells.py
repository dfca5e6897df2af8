"""Columns of Arrow as Python values: vectors as arrays, every other cell by itself if need be.

A cell that has no Python value, such as a date in the year 20,000, becomes an UnreadableCell, and NaN None:
pandas knows no difference between the two, so there is none for any table or frame.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.arrow import pyarrow
from mrlstore.exchange.input_row import UnreadableCell
from mrlstore.types import LIMITS


def storage_of(kind: Any) -> Any:
    """The type that an extension type is stored as, such as the lists of a column of tensors."""
    while isinstance(kind, pyarrow().BaseExtensionType):
        kind = kind.storage_type
    return kind


def check_vector_type(kind: Any, name: str) -> None:
    """Refuse a column that can't hold vectors."""
    types, shape = pyarrow().types, getattr(kind, "shape", None)
    stored = storage_of(kind)
    if types.is_null(stored):  # no row has a vector
        return
    lists = ("is_fixed_size_list", "is_list", "is_large_list", "is_list_view", "is_large_list_view")
    is_list = any(getattr(types, test, bool)(stored) for test in lists if hasattr(types, test))
    if (shape is not None and len(shape) != 1) or not (
        is_list and (types.is_floating(stored.value_type) or types.is_integer(stored.value_type))
    ):
        raise InvalidInput(f"{name}: the column of vectors holds {kind}, not lists of numbers")
    if types.is_fixed_size_list(stored) and stored.list_size > LIMITS.max_dim:
        raise InvalidInput(f"{name}: vectors of {stored.list_size} dimensions; at most {LIMITS.max_dim}")


def vectors_of(column: Any) -> list[NDArray[Any] | None]:
    """The vector [dim] of each row of a list column, None for null; null elements become NaN."""
    while isinstance(column.type, pyarrow().BaseExtensionType):
        column = column.storage
    if column.null_count == len(column):
        return [None] * len(column)
    if hasattr(column, "sizes"):  # a list view: rows lie anywhere in the values, and may share some
        flat = column.values.to_numpy(zero_copy_only=False)
        begins, sizes = column.offsets.to_numpy(), column.sizes.to_numpy()
        there = column.is_valid().to_numpy(zero_copy_only=False)
        spans = zip(begins.tolist(), sizes.tolist(), there, strict=True)
        return [flat[begin : begin + size] if is_there else None for begin, size, is_there in spans]
    flat = column.flatten().to_numpy(zero_copy_only=False)  # without those of null rows
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if hasattr(column.type, "list_size"):
        lengths = np.where(there, column.type.list_size, 0)
    else:
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths, dtype=np.int64)
    return [
        flat[end - length : end] if is_there else None
        for end, length, is_there in zip(ends, lengths, there, strict=True)
    ]


def cells_of(column: Any) -> Iterator[Any]:
    """The Python value of each row.

    Texts that rows share are shared here too, and structs and lists are made one by one: a column of few
    bytes may stand for gigabytes.
    """
    types = pyarrow().types
    kind = column.type
    if types.is_dictionary(kind):
        return _shared(column.dictionary, column.indices.to_pylist())
    if getattr(types, "is_run_end_encoded", bool)(kind):
        first, last = column.find_physical_offset(), column.find_physical_length()
        ends = column.run_ends.to_numpy()[first : first + last]
        rows = np.arange(len(column)) + column.offset
        indices = np.searchsorted(ends, rows, side="right")
        return _shared(column.values.slice(first, last), indices.tolist())
    if types.is_nested(storage_of(kind)):
        return (_cell(scalar) for scalar in column)
    if types.is_timestamp(kind) and kind.tz is not None:  # the numbers are in UTC, whatever zone is named
        column = column.view(pyarrow().timestamp(kind.unit, "UTC"))
    if types.is_timestamp(kind) and kind.unit == "ns":
        return _nanosecond_texts(column)
    if types.is_time64(kind) and kind.unit == "ns":
        return _nanosecond_times(column)
    try:
        return map(_without_nan, column.to_pylist())
    except Exception:  # pyarrow raises several kinds; cell by cell the others are kept
        return (_cell(scalar) for scalar in column)


def _shared(values: Any, indices: list[int | None]) -> Iterator[Any]:
    """The values at these indices, each converted once."""
    needed = sorted({index for index in indices if index is not None})
    cells = dict(zip(needed, cells_of(values.take(pyarrow().array(needed, "int64"))), strict=True))
    return (None if index is None else cells[index] for index in indices)


def _cell(scalar: Any) -> Any:
    try:
        return _without_nan(scalar.as_py())
    except Exception as error:  # see cells_of
        return UnreadableCell(f"{scalar.type} without a value in Python: {error}")


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _nanosecond_texts(column: Any) -> Iterator[Any]:
    """Instants in ISO 8601, with nine digits where nanoseconds need them, whether pandas is there or not."""
    pa = pyarrow()
    micro = pa.timestamp("us", column.type.tz)
    for value in column.cast(pa.int64()).to_pylist():
        if value is None:
            yield None
            continue
        whole, rest = divmod(value, 1000)
        instant = _cell(pa.scalar(whole, micro))
        yield instant if isinstance(instant, UnreadableCell) or not rest else _with_digits(instant, rest)


def _nanosecond_times(column: Any) -> Iterator[Any]:
    for value in column.cast(pyarrow().int64()).to_pylist():
        if value is None:
            yield None
            continue
        seconds, rest = divmod(value, 10**9)
        micros, nanos = divmod(rest, 1000)
        time = datetime.time(seconds // 3600, seconds // 60 % 60, seconds % 60, micros)
        yield _with_digits(time, nanos) if nanos else time


def _with_digits(instant: datetime.datetime | datetime.time, nanos: int) -> str:
    """An instant in ISO 8601 with nine digits of a second."""
    naive = instant.replace(tzinfo=None).isoformat(timespec="microseconds")
    zone = instant.isoformat(timespec="microseconds").removeprefix(naive)
    return f"{naive}{nanos:03}{zone}"
