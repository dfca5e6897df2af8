"""What all formats read into and write from: rows, refused rows, and how a file's fields are understood."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import iso_text
from mrlstore.errors import InvalidInput
from mrlstore.types import LIMITS, Metadata

KEYS: Final = ("id", "vector", "metadata", "document", "namespace", "norm")
Extra = Literal["refuse", "metadata"]
_METADATA_TEXT: Final = 8 * LIMITS.metadata_bytes  # with all the spaces and escapes that JSON allows


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row as read; the store has yet to judge it."""

    place: str  # "rows.jsonl:17"
    id: str
    vector: NDArray[Any] | None  # [dim]
    metadata: Metadata | None
    document: str | None
    namespace: str | None = None  # None: that of the import
    norm: float | None = None  # the length, where `vector` is the float16 unit row that a store held


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that could not be read, or that the store refused."""

    place: str
    why: str


@dataclass(frozen=True)
class FieldNames:
    """How the fields of a file are called, and what becomes of those that are no part of a row."""

    names: Mapping[str, str] = field(default_factory=dict)  # of KEYS -> the file's own name
    extra: Extra = "refuse"

    def __post_init__(self) -> None:
        strange = sorted(set(self.names) - set(KEYS))
        if strange:
            raise InvalidInput(f"names: {strange[0]!r} is no part of a row; those are {', '.join(KEYS)}")
        if self.extra not in ("refuse", "metadata"):
            raise InvalidInput(f'extra: expected "refuse" or "metadata", got {self.extra!r}')

    def name(self, key: str) -> str:
        """What the file calls a part of a row."""
        return self.names.get(key, key)

    def strange(self, found: Mapping[str, Any] | list[str]) -> list[str]:
        """The file's fields that are no part of a row; InvalidInput where that is refused."""
        known = {self.name(key) for key in KEYS}
        strange = [name for name in found if name not in known]
        if strange and self.extra == "refuse":
            raise InvalidInput(
                f"unknown key {strange[0]!r}; a row has {', '.join(sorted(KEYS))} "
                '(extra="metadata" keeps others as metadata)'
            )
        return strange


def make_row(
    values: Mapping[str, Any], place: str, vector: NDArray[Any] | None, fields: FieldNames
) -> InputRow:
    """A row from a file's fields by their own names; what is not there is None.

    Raises:
        ValueError, TypeError, RecursionError: they make no row; the message says why.
    """
    name, strange = fields.name, fields.strange(values)
    if values.get(name("id")) is None:
        raise ValueError("no id")
    metadata = values.get(name("metadata"))
    if isinstance(metadata, str):
        if len(metadata) > _METADATA_TEXT:
            raise ValueError(f"metadata of {len(metadata):,} characters")
        metadata = json.loads(metadata)
    if strange:
        more = {key: _plain(values[key]) for key in strange if values[key] is not None}
        metadata = {**more, **(metadata or {})}
    norm = values.get(name("norm"))
    if norm is not None and vector is None:
        raise ValueError("a norm without a vector")
    return InputRow(
        place,
        values[name("id")],
        vector,
        metadata,
        values.get(name("document")),
        values.get(name("namespace")),
        None if norm is None else float(norm),
    )


def refusal(place: str, error: Exception) -> Refusal:
    """What an exception says, in one line."""
    return Refusal(place, " ".join(str(error).split())[:1000] or type(error).__name__)


def _plain(value: Any) -> Any:
    """Dates and times as text, because JSON has none; other values are left for the store to check."""
    return iso_text(value) if isinstance(value, datetime.date | datetime.time) else value


@dataclass(frozen=True)
class ExportBlock:
    """Some rows on their way out."""

    ids: list[str]
    namespaces: list[str] | None  # None: they are all of one, which is not written
    metadatas: list[Metadata | None]
    documents: list[str | None]
    there: NDArray[np.bool_]  # [n], rows with a vector
    vectors: NDArray[Any]  # float32 [n, dim]; or float16 [n, dim], unit rows. Zeros where there is none
    norms: NDArray[np.float32] | None  # [n] lengths, with float16 vectors

    def __len__(self) -> int:
        return len(self.ids)
