"""The values of a field in some rows of a part: counted, or one for each row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.dictionary import item_at, unsortable
from mrlstore.columns.layout import FALSE, FIRST, MISSING, NULL, ODD, TRUE, Field, InvalidColumns
from mrlstore.where import Scalar, as_whole


class Counted(NamedTuple):
    """In how many rows a value stands."""

    value: Scalar
    rows: int


class Tally(NamedTuple):
    """How many rows have each value of a field, by itself or in a list."""

    counts: list[Counted]
    undecided: NDArray[np.int64]  # rows that are not counted, because only their JSON tells


class RowValues(NamedTuple):
    """One value for each of n rows; lists, objects, null and rows without the field have none."""

    numbers: NDArray[np.int64]  # [n], which of `values` a row has; -1: none
    values: list[Scalar]
    undecided: NDArray[np.int64]  # positions of rows that only their JSON tells


def tally(field: Field, rows: NDArray[np.int64], total: int) -> Tally:
    """Count the values of the field in these rows, ascending, of the `total` that the part has."""
    chosen = np.zeros(total, dtype=np.bool_)
    chosen[rows] = True
    odd = np.zeros(total, dtype=np.bool_)
    odd[rows[codes_of(field, rows) == ODD]] = True
    members, member_rows = field.member_codes, field.member_rows.astype(np.int64)
    if member_rows.size and int(member_rows.max()) >= total:
        raise InvalidColumns(f"field {field.name!r}: a list of a row that does not exist")
    odd[member_rows[(members == ODD) & chosen[member_rows]]] = True
    chosen &= ~odd
    codes = codes_of(field, np.flatnonzero(chosen))
    counts = np.bincount(codes[codes < field.size], minlength=field.size)
    inner = members[chosen[member_rows]]
    counts += np.bincount(inner[inner < field.size], minlength=field.size)
    counts[:NULL] = 0
    found = [Counted(value_at(field, code), int(counts[code])) for code in np.flatnonzero(counts).tolist()]
    return Tally(found, np.flatnonzero(odd))


def row_values(field: Field, rows: NDArray[np.int64]) -> RowValues:
    """The field's value in each of these rows."""
    codes = codes_of(field, rows)
    used, numbers = np.unique(codes, return_inverse=True)
    valid = (used > NULL) & (used < field.size)
    place = np.where(valid, np.cumsum(valid) - 1, -1)
    values = [value_at(field, code) for code in used[valid].tolist()]
    return RowValues(place[numbers], values, np.flatnonzero(codes == ODD))


def codes_of(field: Field, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The code of the field in each of these rows, int64 [n]; MISSING where a row lacks it."""
    if field.dense:
        return field.codes[rows].astype(np.int64)
    if not field.rows.size:
        return np.full(len(rows), MISSING, dtype=np.int64)
    at = np.minimum(np.searchsorted(field.rows, rows.astype(np.uint32)), field.rows.size - 1)
    return np.where(field.rows[at] == rows, field.codes[at], MISSING).astype(np.int64)


def value_at(field: Field, code: int) -> Scalar:
    """The scalar that a code from NULL on stands for; a whole number is an int."""
    if code <= TRUE:
        return {NULL: None, FALSE: False, TRUE: True}[code]
    number = code - FIRST
    for array in (field.ints, field.floats):
        if number < array.size:
            return as_whole(array.item(number))
        number -= array.size
    if number < field.big_ends.size:
        return unsortable(item_at(field.big_ends, field.bigs.data, number))
    text = item_at(field.string_ends, field.strings.data, number - field.big_ends.size)
    try:
        return text.decode(errors="surrogatepass")
    except UnicodeDecodeError as error:
        raise InvalidColumns(f"field {field.name!r}: a string is not valid UTF-8") from error
