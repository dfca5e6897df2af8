"""Export: rows of a store into files, tables and frames, block by block."""

from __future__ import annotations

import errno
import gzip
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, Protocol

import numpy as np

from mrlstore.api.store import Store
from mrlstore.checks import check_namespace, check_optional_count, check_progress
from mrlstore.errors import InvalidInput, StoreExists
from mrlstore.exchange import arrow
from mrlstore.exchange.exact import restorable, stored_rows
from mrlstore.exchange.export_block import ExportBlock
from mrlstore.exchange.jsonl import JsonlWriter
from mrlstore.exchange.npy import ArrayWriter
from mrlstore.exchange.object_files import is_url, name_of, object_to_write
from mrlstore.exchange.row_source import WRITTEN, format_of, is_gzip, vectors_path
from mrlstore.search.records import decode_cursor
from mrlstore.types import Progress, Record, Where
from mrlstore.where import parse

Dtype = Literal["float32", "float16"]
_PAGE: Final = 16_384  # rows whose ids are held in memory at once
_BLOCK_BYTES: Final = 8 * 1024 * 1024  # of rows that are written together, about


@dataclass(frozen=True)
class Exported:
    """What an export has written. `cursor` is the `after` of the next export; None if there was no row."""

    rows: int
    cursor: str | None


class _BlockWriter(Protocol):
    def write(self, block: ExportBlock) -> None: ...
    def finish(self) -> None: ...


@dataclass
class _ExportSelection:
    """Which rows of a store are written, and how far writing them has come."""

    store: Store
    where: Where | None
    namespace: str | None
    limit: int | None
    after: str | None
    dtype: np.dtype[Any]
    rows: int = 0
    cursor: str | None = None

    def blocks(self) -> Iterator[ExportBlock]:
        """The rows in blocks of about 8 MiB."""
        held: list[Record] = []
        size = 0
        for record in self._records():
            held.append(record)
            size += 512 + len(record.document or "")
            size += 0 if record.vector is None else record.vector.nbytes
            if size >= _BLOCK_BYTES:
                yield self._block(held)
                held, size = [], 0
        if held:
            yield self._block(held)

    def _records(self) -> Iterator[Record]:
        """All rows; without a filter page by page, so that only the ids of one page are held in memory."""
        left, after = self.limit, self.after
        while left is None or left > 0:
            page = left if self.where else min(_PAGE, _PAGE if left is None else left)
            read = 0
            for record in self.store.scan(
                self.where,
                namespace=self.namespace,
                include=("metadata", "document", "vector"),
                limit=page,
                after=after,
            ):
                read, after = read + 1, record.cursor
                yield record
            left = None if left is None else left - read
            # A page may be short because rows were removed meanwhile; only an empty one is the last.
            if self.where or not read:
                return

    def _block(self, held: list[Record]) -> ExportBlock:
        self.rows, self.cursor = self.rows + len(held), held[-1].cursor
        has_vector = np.array([record.vector is not None for record in held], dtype=np.bool_)
        vectors = np.zeros((len(held), self.store.dim or 0), dtype=self.dtype)
        norms = np.zeros(len(held), dtype=np.float32)
        if has_vector.any():
            units, lengths = stored_rows(np.stack([r.vector for r in held if r.vector is not None]))
            norms[has_vector] = lengths
            vectors[has_vector] = units if self.dtype == np.float16 else restorable(units, lengths)
        return ExportBlock(
            [record.id for record in held],
            [record.namespace for record in held] if self.namespace is None else None,
            [record.metadata for record in held],
            [record.document for record in held],
            has_vector,
            vectors,
            norms if self.dtype == np.float16 else None,
        )


def export_rows(
    store: Store,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    format: str | None = None,
    vectors: str | os.PathLike[str] | None = None,
    dtype: Dtype = "float32",
    where: Where | None = None,
    namespace: str | None = None,
    limit: int | None = None,
    after: str | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Exported:
    """Write rows to a file, in the order of (namespace, id) and in constant memory.

    Args:
        store: where they are.
        target: a path (.jsonl, .jsonl.gz, .parquet, .arrow ...), the "s3://", "gs://" or "az://" URL of an
            object, or a binary file. A file at a path, and an object, appears whole or not at all.
        format: "jsonl", "parquet" or "arrow", if the name of the file does not say.
        vectors: with JSONL, a .npy file to write [rows, dim]: row i is that of line i.
        dtype: "float32": the vectors in their original lengths, to float16 precision; "float16": unit rows as
            they are stored, in half the space, with their lengths beside as `norm`. Importing either gives
            the same stored rows, bit for bit. JSONL has float16 only with `vectors`.
        where: only rows whose metadata match; the ids of all of them are then held in memory.
        namespace: only rows of this one; without, rows of all, and each row names its own.
        limit: at most so many rows.
        after: the `cursor` of an earlier export, to go on behind its last row, in another file.
        overwrite: replace files that are there.
        progress: called with how many rows are done.

    Raises:
        InvalidInput: an argument is wrong, or the target lies inside the store.
        StoreExists: the target exists.
        FileNotFoundError: the folder of the target does not.
        ImportError: the format needs a package that is not installed.
    """
    if isinstance(target, str) and is_url(target):
        format_of(name_of(target), format, WRITTEN)  # refused before anything is written
        with object_to_write(target, overwrite=overwrite) as local:
            return export_rows(
                store, local, format=format, vectors=vectors, dtype=dtype, where=where, namespace=namespace,
                limit=limit, after=after, overwrite=overwrite, progress=progress,
            )  # fmt: skip
    path = Path(target) if isinstance(target, str | os.PathLike) else None
    if path is None and (isinstance(target, TextIOBase) or not hasattr(target, "write")):
        raise InvalidInput(f"target: a path, or a file opened for bytes; got {type(target).__name__}")
    check_progress(progress)
    beside = vectors_path(vectors)
    kind = format_of(path, format, WRITTEN)
    rows = _select(store, where, namespace, limit, after, dtype)
    if beside is not None and kind != "jsonl":
        raise InvalidInput("vectors: a .npy file goes with JSONL only")
    if dtype == "float16" and kind == "jsonl" and beside is None:
        raise InvalidInput('float16: JSONL holds it only with a .npy file beside, vectors="..."')
    if beside is not None and store.dim is None:
        raise InvalidInput("vectors: this store has none")
    for file_path in (path, beside):
        _check_target(file_path, store, overwrite)
    total = _total(store, rows) if progress else 0
    with _NewFiles() as files:
        main: Any = files.create(path) if path is not None else target
        packed = gzip.GzipFile("", "wb", fileobj=main) if path is not None and is_gzip(path) else None
        array = None if beside is None else ArrayWriter(files.create(beside), rows.dtype, store.dim or 0)
        writer: _BlockWriter
        if kind == "jsonl":
            writer = JsonlWriter(main if packed is None else packed, array)  # type: ignore[arg-type]
        else:
            columns = arrow.schema(store.dim, rows.dtype, namespace is None)
            writer = arrow.ArrowWriter(main, kind, columns)
        for block in rows.blocks():
            writer.write(block)
            if progress:
                progress(Progress("exporting", rows.rows, max(total, rows.rows)))
        writer.finish()
        if packed is not None:
            packed.close()
        if array is not None:
            array.finish()
        files.commit()
    return Exported(rows.rows, rows.cursor)


def to_batches(
    store: Store,
    *,
    dtype: Dtype = "float32",
    where: Where | None = None,
    namespace: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Any:
    """A pyarrow RecordBatchReader over the rows, read as it is consumed; arguments as of `export_rows`."""
    pa = arrow.pyarrow()
    rows = _select(store, where, namespace, limit, after, dtype)
    columns = arrow.schema(store.dim, rows.dtype, namespace is None)
    return pa.RecordBatchReader.from_batches(columns, (arrow.to_batch(b, columns) for b in rows.blocks()))


def to_arrow(store: Store, **selection: Any) -> Any:
    """A pyarrow Table of the rows, in memory; arguments as of `to_batches`."""
    return to_batches(store, **selection).read_all()


def to_pandas(store: Store, **selection: Any) -> Any:
    """A pandas frame of the rows, `vector` a column of numpy arrays; arguments as of `to_batches`."""
    _need("pandas")
    return to_arrow(store, **selection).to_pandas()


def to_polars(store: Store, **selection: Any) -> Any:
    """A polars frame of the rows, `vector` a column of fixed-size arrays; arguments as of `to_batches`."""
    _need("polars")
    import polars

    return polars.from_arrow(to_arrow(store, **selection))


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{package} is not installed: pip install 'mrlstore[{package}]'", name=package)


def _select(
    store: Store, where: Where | None, namespace: str | None, limit: int | None, after: str | None, dtype: str
) -> _ExportSelection:
    if dtype not in ("float32", "float16"):
        raise InvalidInput(f'dtype: expected "float32" or "float16", got {dtype!r}')
    parse(where)
    check_optional_count(limit, "limit", 0)
    if namespace is not None:
        check_namespace(namespace)
    if after is not None:
        decode_cursor(after)
    return _ExportSelection(store, where, namespace, limit, after, np.dtype(dtype))


def _total(store: Store, rows: _ExportSelection) -> int:
    count = store.count(rows.where, namespace=rows.namespace)
    return count if rows.limit is None else min(count, rows.limit)


def _check_target(path: Path | None, store: Store, overwrite: bool) -> None:
    if path is None:
        return
    if store.path.resolve() in (path.resolve(), *path.resolve().parents):
        raise InvalidInput(f"{path} lies inside the store")
    if path.is_dir():
        raise StoreExists(f"{path} is a folder")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if path.exists() and not overwrite:
        raise StoreExists(f"{path} exists; overwrite=True replaces it")


class _NewFile(NamedTuple):
    file: BinaryIO
    hidden: Path  # its name until it is complete
    path: Path


class _NewFiles:
    """Files that get their names when all of them are complete; after a failure nothing is left of them."""

    def __init__(self) -> None:
        self.made: list[_NewFile] = []
        self.stack = ExitStack()

    def create(self, path: Path) -> BinaryIO:
        """A new file that will be called `path`."""
        hidden = path.with_name(f".{secrets.token_hex(8)}.partial")  # of any name's length
        file = self.stack.enter_context(hidden.open("xb"))
        self.made.append(_NewFile(file, hidden, path))
        return file

    def commit(self) -> None:
        """Sync the files and give them their names."""
        for new in self.made:
            new.file.flush()
            os.fsync(new.file.fileno())
        self.stack.close()
        for new in self.made:
            os.replace(new.hidden, new.path)

    def __enter__(self) -> _NewFiles:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stack.close()
        for new in self.made:
            with suppress(FileNotFoundError):
                new.hidden.unlink()
