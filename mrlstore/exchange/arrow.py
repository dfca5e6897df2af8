"""Arrow as a format: the columns of an export, and Parquet and Arrow IPC files opened and written.

Columns: id (string), namespace (string, if rows are of several), vector (fixed-size list of float32 or
float16), norm (float32, with float16), metadata (JSON as string), document (string).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np

from mrlstore.errors import InvalidInput
from mrlstore.exchange.export_block import ExportBlock
from mrlstore.exchange.parquet_pages import GroupSize, group_sizes

READ_ROWS: Final = 1024  # rows that are turned into Python values at once, at most
READ_BYTES: Final = 64 * 1024 * 1024  # what they may take in Arrow's memory

_SHARED_BYTES: Final = 256 * 1024 * 1024  # the same, if each row had the longest text that rows share


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
    """The columns of an export; no column of vectors if `dim` is None, because no row has one."""
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


def to_batch(block: ExportBlock, columns: Any) -> Any:
    """A record batch of the columns that `schema` gave."""
    pa = pyarrow()
    texts = [None if m is None else json.dumps(m, ensure_ascii=False) for m in block.metadatas]
    values = {
        "id": block.ids,
        "namespace": block.namespaces,
        "metadata": texts,
        "document": block.documents,
    }
    without = pa.array(~block.has_vector)
    arrays = []
    for column in columns:
        if column.name == "vector":
            flat = pa.array(block.vectors.reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=column.type, mask=without))
        elif column.name == "norm":
            arrays.append(pa.array(block.norms, mask=~block.has_vector))
        else:
            arrays.append(pa.array(values[column.name], type=column.type))
    return pa.record_batch(arrays, schema=columns)


class ArrowWriter:
    """Writes blocks of rows to a Parquet or an Arrow IPC file."""

    def __init__(self, file: BinaryIO, format: str, columns: Any) -> None:
        self.columns = columns
        if format == "parquet":
            from pyarrow import parquet

            self.writer = parquet.ParquetWriter(file, columns, compression="zstd", write_page_checksum=True)
        else:
            self.writer = pyarrow().ipc.new_file(file, columns)

    def write(self, block: ExportBlock) -> None:
        """Write a block as one batch, or row group."""
        self.writer.write_batch(to_batch(block, self.columns))

    def finish(self) -> None:
        """Write the end of the file, which says where its batches are."""
        self.writer.close()


@dataclass(frozen=True)
class Batches:
    """Record batches, to be read once."""

    batches: Iterator[Any]
    schema: Any
    rows: int | None  # how many there are, where the file says so


def open_batches(file: BinaryIO, name: str, format: str) -> Batches:
    """The record batches of a file.

    Raises:
        InvalidInput: the file is of another format, or damaged.
    """
    pa = pyarrow()
    try:
        if format == "parquet":
            return _open_parquet(file, name)
        start = file.read(6)
        file.seek(0)
        if start != b"ARROW1":
            stream = pa.ipc.open_stream(file)
            return Batches(readable(stream, name), stream.schema, None)
        arrow = pa.ipc.open_file(file)
        numbers = range(arrow.num_record_batches)
        return Batches(readable((arrow.get_batch(i) for i in numbers), name), arrow.schema, None)
    except (pa.ArrowException, OSError, ValueError) as error:  # a name that is not UTF-8 is a ValueError
        raise InvalidInput(f"{name} cannot be read as {format}: {error}") from error


def _open_parquet(file: BinaryIO, name: str) -> Batches:
    from pyarrow import parquet

    # Without checksums a damaged page may give its column too few rows, and Arrow then ends the process.
    whole = parquet.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
    columns = whole.schema_arrow  # decodes the names, and so finds damaged ones

    def read() -> Iterator[Any]:
        for number, size in enumerate(group_sizes(file)):  # one by one: pyarrow reads ahead as far as it may
            for batch in whole.iter_batches(_rows_at_once(size), row_groups=[number]):
                yield batch
                del batch
                pyarrow().default_memory_pool().release_unused()  # else it keeps as much again

    return Batches(readable(read(), name), columns, whole.metadata.num_rows)


def _rows_at_once(size: GroupSize) -> int:
    """How many rows of a row group are read at once, so that they take bounded memory."""
    average = READ_BYTES * max(size.rows, 1) // max(size.bytes, 1)
    return min(max(min(average, _SHARED_BYTES // max(size.shared_text, 1)), 1), READ_ROWS)


def readable(batches: Iterable[Any], name: str) -> Iterator[Any]:
    """The batches, validated; what pyarrow says of damage on the way becomes InvalidInput."""
    pa = pyarrow()
    try:
        for batch in batches:
            batch.validate(full=True)  # offsets and texts of a crafted file are checked before they are used
            yield batch
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{name}: damaged, {error}") from error
