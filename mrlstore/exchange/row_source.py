"""Opening what rows are read from: files by their format, tables and frames."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, get_args

from mrlstore.errors import InvalidInput
from mrlstore.exchange import arrow, table_rows
from mrlstore.exchange.csv_rows import read_csv
from mrlstore.exchange.input_row import FieldNames
from mrlstore.exchange.jsonl import read_jsonl
from mrlstore.exchange.npy import open_vectors
from mrlstore.exchange.object_files import ObjectFile, is_url, name_of, open_object
from mrlstore.exchange.table_rows import Rows

Format = Literal["jsonl", "csv", "parquet", "arrow"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)
WRITTEN: Final = ("jsonl", "parquet", "arrow")  # those that an export has
GZIP: Final = ".gz"
_SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}


class HowFar(NamedTuple):
    """How far reading has come, in rows or in bytes."""

    done: int
    total: int


@dataclass(frozen=True)
class RowSource:
    """Rows to be read, once, and how many rows or bytes there are, where that is known."""

    rows: Rows
    total: int | None = None  # rows
    file: BinaryIO | None = None  # of `size` bytes, if `total` is not known
    size: int | None = None

    def how_far(self, rows: int) -> HowFar:
        """How far reading has come after so many rows; the total grows along where none is known."""
        if self.total is None and self.file is not None and self.size is not None:
            return HowFar(self.file.tell(), self.size)
        return HowFar(rows, rows if self.total is None else self.total)


def format_of(path: Path | None, format: str | None, known: Sequence[str] = FORMATS) -> Format:
    """The format that was named, else that of the file's suffix, else JSONL if it has none.

    `known` are the formats that can be used; a suffix .gz behind that of JSONL or CSV counts for nothing.

    Raises:
        InvalidInput: there is no such format, or the suffix belongs to none.
    """
    found: Format | None = "jsonl"
    if format is not None:
        found = next((one for one in get_args(Format) if one == format), None)
    elif path is not None and path.suffix:
        found = _SUFFIXES.get(_without_gzip(path).suffix.lower())
    if found is None and format is None:
        endings = ", ".join(ending for ending, kind in _SUFFIXES.items() if kind in known)
        hint = " (for vectors alone there is `mrlstore migrate`)" if path and path.suffix == ".npy" else ""
        raise InvalidInput(
            f"{path}: the ending of its name belongs to no known format ({endings}){hint}; if it is one of "
            f'{", ".join(known)} all the same, say format="..."'
        )
    if found is None or found not in known:
        raise InvalidInput(f"format: expected one of {', '.join(known)}, got {format or found!r}")
    if path is not None and is_gzip(path) and found in ("parquet", "arrow"):
        raise InvalidInput(f"{path}: unpack it first; {found} files are compressed by themselves")
    return found


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, as far as its name says."""
    return path.suffix.lower() == GZIP


def _without_gzip(path: Path) -> Path:
    return path.with_suffix("") if is_gzip(path) else path


def open_rows(
    source: Any,
    format: str | None,
    vectors: str | os.PathLike[str] | None,
    fields: FieldNames,
    opened: ExitStack,
) -> RowSource:
    """Open whatever rows can be read from: see `import_rows`. What is opened closes with `opened`."""
    if isinstance(source, str | os.PathLike):
        url = source if isinstance(source, str) and is_url(source) else None
        path = Path(source) if url is None else name_of(url)
        kind = format_of(path, format)
        file: Any = opened.enter_context(path.open("rb") if url is None else open_object(url))
        if not is_gzip(path):
            return _of_file(file, path.name, kind, vectors, fields)
        unpacked: Any = opened.enter_context(gzip.GzipFile(fileobj=file))
        with _gzip_errors(path.name):
            found = _of_file(unpacked, path.name, kind, vectors, fields)
        rows = _unpacked(found.rows, path.name)
        return RowSource(rows, found.total, file, _size_of(file))
    if hasattr(source, "read"):
        name = Path(str(getattr(source, "name", "-"))).name
        return _of_file(source, name, format_of(None, format), vectors, fields)
    if vectors is not None or format is not None:
        raise InvalidInput("format, vectors: are for files, not for tables and frames")
    return _of_table(source, fields)


def vectors_path(vectors: object) -> Path | None:
    """The path of a .npy file that goes with a JSONL file, or None."""
    if is_url(vectors):
        raise InvalidInput(f"vectors: {vectors} is in object storage; a .npy file must be on this machine")
    if vectors is not None and not isinstance(vectors, str | os.PathLike):
        raise InvalidInput(f"vectors: the path of a .npy file, got {type(vectors).__name__}")
    return None if vectors is None else Path(vectors)


def _of_file(
    file: BinaryIO, name: str, format: Format, vectors: str | os.PathLike[str] | None, fields: FieldNames
) -> RowSource:
    if format in ("jsonl", "csv"):
        beside = vectors_path(vectors)
        array = None if beside is None else open_vectors(beside)
        size = _size_of(file)
        total = None if array is None else len(array)
        read = read_jsonl if format == "jsonl" else read_csv
        return RowSource(read(file, name, array, fields), total, file, size)
    if vectors is not None:
        raise InvalidInput("vectors: a .npy file goes with JSONL and CSV only")
    found = arrow.open_batches(file, name, format)
    return RowSource(table_rows.read_batches(found.batches, found.schema, name, fields), found.rows)


@contextmanager
def _gzip_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"{name}: no whole gzip file ({error})") from error


def _unpacked(rows: Rows, name: str) -> Rows:
    with _gzip_errors(name):
        yield from rows


def _size_of(file: BinaryIO) -> int | None:
    """The length of a file or an object; None of a pipe."""
    raw = getattr(file, "raw", None)
    if isinstance(raw, ObjectFile):
        return raw.size
    try:
        return os.fstat(file.fileno()).st_size if file.seekable() else None
    except OSError:
        return None


def _of_table(source: Any, fields: FieldNames) -> RowSource:
    package = type(source).__module__.partition(".")[0]
    if package == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns"):
        return RowSource(table_rows.read_pandas(source, fields), len(source))
    if package == "polars" and hasattr(source, "collect"):
        source = source.collect()  # a LazyFrame
    if package == "polars" and hasattr(source, "get_column"):
        return RowSource(table_rows.read_polars(source, fields), source.height)
    pa = arrow.pyarrow()
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, pa.Table):
        rows = table_rows.read_batches(source.to_batches(), source.schema, "row", fields)
        return RowSource(rows, source.num_rows)
    if isinstance(source, pa.RecordBatchReader):
        return RowSource(table_rows.read_batches(source, source.schema, "row", fields))
    raise InvalidInput(
        f"source: a path, a binary file, an Arrow table, batch or reader, or a pandas or polars frame; "
        f"got {type(source).__name__}"
    )
