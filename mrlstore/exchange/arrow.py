"""Arrow: record batches to and from rows, and the files that hold them (Parquet, Arrow IPC).

Columns: id (string), namespace (string, where rows are of several), vector (fixed-size list of float32 or
float16), norm (float32, with float16), metadata (JSON as string), document (string).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import ExportBlock, FieldNames, InputRow, Refusal, make_row, refusal
from mrlstore.types import LIMITS

_READ_ROWS: Final = 1024


def pyarrow() -> Any:
    """The package; ImportError says how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "Parquet, Arrow and frames need pyarrow: pip install 'mrlstore[arrow]'", name="pyarrow"
        ) from error
    return pyarrow


def schema(dim: int | None, dtype: np.dtype[Any], namespaces: bool) -> Any:
    """The columns of an export; without `dim`, for no row has a vector, there is no vector column."""
    pa = pyarrow()
    columns = [("id", pa.string())]
    if namespaces:
        columns.append(("namespace", pa.string()))
    if dim is not None:
        columns.append(("vector", pa.list_(pa.from_numpy_dtype(dtype), dim)))
        if dtype == np.float16:
            columns.append(("norm", pa.float32()))
    columns += [("metadata", pa.string()), ("document", pa.large_string())]
    return pa.schema(columns)


def to_batch(block: ExportBlock, shape: Any) -> Any:
    """A record batch of these columns."""
    pa = pyarrow()
    texts = [None if m is None else json.dumps(m, ensure_ascii=False) for m in block.metadatas]
    columns = {
        "id": block.ids,
        "namespace": block.namespaces,
        "metadata": texts,
        "document": block.documents,
    }
    arrays = []
    for column in shape:
        if column.name == "vector":
            flat = pa.array(block.vectors.reshape(-1))
            arrays.append(
                pa.FixedSizeListArray.from_arrays(flat, type=column.type, mask=pa.array(~block.there))
            )
        elif column.name == "norm":
            arrays.append(pa.array(block.norms, mask=~block.there))
        else:
            arrays.append(pa.array(columns[column.name], type=column.type))
    return pa.record_batch(arrays, schema=shape)


class ArrowWriter:
    """Writes blocks of rows to a Parquet or an Arrow IPC file."""

    def __init__(self, file: BinaryIO, format: str, shape: Any) -> None:
        self.shape = shape
        if format == "parquet":
            from pyarrow import parquet

            self.writer = parquet.ParquetWriter(file, shape, compression="zstd")
        else:
            self.writer = pyarrow().ipc.new_file(file, shape)

    def write(self, block: ExportBlock) -> None:
        """Write a block as one batch, or row group."""
        self.writer.write_batch(to_batch(block, self.shape))

    def finish(self) -> None:
        """Write what stands at the end of such files."""
        self.writer.close()


def open_batches(file: BinaryIO, name: str, format: str) -> tuple[Iterator[Any], Any, int | None]:
    """(the record batches of a file, its schema, how many rows it has where it says so).

    Raises:
        InvalidInput: it is no such file, or a damaged one.
    """
    pa = pyarrow()
    try:
        if format == "parquet":
            from pyarrow import parquet

            whole = parquet.ParquetFile(file, pre_buffer=False)
            groups = range(whole.num_row_groups)  # one by one, for pyarrow reads ahead as far as it may
            batches = (b for g in groups for b in whole.iter_batches(_READ_ROWS, row_groups=[g]))
            _ = whole.schema_arrow.names  # a damaged name is told here
            return _readable(batches, name), whole.schema_arrow, whole.metadata.num_rows
        start = file.read(6)
        file.seek(0)
        if start != b"ARROW1":
            stream = pa.ipc.open_stream(file)
            return _readable(stream, name), stream.schema, None
        arrow = pa.ipc.open_file(file)
        numbers = range(arrow.num_record_batches)
        return _readable((arrow.get_batch(i) for i in numbers), name), arrow.schema, None
    except (pa.ArrowException, OSError, ValueError) as error:  # a name that is not UTF-8 is a ValueError
        raise InvalidInput(f"{name} is no {format} file that can be read: {error}") from error


def _readable(batches: Iterable[Any], name: str) -> Iterator[Any]:
    """The batches; what pyarrow says of damage on the way becomes InvalidInput."""
    pa = pyarrow()
    try:
        for batch in batches:
            batch.validate(full=True)  # offsets and texts of a crafted file are checked before they are used
            yield batch
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{name}: damaged, {error}") from error


def frame_batches(frame: Any) -> tuple[Iterator[Any], Any]:
    """(the record batches of a pandas frame, the schema of the first), made as they are read.

    Slices are typed each for itself: whole, the column of vectors would be in memory twice more.
    """
    pa = pyarrow()

    def tables() -> Iterator[Any]:
        for start in range(0, max(len(frame), 1), _READ_ROWS):
            yield pa.Table.from_pandas(frame.iloc[start : start + _READ_ROWS], preserve_index=False)

    batches = (batch for table in _readable(tables(), "frame") for batch in table.to_batches())
    return batches, next(_readable(tables(), "frame")).schema


def read_batches(
    batches: Iterable[Any], shape: Any, name: str, fields: FieldNames
) -> Iterator[InputRow | Refusal]:
    """Rows of record batches. A place is "NAME:row", the first row being 1.

    Raises:
        InvalidInput: a column is missing, is there twice, or is of a type that cannot be read.
    """
    _check(shape, name, fields)
    first = 1
    for whole in batches:
        if whole.schema != shape:  # slices of a frame
            _check(whole.schema, name, fields)
        for start in range(0, whole.num_rows, _READ_ROWS):
            batch = whole.slice(start, _READ_ROWS)
            yield from _rows(batch, first + start, name, fields)
        first += whole.num_rows


def _check(shape: Any, name: str, fields: FieldNames) -> None:
    if len(set(shape.names)) != len(shape.names):
        raise InvalidInput(f"{name}: two columns of the same name")
    if fields.name("id") not in shape.names:
        raise InvalidInput(f"{name}: no column {fields.name('id')!r}; it has {', '.join(shape.names)[:500]}")
    try:
        fields.strange(shape.names)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
    if fields.name("vector") in shape.names:
        pa = pyarrow()
        kind = shape.field(fields.name("vector")).type
        if pa.types.is_null(kind):
            return  # no row here has a vector
        lists = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
        if not any(is_list(kind) for is_list in lists) or not (
            pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
        ):
            raise InvalidInput(f"{name}: the column of vectors holds {kind}, not lists of numbers")
        if pa.types.is_fixed_size_list(kind) and kind.list_size > LIMITS.max_dim:
            raise InvalidInput(f"{name}: vectors of {kind.list_size} dimensions; at most {LIMITS.max_dim}")


def _rows(batch: Any, first: int, name: str, fields: FieldNames) -> Iterator[InputRow | Refusal]:
    key = fields.name("vector")
    vectors = _vectors(batch.column(key)) if key in batch.schema.names else [None] * batch.num_rows
    columns = {column: batch.column(column).to_pylist() for column in batch.schema.names if column != key}
    for row in range(batch.num_rows):
        place = f"{name}:{first + row}"
        values = {column: found[row] for column, found in columns.items()}
        try:
            yield make_row(values, place, vectors[row], fields)
        except (ValueError, TypeError, RecursionError) as error:
            yield refusal(place, error)


def _vectors(column: Any) -> list[NDArray[Any] | None]:
    """One array for each row of a list column, None where there is none; null elements become NaN."""
    if column.null_count == len(column):
        return [None] * len(column)
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
