"""Builds the columns of a part from the JSON texts of its rows: one column for each path."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, count
from math import isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.dictionary import MAX_CHARACTERS, is_float, is_odd, sortable
from mrlstore.columns.layout import (
    FALSE,
    FIRST,
    MAX_FIELDS,
    MISSING,
    NULL,
    ODD,
    PRESENT,
    TRUE,
    Field,
    InvalidColumns,
    assemble,
)
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.where import MAX_PATH, resolve

MAX_CANDIDATES: Final = 4_096  # paths that are followed while the rows stream by; later ones get no column
_BATCH_CHARACTERS: Final = 1 << 20  # of the rows whose values are coded together
_SORTED_AT_ONCE: Final = 16_384  # values: about 10 ms
_EXACT: Final = 2**53  # up to here float64 holds every whole number
_INT64: Final = 2**63


def build_columns(metadatas: Iterable[str | None], n: int, *, job: Job = UNWATCHED) -> NDArray[np.uint8]:
    """The columns of n rows, as one blob uint8 [bytes] for `open_columns`.

    `metadatas` are the rows' JSON objects as text, or None, in row order; they are read once and not
    kept. At most 256 paths get a column, those that most rows have; the blob tells which rows have
    others. Memory: 8 bytes for each value of a field, and each field's distinct values once.
    Once all rows are read, the job may stop it several times a second. No step holds the GIL for long.
    Raises InvalidColumns if a text is no JSON object or if there are not exactly n of them.
    """
    candidates: dict[str, _Column] = {}
    overflow = array("I")  # rows with a value that no candidate takes
    row, characters = -1, 0
    for row, text in enumerate(metadatas):
        if row >= n:
            raise InvalidColumns(f"more rows than the {n} announced")
        if text is None:
            continue
        if not _add_row(candidates, row, _parsed(text, row)):
            overflow.append(row)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS:
            characters = 0
            for column in candidates.values():
                column.take_in()
    if row + 1 != n:
        raise InvalidColumns(f"{row + 1} rows instead of the {n} announced")
    names = sorted(candidates, key=lambda name: (-len(candidates[name].rows), name))
    beyond = np.zeros(n, dtype=np.bool_)
    beyond[_uint32(overflow)] = True
    for name in names[MAX_FIELDS:]:
        beyond[_uint32(candidates.pop(name).rows)] = True
    fields = [candidates.pop(name).finish(name, n, job) for name in names[:MAX_FIELDS]]
    return assemble(n, fields, np.packbits(beyond) if beyond.any() else np.empty(0, dtype=np.uint8))


def _parsed(text: str, row: int) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidColumns(f"row {row}: the metadata is not valid JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise InvalidColumns(f"row {row}: the metadata is a JSON {type(metadata).__name__}, not an object")
    return metadata


def _add_row(candidates: dict[str, _Column], row: int, metadata: dict[str, Any]) -> bool:
    """Add a row's values to the candidates' columns; False if some value found no column."""
    complete = True
    # Without nested objects the paths of a row are its keys.
    for path, value in _flat(metadata) if dict in map(type, metadata.values()) else metadata.items():
        column = candidates.get(path)
        if column is None:
            if len(path) > MAX_PATH:  # no filter can name it
                continue
            if len(candidates) >= MAX_CANDIDATES:
                complete = False
                continue
            column = candidates[path] = _Column()
        column.rows.append(row)
        column.values.append(value)
    return complete


def _flat(metadata: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every path of a row that resolves to something, and what it resolves to, each path once."""
    pairs = _walk(metadata)
    paths = {path for path, _ in pairs}
    if len(paths) == len(pairs):
        return pairs
    return [(path, resolve(metadata, path)) for path in paths]


def _walk(metadata: dict[str, Any]) -> list[tuple[str, Any]]:
    """All values, each with its keys joined by dots; two may share a path, where keys hold dots."""
    found: list[tuple[str, Any]] = []
    todo = [("", metadata)]
    while todo:
        prefix, inner = todo.pop()
        for key, value in inner.items():
            path = prefix + key
            if len(path) <= MAX_PATH:  # a filter cannot name a longer one, nor what is below it
                found.append((path, value))
                if type(value) is dict:
                    todo.append((path + ".", value))
    return found


class _Column:
    """One path's values so far. Distinct ones are numbered as they come, from FIRST on."""

    def __init__(self) -> None:
        self.rows = array("I")
        self.values: list[Any] = []  # those of the last rows, not yet coded
        self.codes = array("I")  # one for each of `rows`, but for those
        self.member_rows = array("I")
        self.member_codes = array("I")
        next_code = count(FIRST).__next__
        self.numbers: defaultdict[int | float, int] = defaultdict(next_code)  # 1 and 1.0 are one key
        self.strings: defaultdict[str, int] = defaultdict(next_code)

    def take_in(self) -> None:
        """Code the values that were added since the last call."""
        first = len(self.codes)
        self.codes.extend(self._coded(self.values))
        lists = [value for value in self.values if type(value) is list]
        if lists:
            rows = [
                row for row, value in zip(self.rows[first:], self.values, strict=True) if type(value) is list
            ]
            self._take_in_lists(rows, lists)
        self.values = []

    def _take_in_lists(self, rows: list[int], lists: list[list[Any]]) -> None:
        """Code the lists' members, each once for its row."""
        members = np.array(self._coded([*chain.from_iterable(lists)]), dtype=np.uint64)
        of_rows = np.repeat(np.array(rows, dtype=np.uint64), [*map(len, lists)])
        scalars = members != PRESENT
        pairs = np.unique(of_rows[scalars] << np.uint64(32) | members[scalars])
        self.member_rows.frombytes((pairs >> np.uint64(32)).astype(np.uint32).tobytes())
        self.member_codes.frombytes(pairs.astype(np.uint32).tobytes())

    def _coded(self, values: list[Any]) -> list[int]:
        """One code for each value; values of one type, none of them ODD, take no branch each."""
        kinds = set(map(type, values))
        if kinds == {str} and max(map(len, values)) <= MAX_CHARACTERS:
            return [*map(self.strings.__getitem__, values)]
        if (kinds == {float} and not isnan(sum(values))) or (
            kinds == {int} and min(values) >= -_INT64 and max(values) < _INT64
        ):
            return [*map(self.numbers.__getitem__, values)]
        if kinds == {list}:
            return [PRESENT] * len(values)
        return [*map(self._code, values)]

    def _code(self, value: Any) -> int:
        kind = type(value)
        if kind is str or kind is int or kind is float:
            if is_odd(value):
                return ODD
            if kind is str:
                return self.strings[value]
            return self.numbers[value] if value == value else PRESENT  # NaN equals nothing
        if value is None:
            return NULL
        if kind is bool:
            return TRUE if value else FALSE
        return PRESENT

    def finish(self, name: str, n: int, job: Job) -> Field:
        """The column as it is stored: codes in the order of their values, dense or sparse."""
        self.take_in()
        numbers = _Numbers(_sorted(self.numbers, job))
        strings = _sorted(self.strings, job)
        size = FIRST + len(self.numbers) + len(self.strings)
        final = np.arange(size, dtype=np.uint32)
        in_order = [self.numbers[value] for value in numbers.in_order]
        job.check()
        in_order += [self.strings[value] for value in strings]
        job.check()
        final[np.array(in_order, dtype=np.int64)] = np.arange(FIRST, size, dtype=np.uint32)
        width = np.dtype("<u1" if size <= 2**8 else "<u2" if size <= 2**16 else "<u4")
        codes = final[_uint32(self.codes)].astype(width)
        member_codes = final[_uint32(self.member_codes)].astype(width)
        rows = _uint32(self.rows)
        string_ends, heap = _heap([text.encode(errors="surrogatepass") for text in strings])
        job.check()
        big_ends, bigs = _heap([sortable(value) for value in numbers.bigs])
        ends = np.dtype("<u4" if max(heap.size, bigs.size) < 2**32 else "<u8")
        # A dense column is faster to read, so it is chosen up to twice the bytes of a sparse one.
        dense = n * width.itemsize <= 2 * rows.size * (width.itemsize + 4)
        if dense:
            every = np.full(n, MISSING, dtype=width)
            every[rows] = codes
            codes, rows = every, rows[:0]
        return Field(
            name=name,
            dense=dense,
            present=len(self.rows),
            odd_scalars=int(np.count_nonzero(codes == ODD)),
            odd_members=int(np.count_nonzero(member_codes == ODD)),
            codes=codes,
            rows=rows,
            member_codes=member_codes,
            member_rows=_uint32(self.member_rows),
            ints=numbers.ints,
            floats=numbers.floats,
            big_ends=big_ends.astype(ends),
            bigs=bigs,
            string_ends=string_ends.astype(ends),
            strings=heap,
        )


class _Numbers:
    """Distinct numbers, ascending, put into the three arrays of a dictionary."""

    def __init__(self, numbers: list[int | float]) -> None:
        ints: list[int] = []
        floats: list[float] = []
        bigs: list[int] = []
        for value in numbers:
            if isinstance(value, float) and not value.is_integer():
                floats.append(value)
            elif -_INT64 <= value < _INT64:
                ints.append(int(value))
            elif is_float(value):
                floats.append(float(value))
            else:
                bigs.append(int(value))
        # One array takes one comparison instead of two, so the whole numbers join the others if they can.
        if floats and ints and ints[0] >= -_EXACT and ints[-1] <= _EXACT:
            floats = sorted([*floats, *map(float, ints)])
            ints = []
        self.in_order: list[int | float] = [*ints, *floats, *bigs]
        self.ints = np.array(ints, dtype="<i8")
        self.floats = np.array(floats, dtype="<f8")
        self.bigs = bigs


def _sorted(values: Iterable[Any], job: Job) -> list[Any]:
    """As `sorted`, in pieces: one call for a million strings would hold the GIL for a second."""
    values = list(values)
    if len(values) <= _SORTED_AT_ONCE:
        return sorted(values)
    sample = sorted(values[:: _SORTED_AT_ONCE // 16])
    bounds = sample[16::16]
    pieces: list[list[Any]] = [[] for _ in range(len(bounds) + 1)]
    for first in range(0, len(values), _SORTED_AT_ONCE):
        for value in values[first : first + _SORTED_AT_ONCE]:
            pieces[bisect_right(bounds, value)].append(value)
        job.check()
    found: list[Any] = []
    for piece in pieces:
        found += sorted(piece)
        job.check()
    return found


def _heap(items: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each item ends, and the items' bytes, each closed by 0xFF."""
    lengths = np.fromiter(map(len, items), dtype=np.int64, count=len(items)) + 1
    closed = b"\xff".join([*items, b""])
    return np.cumsum(lengths), np.frombuffer(closed, dtype=np.uint8)


def _uint32(values: array[int]) -> NDArray[np.uint32]:
    return np.frombuffer(values, dtype=np.uint32) if len(values) else np.empty(0, dtype=np.uint32)
