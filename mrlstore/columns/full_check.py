"""Checks all of a columns part: every code, row and offset, and the order that bisection relies on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.layout import MISSING, PRESENT, SEPARATOR, Field, Layout

_PAGE: Final = 65_536  # strings compared at a time


def verify_layout(layout: Layout) -> list[str]:
    """What is wrong, in words, one entry for each finding; empty if nothing is."""
    problems: list[str] = []
    for name in layout.names:
        field = layout.field(name)
        if field is not None:
            problems += [f"field {name!r}: {problem}" for problem in _problems(field, layout.rows)]
    spare = -layout.rows % 8
    if layout.overflow.size and layout.overflow[-1] & ((1 << spare) - 1):
        problems.append("the overflow bits name rows that do not exist")
    return problems


def _problems(field: Field, rows: int) -> list[str]:
    found = [
        *_code_problems("codes", field.codes, MISSING if field.dense else PRESENT, field.size),
        *_code_problems("member codes", field.member_codes, PRESENT + 1, field.size),
        *_row_problems("rows", field.rows, rows, strict=True),
        *_row_problems("member rows", field.member_rows, rows, strict=False),
        *_heap_problems("big numbers", field.big_ends, field.bigs),
        *_heap_problems("strings", field.string_ends, field.strings),
    ]
    for what, values in (("ints", field.ints), ("floats", field.floats)):
        if not (values[1:] > values[:-1]).all() or (values.size == 1 and values[0] != values[0]):
            found.append(f"the {what} are not in ascending order")
    present = int(np.count_nonzero(field.codes))
    if field.present != present:
        found.append(f"{present} rows have it, not {field.present} as stated")
    return found


def _code_problems(what: str, codes: NDArray[Any], low: int, high: int) -> list[str]:
    if not codes.size or (int(codes.min()) >= low and int(codes.max()) < high):
        return []
    wrong = np.flatnonzero((codes < low) | (codes >= high))
    return [f"{wrong.size} {what} are not from {low} up to {high}, the first at {wrong[0]}"]


def _row_problems(what: str, rows: NDArray[np.uint32], limit: int, *, strict: bool) -> list[str]:
    if not rows.size:
        return []
    found = []
    if int(rows.max()) >= limit:
        found.append(f"some {what} are not below {limit}")
    ascending = rows[1:] > rows[:-1] if strict else rows[1:] >= rows[:-1]
    if not ascending.all():
        found.append(f"the {what} are not in ascending order")
    return found


def _heap_problems(what: str, ends: NDArray[Any], data: NDArray[np.uint8]) -> list[str]:
    if not ends.size:
        return [f"bytes of {what} that belong to none"] if data.size else []
    if not (ends[0] > 0 and (ends[1:] > ends[:-1]).all() and int(ends[-1]) == data.size):
        return [f"the ends of the {what} are out of order or out of range"]
    found = []
    if not (data[ends - 1] == SEPARATOR).all():
        found.append(f"some {what} are not closed by 0xFF")
    previous = b""
    for first in range(0, ends.size, _PAGE):
        stops = ends[first : first + _PAGE].tolist()
        start = int(ends[first - 1]) if first else 0
        for stop in stops:
            item = data[start : stop - 1].tobytes()
            if (first or start) and item <= previous:
                found.append(f"the {what} are not in ascending order")
                return found
            if what == "strings" and not _is_text(item):
                found.append("some strings are not valid UTF-8")
                return found
            previous, start = item, stop
    return found


def _is_text(item: bytes) -> bool:
    try:
        item.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
