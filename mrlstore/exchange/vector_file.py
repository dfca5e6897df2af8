"""The vectors of a file alone, without ids or metadata: to measure on them before there is a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.arrow import open_batches, pyarrow
from mrlstore.exchange.arrow_cells import storage_of, vectors_of
from mrlstore.exchange.npy import open_vectors
from mrlstore.exchange.row_source import format_of

_BLOCK: Final = 10_000  # rows
_USUAL: Final = ("vector", "embedding", "embeddings", "emb")


def vectors_of_file(path: Path, column: str | None = None) -> Iterator[NDArray[np.float32]]:
    """The vectors of a .npy, Parquet or Arrow file, float32 [<= n, dim], some thousand rows at a time.

    Args:
        path: the file.
        column: which column of a table; by default "vector" or "embedding", or the only one of lists.

    Raises:
        InvalidInput: the file has no vectors, or ones of different lengths. FileNotFoundError: there is none.
    """
    if path.suffix.lower() == ".npy":
        mapped = open_vectors(path)
        for start in range(0, len(mapped), _BLOCK):
            yield np.asarray(mapped[start : start + _BLOCK], dtype=np.float32)
        return
    kind = format_of(path, None)
    if kind not in ("parquet", "arrow"):
        raise InvalidInput(f"{path}: expected a store, or vectors in a .npy, Parquet or Arrow file")
    dim: int | None = None
    with path.open("rb") as file:
        found = open_batches(file, path.name, kind)
        name = _column(found.schema, column, path)
        for batch in found.batches:
            rows = [row for row in vectors_of(batch.column(name)) if row is not None]
            dim = _same_length(rows, dim, path)
            if rows:
                yield np.stack(rows).astype(np.float32)


def _column(schema: Any, column: str | None, path: Path) -> str:
    types, names = pyarrow().types, list(schema.names)
    if column is not None:
        if column not in names:
            raise InvalidInput(f"{path}: no column {column!r}; it has {', '.join(names)[:500]}")
        return column
    lists = [
        name
        for name, kind in zip(names, (storage_of(kind) for kind in schema.types), strict=True)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ]
    usual = [name for name in _USUAL if name in lists]
    if usual or len(lists) == 1:
        return (usual or lists)[0]
    raise InvalidInput(
        f"{path}: which column has the vectors? It has {', '.join(names)[:500]}; name it by --column"
    )


def _same_length(rows: Sequence[NDArray[Any]], dim: int | None, path: Path) -> int | None:
    for row in rows:
        if dim is not None and len(row) != dim:
            raise InvalidInput(f"{path}: vectors of {dim:,} and of {len(row):,} dimensions")
        dim = len(row)
    return dim
