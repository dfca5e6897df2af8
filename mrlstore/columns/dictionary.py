"""A field's dictionary: the codes of the values that equal an operand, or stand in an order to it.

Numbers lie in three sorted arrays (ints, floats, bigs). Each is compared exactly with an operand of any
Python number type. Strings lie in UTF-8, whose byte order is the order of code points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.layout import FALSE, FIRST, NULL, SEPARATOR, TRUE, Field
from mrlstore.where import Ordering, Scalar

Interval = tuple[int, int]  # codes from the first up to the second, which is not included

# A longer string, or a whole number of more than eight times as many bits, is ODD.
MAX_CHARACTERS: Final = 256
_MAX_ITEM_BYTES: Final = 4 * MAX_CHARACTERS
_CHUNK_BYTES: Final = 1 << 20
_INT64: Final = np.iinfo(np.int64)


def is_odd(value: Any) -> bool:
    """Whether a scalar is too large for the dictionary, so that only the row's JSON decides."""
    if isinstance(value, str):
        return len(value) > MAX_CHARACTERS
    return isinstance(value, int) and value.bit_length() > 8 * MAX_CHARACTERS


def is_float(value: int | float) -> bool:
    """Whether float64 holds this number exactly."""
    try:
        return float(value) == value
    except OverflowError:
        return False


def sortable(value: int) -> bytes:
    """Bytes whose order is the order of the whole numbers; up to 2^524,280 in size."""
    magnitude = abs(value).to_bytes((value.bit_length() + 7) // 8, "big")
    positive = len(magnitude).to_bytes(2, "big") + magnitude
    return b"\1" + positive if value >= 0 else b"\0" + bytes(255 - byte for byte in positive)


def unsortable(data: bytes) -> int:
    """The whole number that `sortable` made these bytes of."""
    magnitude = data[3:] if data[:1] == b"\1" else bytes(255 - byte for byte in data[3:])
    number = int.from_bytes(magnitude, "big")
    return number if data[:1] == b"\1" else -number


def equal_to(field: Field, values: Iterable[Scalar]) -> list[Interval]:
    """The codes of these values, as sorted disjoint intervals."""
    codes: list[int] = []
    strings: set[str] = set()
    numbers: list[int | float] = []
    for value in values:
        if value is None:
            codes.append(NULL)
        elif isinstance(value, bool):
            codes.append(TRUE if value else FALSE)
        elif isinstance(value, str):
            strings.add(value)
        else:
            numbers.append(value)
    codes += _equal_numbers(field, numbers)
    first = field.size - field.string_ends.size
    items = sorted(value.encode(errors="surrogatepass") for value in strings)
    codes += [first + position for position in _find_all(field.string_ends, field.strings, items)]
    return merged((code, code + 1) for code in codes)


def ordered(field: Field, op: Ordering, operand: int | float | str) -> list[Interval]:
    """The codes of the values of the operand's type that stand in this order to it."""
    cuts = [_cut_strings(field, operand)] if isinstance(operand, str) else _cut_numbers(field, operand)
    found: list[Interval] = []
    for left, right, start, stop in cuts:
        bounds = {"$gt": (right, stop), "$gte": (left, stop), "$lt": (start, left), "$lte": (start, right)}
        found.append(bounds[op])
    return merged(found)


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same codes in as few intervals as they take, ascending; empty ones are dropped."""
    found: list[Interval] = []
    for start, stop in sorted(intervals):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def complement(field: Field, first: int, intervals: list[Interval]) -> list[Interval]:
    """The codes from `first` on that are in none of the sorted disjoint intervals."""
    starts = [first, *(stop for _, stop in intervals)]
    stops = [*(start for start, _ in intervals), field.size]
    return merged(zip(starts, stops, strict=True))


def intersected(sets: list[list[Interval]]) -> list[Interval]:
    """The codes that are in all of the sets, each of sorted disjoint intervals."""
    found = sets[0]
    for other in sets[1:]:
        found = merged((max(a, c), min(b, d)) for a, b in found for c, d in other)
    return found


def containing(field: Field, needle: str, candidates: NDArray[Any] | None) -> NDArray[np.bool_]:
    """The codes of the strings that contain the needle, bool [field.size].

    All strings are searched, or only those of the codes in `candidates`, where these are few.
    """
    first = field.size - field.string_ends.size
    table = np.zeros(field.size, dtype=np.bool_)
    if candidates is not None and candidates.size * 8 < field.string_ends.size:
        items, heap = needle.encode(), field.strings.data
        for code in np.unique(candidates[(candidates >= first) & (candidates < field.size)]).tolist():
            table[code] = items in item_at(field.string_ends, heap, code - first)
    elif needle:
        _search(field, needle.encode(), table[first:])
    else:
        table[first:] = True
    return table


def _search(field: Field, needle: bytes, table: NDArray[np.bool_]) -> None:
    """Mark the strings that contain the needle. The separator, never part of UTF-8, stops hits across."""
    start, size = 0, field.strings.size
    while start < size:
        stop = min(start + _CHUNK_BYTES, size)
        separators = np.flatnonzero(field.strings[stop - 1 : stop + _MAX_ITEM_BYTES] == SEPARATOR)
        stop += int(separators[0]) if separators.size else 0
        pieces = field.strings[start:stop].tobytes().split(needle)
        steps = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))[:-1] + len(needle)
        positions = start - len(needle) + np.cumsum(steps)
        hits = np.searchsorted(field.string_ends, positions.astype(field.string_ends.dtype), side="right")
        table[hits[hits < table.size]] = True
        start = stop


def _equal_numbers(field: Field, values: list[int | float]) -> list[int]:
    """The codes of these finite numbers; each is looked up in the arrays that may hold it."""
    ints: list[int] = []
    floats: list[float] = []
    bigs: list[bytes] = []
    for value in values:
        if is_float(value):
            floats.append(float(value))
        elif not is_odd(value):
            bigs.append(sortable(int(value)))
        if _INT64.min <= value <= _INT64.max and value == int(value):
            ints.append(int(value))
    codes = _positions(field.ints, np.array(ints, dtype=np.int64), FIRST)
    codes += _positions(field.floats, np.array(floats, dtype=np.float64), FIRST + field.ints.size)
    start = FIRST + field.ints.size + field.floats.size
    return codes + [start + position for position in _find_all(field.big_ends, field.bigs, sorted(set(bigs)))]


def _positions(values: NDArray[Any], items: NDArray[Any], first: int) -> list[int]:
    if not values.size:
        return []
    positions = np.minimum(np.searchsorted(values, items), values.size - 1)
    found: list[int] = (first + positions[values[positions] == items]).tolist()
    return found


def _cut_strings(field: Field, value: str) -> tuple[int, int, int, int]:
    start = field.size - field.string_ends.size
    left, right = _bisect(field.string_ends, field.strings, value.encode())
    return start + left, start + right, start, field.size


def _cut_numbers(field: Field, value: int | float) -> list[tuple[int, int, int, int]]:
    """For each array of numbers, as codes: where values >= and > the operand begin; its first and last."""
    cuts = []
    start = FIRST
    parts: list[tuple[int, Callable[[], tuple[int, int]]]] = [
        (field.ints.size, lambda: _cut_ints(field.ints, value)),
        (field.floats.size, lambda: _cut_floats(field.floats, value)),
        (field.big_ends.size, lambda: _cut_bigs(field, value)),
    ]
    for size, cut in parts:
        if size:
            left, right = cut()
            cuts.append((start + left, start + right, start, start + size))
        start += size
    return cuts


def _cut_ints(ints: NDArray[np.int64], value: int | float) -> tuple[int, int]:
    if isinstance(value, float) and math.isinf(value):
        return (ints.size, ints.size) if value > 0 else (0, 0)
    low, high = math.ceil(value), math.floor(value)
    if low > _INT64.max or high < _INT64.min:
        return (ints.size, ints.size) if low > 0 else (0, 0)
    left = np.searchsorted(ints, np.int64(low), side="left")
    return int(left), int(np.searchsorted(ints, np.int64(high), side="right"))


def _cut_floats(floats: NDArray[np.float64], value: int | float) -> tuple[int, int]:
    try:
        nearest = float(value)
    except OverflowError:
        nearest = math.inf if value > 0 else -math.inf
    # No float64 lies between the operand and the float64 next to it, so that one stands for it.
    left = np.searchsorted(floats, nearest, side="left" if nearest >= value else "right")
    return int(left), int(np.searchsorted(floats, nearest, side="right" if nearest <= value else "left"))


def _cut_bigs(field: Field, value: int | float) -> tuple[int, int]:
    size = field.big_ends.size
    if isinstance(value, float) and math.isinf(value):
        return (size, size) if value > 0 else (0, 0)
    whole = math.ceil(value)  # a fraction is far below these numbers, and may stand anywhere there
    if is_odd(whole):  # beyond every number in the dictionary
        return (size, size) if whole > 0 else (0, 0)
    return _bisect(field.big_ends, field.bigs, sortable(whole))


def _find_all(ends: NDArray[Any], data: NDArray[np.uint8], items: list[bytes]) -> list[int]:
    """The positions of those items that are there. They ascend, so each bisection narrows the others."""
    found = []
    todo = [(0, len(items), 0, ends.size)] if items and ends.size else []
    while todo:
        first, last, low, high = todo.pop()
        middle = (first + last) // 2
        left, right = _bisect(ends, data, items[middle], low, high)
        if left < right:
            found.append(left)
        if first < middle:
            todo.append((first, middle, low, left))
        if middle + 1 < last:
            todo.append((middle + 1, last, right, high))
    return found


def _bisect(
    ends: NDArray[Any], data: NDArray[np.uint8], item: bytes, low: int = 0, high: int | None = None
) -> tuple[int, int]:
    """How many entries are below the item, and how many are not above it; both lie from low to high."""
    view = data.data
    high = ends.size if high is None else high
    while low < high:
        middle = (low + high) // 2
        if item_at(ends, view, middle) < item:
            low = middle + 1
        else:
            high = middle
    found = low < ends.size and item_at(ends, view, low) == item
    return low, low + found


def item_at(ends: NDArray[Any], data: memoryview, number: int) -> bytes:
    """One string or big number; at most the bytes that one may have, even where the ends are damaged."""
    start = ends.item(number - 1) if number else 0
    stop = min(ends.item(number) - 1, start + _MAX_ITEM_BYTES)
    return data[start : max(start, stop)].tobytes()
