"""Rows of tables and frames: Arrow batches, pandas frames, polars frames.

A column is read by position, whatever index the frame has. A place is "NAME:row", the first row being 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mrlstore.errors import InvalidInput
from mrlstore.exchange.arrow import READ_BYTES, READ_ROWS, pyarrow
from mrlstore.exchange.arrow_cells import cells_of, check_vector_type, vectors_of
from mrlstore.exchange.input_row import (
    ROW_ERRORS,
    FieldNames,
    InputRow,
    Refusal,
    UnreadableCell,
    make_row,
    make_vector,
    refusal,
)

Rows = Iterator[InputRow | Refusal]


def read_batches(
    batches: Iterable[Any], schema: Any, name: str, fields: FieldNames, *, first: int = 1
) -> Rows:
    """Rows of record batches; `first` is the number of the first one.

    Raises:
        InvalidInput: a column is missing, is there twice, or is of a type that can't be read.
    """
    _check_columns(schema.names, name, fields)
    key = fields.name("vector")
    has_vectors = key in schema.names and key not in fields.omit
    for whole in batches:
        if has_vectors and whole.num_rows:  # a table without rows may have columns of any type
            check_vector_type(schema.field(key).type, name)
        step = _step(whole.num_rows, whole.nbytes)
        for start in range(0, whole.num_rows, step):
            batch = whole.slice(start, step)
            vectors = vectors_of(batch.column(key)) if has_vectors else None
            names = [column for column in batch.schema.names if column != key and column not in fields.omit]
            columns = {column: cells_of(batch.column(column)) for column in names}
            yield from _rows(columns, vectors, batch.num_rows, first + start, name, fields)
        first += whole.num_rows


def read_pandas(frame: Any, fields: FieldNames) -> Rows:
    """Rows of a pandas frame. NaN, NaT and NA are empty cells; pandas itself makes no difference."""
    import pandas

    missing = (pandas.NA, pandas.NaT)
    names = [str(name) for name in frame.columns]
    _check_columns(names, "frame", fields)
    for start in range(0, len(frame), READ_ROWS):
        part = frame.iloc[start : start + READ_ROWS]
        columns = {
            name: (_pandas_cell(cell, missing) for cell in part.iloc[:, number])
            for number, name in enumerate(names)
            if name not in fields.omit
        }
        vectors = columns.pop(fields.name("vector"), None)
        yield from _rows(
            columns, None if vectors is None else list(vectors), len(part), start + 1, "row", fields
        )


def read_polars(frame: Any, fields: FieldNames) -> Rows:
    """Rows of a polars frame."""
    names: Sequence[str] = frame.columns
    _check_columns(names, "frame", fields)
    key = fields.name("vector")
    step = _step(frame.height, frame.estimated_size())
    for start in range(0, frame.height, step):
        part = frame.slice(start, step)
        vectors: list[Any] | None = None
        columns = {}
        for name in names:
            if name in fields.omit:
                continue
            column = _arrow_of(part.get_column(name))
            if name != key:
                columns[name] = iter(column) if isinstance(column, list) else cells_of(column)
            elif isinstance(column, list):
                vectors = column
            else:
                check_vector_type(column.type, "frame")
                vectors = vectors_of(column)
        yield from _rows(columns, vectors, part.height, start + 1, "row", fields)


def _arrow_of(series: Any) -> Any:
    """A polars column as an Arrow array, or a list of Python values where Arrow has no such type (Int128).

    Not always the list: a date outside of Python's range ends polars' own conversion with a panic.
    """
    pa = pyarrow()
    try:
        column = series.to_arrow()
    except Exception:  # pyarrow and polars raise several kinds
        return series.to_list()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _step(rows: int, size: int) -> int:
    """How many rows are turned into Python values at once, of so many that take so many bytes."""
    return min(max(READ_BYTES * rows // max(size, 1), 1), READ_ROWS)


def _check_columns(names: Sequence[str], name: str, fields: FieldNames) -> None:
    if not names:
        return  # an empty frame
    if len(set(names)) != len(names):
        raise InvalidInput(f"{name}: two columns of the same name")
    fields.check_columns(name, names)


def _rows(
    columns: Mapping[str, Iterator[Any]],
    vectors: Sequence[Any] | None,
    count: int,
    first: int,
    name: str,
    fields: FieldNames,
) -> Rows:
    for row in range(count):
        place = f"{name}:{first + row}"
        values = {column: next(cells) for column, cells in columns.items()}
        try:
            cell = None if vectors is None else vectors[row]
            if isinstance(cell, UnreadableCell):
                raise ValueError(cell.why)
            yield make_row(values, place, make_vector(cell), fields)
        except ROW_ERRORS as error:
            yield refusal(place, error)


def _pandas_cell(cell: Any, missing: tuple[Any, ...]) -> Any:
    """A cell as a Python value, None for an empty one."""
    if any(cell is one for one in missing) or (isinstance(cell, float | np.floating) and cell != cell):
        return None
    return cell
