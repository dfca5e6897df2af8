"""One row as a file, table or frame has it: how its fields are called, and how it is read or refused."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import iso_text
from mrlstore.errors import InvalidInput
from mrlstore.types import LIMITS, Metadata

KEYS: Final = ("id", "vector", "metadata", "document", "namespace", "norm")
Extra = Literal["refuse", "metadata"]

# What reading one row may raise because of what the row holds. ArithmeticError: an integer beyond every
# float.
ROW_ERRORS: Final = (ValueError, TypeError, ArithmeticError, RecursionError)
_EXACT: Final = 2.0**53  # up to here a float is the number that was written

_METADATA_TEXT: Final = 8 * LIMITS.metadata_bytes  # characters; JSON may be written with spaces and escapes


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row that could be read; whether it can be stored is for the store to say."""

    place: str  # where it stands, such as "rows.jsonl:17"
    id: str
    vector: NDArray[Any] | None  # [dim]
    metadata: Metadata | None
    document: str | None
    namespace: str | None = None  # None: the namespace of the import
    norm: float | None = None  # the original length, if `vector` is a stored float16 unit row

    def size(self) -> int:
        """About how many bytes the row takes in memory."""
        document = self.document if isinstance(self.document, str) else ""
        return 512 + (0 if self.vector is None else self.vector.nbytes) + len(document) + _size(self.metadata)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that could not be read, or that the store refused."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class UnreadableCell:
    """Stands in for a cell of a table that has no Python value, such as a date in the year 20,000."""

    why: str


@dataclass(frozen=True)
class FieldNames:
    """What a file calls the parts of a row, and what becomes of its other fields."""

    names: Mapping[str, str] = field(default_factory=dict)  # a key of KEYS -> the file's own name
    extra: Extra = "refuse"
    omit: frozenset[str] = frozenset()  # fields of the file that are left out
    id_as_text: bool = False  # whether ids that are whole numbers become texts

    def __post_init__(self) -> None:
        unknown = sorted(set(self.names) - set(KEYS))
        if unknown:
            raise InvalidInput(f"names: {unknown[0]!r} is not a part of a row: {', '.join(KEYS)}")
        if self.extra not in ("refuse", "metadata"):
            raise InvalidInput(f'extra: expected "refuse" or "metadata", got {self.extra!r}')

    def name(self, key: str) -> str:
        """What the file calls a part of a row."""
        return self.names.get(key, key)

    def extras(self, found: Iterable[str]) -> list[str]:
        """The file's fields that are not part of a row and not omitted; InvalidInput if those are refused."""
        known = {self.name(key) for key in KEYS} | self.omit
        extras = [name for name in found if name not in known]
        if extras and self.extra == "refuse":
            parts = ", ".join(sorted(KEYS))
            if len(extras) == 1:
                unknown, them = f"{extras[0]!r} is not a part of a row ({parts})", "it"
            else:
                unknown, them = (
                    f"{extras[0]!r} and {len(extras) - 1} more are not parts of a row ({parts})",
                    "them",
                )
            raise InvalidInput(
                f'{unknown}: extra="metadata" makes metadata of {them}, omit={extras[:1]!r} leaves '
                f'{extras[0]!r} out, names={{"vector": {extras[0]!r}}} says which part it is'
            )
        return extras

    def check_columns(self, name: str, columns: Sequence[str]) -> None:
        """InvalidInput if a table lacks the column of ids or one that was named, or has columns too many."""
        held = ", ".join(columns)[:500]
        if self.name("id") not in columns:
            raise InvalidInput(
                f"{name}: no column {self.name('id')!r}; it has {held}. "
                'names={"id": "COLUMN"} says which has the ids'
            )
        absent = next((column for column in self.names.values() if column not in columns), None)
        if absent is not None:
            raise InvalidInput(f"{name}: no column {absent!r}; it has {held}")
        try:
            self.extras(columns)
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from error

    def id_of(self, value: Any) -> Any:
        """An id as the store takes it; raises ValueError for a number that is not to become a text."""
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            return value
        number = float(value) if isinstance(value, float | np.floating) else 0.0
        if not (abs(number) < _EXACT and number.is_integer()):
            raise ValueError(f"the id {value} is neither a whole number nor a text")
        name = str(int(value))
        if not self.id_as_text:
            raise ValueError(
                f'the id {name} is a number, and ids are texts: id_as_text=True makes "{name}" of it'
            )
        return name


def check_omit(omit: object) -> frozenset[str]:
    """The names of fields to leave out."""
    if isinstance(omit, str | bytes) or not isinstance(omit, Collection):
        raise InvalidInput(f"omit: expected a list of field names, got {type(omit).__name__}")
    for name in omit:
        if not isinstance(name, str):
            raise InvalidInput(f"omit: expected field names, got {name!r:.40}")
    return frozenset(omit)


def make_row(
    values: Mapping[str, Any], place: str, vector: NDArray[Any] | None, fields: FieldNames
) -> InputRow:
    """A row of a file's fields by their own names; a part that is not there is None.

    Raises one of ROW_ERRORS if the fields make no row.
    """
    extras = fields.extras(values)
    parts: dict[str, Any] = {
        key: values.get(fields.name(key)) for key in KEYS if fields.name(key) not in fields.omit
    }
    for key, cell in (*parts.items(), *((key, values[key]) for key in extras)):
        if isinstance(cell, UnreadableCell):
            raise ValueError(f"{key}: {cell.why}")
    if parts.get("id") is None:
        raise ValueError("no id")
    metadata = parts.get("metadata")
    if isinstance(metadata, str):
        if len(metadata) > _METADATA_TEXT:
            raise ValueError(f"metadata of {len(metadata):,} characters")
        metadata = json.loads(metadata)
    metadata = with_dates_as_text(metadata)
    if extras:
        more = {key: with_dates_as_text(values[key]) for key in extras if values[key] is not None}
        metadata = {**more, **(metadata or {})} if more else metadata
    norm = parts.get("norm")
    if norm is not None and vector is None:
        raise ValueError("a norm without a vector")
    return InputRow(
        place,
        fields.id_of(parts["id"]),
        vector,
        metadata,
        parts.get("document"),
        parts.get("namespace"),
        None if norm is None else float(norm),
    )


def make_vector(cell: Any) -> NDArray[Any] | None:
    """The vector [dim] that a list or an array is, None for None; ValueError for anything else."""
    if cell is None:
        return None
    if isinstance(cell, np.ndarray):
        if cell.ndim == 1 and cell.dtype.kind in "fiu":
            return cell
        cell = cell.tolist() if cell.dtype == object else None
    # Converting would take texts and truth values for numbers.
    if not isinstance(cell, list | tuple) or not all(map(_is_number_type, set(map(type, cell)))):
        raise ValueError("the vector is not a flat list of numbers")
    with np.errstate(over="ignore"):  # the store refuses infinity, and says of which row
        return np.array(cell, dtype=np.float32)


def _is_number_type(kind: type) -> bool:
    return kind in (int, float) or issubclass(kind, np.floating | np.integer)


def refusal(place: str, error: Exception) -> Refusal:
    """What an exception says, in one line of at most 1,000 characters."""
    return Refusal(place, " ".join(str(error).split())[:1000] or type(error).__name__)


def with_dates_as_text(value: Any) -> Any:
    """Dates and times as text, see `iso_text`, at any depth, because JSON has none."""
    if isinstance(value, datetime.date | datetime.time):
        return iso_text(value)
    if isinstance(value, dict):
        return {key: with_dates_as_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_dates_as_text(inner) for inner in value]
    return value


def _size(value: Any) -> int:
    """About how many bytes a JSON value takes in memory: 64 for each value, and its characters."""
    total, pending = 0, [value]
    while pending:
        one = pending.pop()
        total += 64
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, list | tuple):
            pending.extend(one)
        elif isinstance(one, dict):
            pending.extend(one)
            pending.extend(one.values())
    return total
