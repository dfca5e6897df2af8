"""Reads rows from JSONL files, the vectors inside or in a .npy file beside; streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput

KEYS: Final = frozenset({"id", "vector", "metadata", "document"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read; the store has yet to judge it."""

    place: str  # "rows.jsonl:17"
    id: str
    vector: NDArray[Any] | None  # [dim]
    metadata: dict[str, Any] | None
    document: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that could not be read, or that the store refused."""

    place: str
    why: str


def read_rows(lines: Iterable[bytes], name: str, vectors: NDArray[Any] | None) -> Iterator[Row | Refusal]:
    """Read JSONL, one row a line; empty lines are skipped.

    Args:
        lines: the lines of the file.
        name: the file's name, for messages.
        vectors: [n, dim], where the vectors do not stand in the lines: line i has row i.

    Raises:
        InvalidInput: the file has fewer or more rows than `vectors`.
    """
    seen = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if vectors is not None and seen >= len(vectors):
            raise InvalidInput(f"{name}:{number}: the vectors ended after {len(vectors):,} rows")
        try:
            yield _parse(line, f"{name}:{number}", None if vectors is None else vectors[seen])
        except (ValueError, TypeError, RecursionError) as error:
            yield Refusal(f"{name}:{number}", " ".join(str(error).split()))
        seen += 1
    if vectors is not None and seen < len(vectors):
        raise InvalidInput(f"{name}: {seen:,} rows for {len(vectors):,} vectors")


def _parse(line: bytes, place: str, vector: NDArray[Any] | None) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    strange = sorted(row.keys() - KEYS)
    if strange:
        raise ValueError(f"unknown key {strange[0]!r}; a row has {', '.join(sorted(KEYS))}")
    if "id" not in row:
        raise ValueError("no id")
    if "vector" in row and vector is not None:
        raise ValueError("a vector in the line, and another in the file of vectors")
    if vector is None and row.get("vector") is not None:
        vector = np.array(row["vector"], dtype=np.float32)
        if vector.ndim != 1:
            raise ValueError("the vector is no flat list of numbers")
    return Row(place, row["id"], vector, row.get("metadata"), row.get("document"))


def open_vectors(path: Path) -> NDArray[Any]:
    """Map a .npy file of vectors: any float or integer type, [n, dim]."""
    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is no .npy file of numbers: {error}") from error
    if getattr(vectors, "ndim", 0) != 2:  # an .npz archive has none
        raise InvalidInput(f"{path} must hold one array of shape [rows, dim]")
    return vectors


def read_vector(text: str) -> NDArray[np.float32]:
    """Read one vector, float32 [dim]: from a .npy file, or from a JSON list."""
    if text.lstrip().startswith("["):
        try:
            vector = np.array(json.loads(text), dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"--vector is no JSON list of numbers: {error}") from error
    else:
        try:
            vector = np.asarray(np.load(text, allow_pickle=False), dtype=np.float32)
        except (ValueError, EOFError, TypeError) as error:
            raise InvalidInput(f"{text} is no .npy file of one vector: {error}") from error
    vector = np.squeeze(vector)
    if vector.ndim != 1:
        raise InvalidInput(f"--vector must be one vector, not of shape {list(vector.shape)}")
    return vector
