"""Where rows come from and go to: the formats, told by a file's name, and what a source is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

from mrlstore.errors import InvalidInput
from mrlstore.exchange import arrow
from mrlstore.exchange.input_row import FieldNames, InputRow, Refusal
from mrlstore.exchange.jsonl import read_jsonl
from mrlstore.exchange.npy import open_vectors

Format = Literal["jsonl", "parquet", "arrow"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)
_SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}


@dataclass(frozen=True)
class RowSource:
    """Rows to be read, once, and how many there are: of rows, or of bytes where only those are known."""

    rows: Iterator[InputRow | Refusal]
    total: int | None = None
    file: BinaryIO | None = None  # of which `total` bytes are read
    size: int | None = None

    def progress(self, rows: int) -> tuple[int, int]:
        """(done, of how many), in rows where their number is known, else in bytes, else without an end."""
        if self.total is None and self.file is not None and self.size is not None:
            return self.file.tell(), self.size
        return rows, rows if self.total is None else self.total


def format_of(path: Path | None, format: str | None) -> Format:
    """The format that was asked for, else the one that the name tells, JSONL where it has no suffix.

    Raises:
        InvalidInput: there is no such format, or the suffix is of none.
    """
    if format is not None:
        for known in get_args(Format):
            if format == known:
                return known  # type: ignore[no-any-return]
        raise InvalidInput(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if path is None or not path.suffix:
        return "jsonl"
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(
            f"{path}: its name tells no format ({', '.join(sorted(_SUFFIXES))}); "
            f"give one of {', '.join(FORMATS)}"
        )
    return found


def open_rows(
    source: Any,
    format: str | None,
    vectors: str | os.PathLike[str] | None,
    fields: FieldNames,
    opened: ExitStack,
) -> RowSource:
    """Open whatever rows can be read from: see `import_rows`. What is opened closes with `opened`."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        kind = format_of(path, format)
        file: BinaryIO = opened.enter_context(path.open("rb"))
        return _of_file(file, path.name, kind, vectors, fields)
    if hasattr(source, "read"):
        name = Path(str(getattr(source, "name", "-"))).name
        return _of_file(source, name, format_of(None, format), vectors, fields)
    if vectors is not None or format is not None:
        raise InvalidInput("format, vectors: are for files, not for tables and frames")
    return _of_table(source, fields)


def vectors_path(vectors: object) -> Path | None:
    """The path of a .npy file that goes with a JSONL file, or None."""
    if vectors is not None and not isinstance(vectors, str | os.PathLike):
        raise InvalidInput(f"vectors: the path of a .npy file, got {type(vectors).__name__}")
    return None if vectors is None else Path(vectors)


def _of_file(
    file: BinaryIO, name: str, format: Format, vectors: str | os.PathLike[str] | None, fields: FieldNames
) -> RowSource:
    if format == "jsonl":
        beside = vectors_path(vectors)
        array = None if beside is None else open_vectors(beside)
        size = os.fstat(file.fileno()).st_size if file.seekable() and _is_real(file) else None
        return RowSource(
            read_jsonl(file, name, array, fields), None if array is None else len(array), file, size
        )
    if vectors is not None:
        raise InvalidInput("vectors: a .npy file goes with JSONL only")
    batches, schema, total = arrow.open_batches(file, name, format)
    return RowSource(arrow.read_batches(batches, schema, name, fields), total)


def _is_real(file: BinaryIO) -> bool:
    try:
        file.fileno()
    except OSError:
        return False
    return True


def _of_table(source: Any, fields: FieldNames) -> RowSource:
    pa = arrow.pyarrow()
    package = type(source).__module__.partition(".")[0]
    if package == "pandas":
        batches, schema = arrow.frame_batches(source)
        return RowSource(arrow.read_batches(batches, schema, "row", fields), len(source))
    if package == "polars":
        source = source.to_arrow()
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, pa.Table):
        rows = arrow.read_batches(source.to_batches(), source.schema, "row", fields)
        return RowSource(rows, source.num_rows)
    if isinstance(source, pa.RecordBatchReader):
        return RowSource(arrow.read_batches(source, source.schema, "row", fields))
    raise InvalidInput(
        f"source: a path, a binary file, an Arrow table, batch or reader, or a pandas or polars frame; "
        f"got {type(source).__name__}"
    )
