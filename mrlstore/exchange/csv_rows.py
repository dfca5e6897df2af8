"""CSV: one row a line below a line of column names, as spreadsheets and databases write it.

Cells are texts. Those of columns that become metadata are read as numbers, true and false where they are
written as JSON writes these, so that filters compare them; "007" stays a text. An empty cell is none.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import KEYS, ROW_ERRORS, FieldNames, InputRow, Refusal, make_row, refusal
from mrlstore.exchange.jsonl import LINE_BYTES
from mrlstore.types import LIMITS

_DELIMITERS: Final = ",;\t"
_SCALAR: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|true|false")
_BETWEEN_NUMBERS: Final = re.compile(r"[\s,;]+")
_MARK: Final = "\ufeff"  # some programs begin UTF-8 files with it


def read_csv(
    file: BinaryIO, name: str, vectors: NDArray[Any] | None, fields: FieldNames
) -> Iterator[InputRow | Refusal]:
    """Read CSV in constant memory; lines that are empty are skipped.

    Args:
        file: UTF-8, with commas, semicolons or tabs between the cells, whichever the first line has most of.
        name: the file's name, for messages.
        vectors: [n, dim], if the vectors do not stand in a column: row i of the file has row i.
        fields: what the columns are called. A vector is a cell of numbers, `[0.1, 0.2]` or `0.1 0.2`;
            metadata is a JSON object.

    Raises:
        InvalidInput: a column is missing or there twice, or the file has fewer or more rows than `vectors`.
    """
    if csv.field_size_limit() < LINE_BYTES:
        csv.field_size_limit(LINE_BYTES)  # of the process: 131,072 by default, and a document may be longer
    lines = _Lines(file, name)
    first = next(lines, "").removeprefix(_MARK)
    delimiter = max(_DELIMITERS, key=first.count)
    columns = [column.strip() for column in next(csv.reader([first], delimiter=delimiter), [])]
    _check_columns(columns, name, fields)
    return _rows(lines, columns, delimiter, vectors, fields)


class _Lines(Iterator[str]):
    """The lines of a file as text, and the number of the last one."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name, self.number = file, name, 0

    def __next__(self) -> str:
        line = self.file.readline(LINE_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LINE_BYTES:
            raise InvalidInput(f"{self.name}:{self.number}: a line of more than {LINE_BYTES:,} bytes")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{self.name}:{self.number}: not UTF-8 text ({error.reason}); save the file as UTF-8"
            ) from error


def _check_columns(columns: list[str], name: str, fields: FieldNames) -> None:
    if not any(columns):
        raise InvalidInput(f"{name}: no line of column names")
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{name}: two columns are called {twice!r}")
    fields.check_columns(name, columns)


def _rows(
    lines: _Lines, columns: list[str], delimiter: str, vectors: NDArray[Any] | None, fields: FieldNames
) -> Iterator[InputRow | Refusal]:
    key, seen = fields.name("vector"), 0
    parts = {fields.name(part) for part in KEYS}
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        place = f"{lines.name}:{lines.number + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield refusal(place, ValueError(f"not CSV: {error}"))
            continue
        if cells is None:
            break
        if not cells:
            continue
        if vectors is not None and seen >= len(vectors):
            raise InvalidInput(f"{place}: the vectors ended after {len(vectors):,} rows")
        beside = None if vectors is None else vectors[seen]
        seen += 1
        try:
            if len(cells) != len(columns):
                raise ValueError(f"{len(cells):,} cells below {len(columns):,} column names")
            values = {
                column: (cell if column in parts else _value(cell)) if cell else None
                for column, cell in zip(columns, cells, strict=True)
                if column not in fields.omit
            }
            inside = _vector(values.get(key))
            if beside is not None and inside is not None:
                raise ValueError("a vector in the row, and another in the file of vectors")
            yield make_row(values, place, inside if beside is None else beside, fields)
        except ROW_ERRORS as error:
            yield refusal(place, error)
    if vectors is not None and seen < len(vectors):
        raise InvalidInput(f"{lines.name}: {seen:,} rows for {len(vectors):,} vectors")


def _value(cell: str) -> Any:
    """A number, a truth value or the text itself."""
    return json.loads(cell) if _SCALAR.fullmatch(cell) else cell


def _vector(cell: str | None) -> NDArray[np.float32] | None:
    if cell is None:
        return None
    numbers = [text for text in _BETWEEN_NUMBERS.split(cell.strip().strip("[](){}")) if text]
    if len(numbers) > LIMITS.max_dim:
        raise ValueError(f"a vector of {len(numbers):,} dimensions; at most {LIMITS.max_dim:,}")
    try:
        with np.errstate(over="ignore"):  # the store refuses infinity, and says of which row
            return np.array([float(text) for text in numbers], dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"the vector is not a list of numbers: {cell!r:.60}") from error
