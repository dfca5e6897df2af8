"""Checks of single values that callers pass: each gives the value back, or raises what was wrong with it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

import numpy as np

from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.types import LIMITS, Namespaces

T = TypeVar("T")

_NO_NUMBERS = (bool, np.timedelta64)  # subclasses of int and np.integer


def as_list(values: object, what: str) -> list[Any]:
    """The values of a list, an array or one column of a table, by position.

    Columns of data frames carry labels, and `column[0]` is the value labelled 0, wherever it stands. So
    values are always taken by iterating, never by indexing what the caller gave.
    """
    if type(values) is list:
        return values
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"{what}: expected a list, got {type(values).__name__}")
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise InvalidInput(
            f"{what}: expected a list or one column, got a {type(values).__name__} of shape {list(shape)}"
        )
    if hasattr(values, "to_pylist"):  # Arrow: iterating gives scalars of its own
        return list(values.to_pylist())
    return list(values)


def one_by_one(values: Iterable[T]) -> Iterator[T]:
    """The values of a list or one column of a table, as `as_list` gives them, without a list of all."""
    if hasattr(values, "to_pylist"):
        return (value.as_py() for value in values)  # type: ignore[attr-defined]
    return iter(values)


def check_ordered(values: object, what: str) -> None:
    """Refuse a set where values are paired with others by position."""
    if isinstance(values, set | frozenset):
        raise InvalidInput(f"{what}: a {type(values).__name__} has no order; give a list")


def check_ids(ids: Iterable[str], what: str = "ids", *, ordered: bool = False) -> list[str]:
    """A list of valid ids. With `ordered`, others go along by position, and a set is refused."""
    if ordered:
        check_ordered(ids, what)
    names = list(ids) if isinstance(ids, Mapping) else as_list(ids, what)
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise InvalidInput(
                f"{what}[{position}]: expected a string, got {type(name).__name__} {name!r:.80}"
                + ("; str(...) makes one" if isinstance(name, int) and not isinstance(name, bool) else "")
            )
        if not name:
            raise InvalidInput(f"{what}[{position}]: an id may not be empty")
        if check_utf8(name, f"{what}[{position}]") > LIMITS.id_bytes:
            raise LimitExceeded(f"{what}[{position}]: longer than {LIMITS.id_bytes} bytes ({name[:40]!r}...)")
    return names


def check_namespace(namespace: str) -> str:
    """A valid namespace."""
    if not isinstance(namespace, str):
        raise InvalidInput(f"namespace: expected a string, got {type(namespace).__name__}")
    if check_utf8(namespace, "namespace") > LIMITS.namespace_bytes:
        raise LimitExceeded(f"namespace: longer than {LIMITS.namespace_bytes} bytes ({namespace[:40]!r}...)")
    return namespace


def namespace_words(namespace: str) -> str:
    """A namespace as messages name it."""
    return f"namespace {namespace!r}" if namespace else "the unnamed namespace"


def check_namespaces(namespace: object) -> Namespaces:
    """One valid namespace, several in a list, each once, or None for all."""
    if namespace is None or isinstance(namespace, str):
        return None if namespace is None else check_namespace(namespace)
    if isinstance(namespace, bytes | Mapping) or not isinstance(namespace, Iterable):
        raise InvalidInput(
            f"namespace: expected a string, a list of strings or None, got {type(namespace).__name__}"
        )
    names = tuple(sorted({check_namespace(name) for name in as_list(namespace, "namespace")}))
    if not names:
        raise InvalidInput("namespace: an empty list; None searches all namespaces")
    return names[0] if len(names) == 1 else names


def check_document(document: str | None, name: str) -> str | None:
    """A valid document."""
    if document is None:
        return None
    what = f"document of {name!r}"
    if not isinstance(document, str):
        raise InvalidInput(f"{what}: expected a string, got {type(document).__name__}")
    if check_utf8(document, what) > LIMITS.document_bytes:
        raise LimitExceeded(f"{what}: longer than {LIMITS.document_bytes} bytes")
    return document


def check_utf8(text: str, what: str) -> int:
    """How many bytes a text takes; InvalidInput if UTF-8 cannot hold it."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what}: has a lone surrogate, which UTF-8 cannot hold ({error.reason})"
        ) from error


def check_column(what: str, values: object, n: int) -> list[Any] | None:
    """A list with one entry for each of the n ids, paired by position, or None."""
    if values is None:
        return None
    check_ordered(values, what)
    column = as_list(values, what)
    check_length(what, column, n)
    return column


def check_length(what: str, values: Sized, n: int) -> None:
    """One entry for each of n ids."""
    if len(values) != n:
        raise InvalidInput(f"{what}: {len(values)} given for {n} ids")


def plain_number(value: np.generic) -> bool | int | float | None:
    """A numpy number as Python's; None for other scalars: dates, durations, texts, bytes, records.

    A longdouble is none either: Python's float would round it. `item()` would give another meaning to some:
    an integer for times in nanoseconds, None for NaT.
    """
    kind = value.dtype.kind
    if kind == "b":
        return bool(value)
    if kind in "iu":
        return int(value)
    if (kind == "f" and not isinstance(value, np.longdouble)) or is_number_type(value.dtype):
        return float(value)
    return None


def is_number_type(dtype: np.dtype[Any]) -> bool:
    """Whether it is a type of numbers that another package adds to numpy, such as bfloat16 of ml_dtypes."""
    return dtype.kind == "V" and dtype.type is not np.void


def iso_text(value: datetime.date | datetime.time) -> str:
    """A date or time in ISO 8601; with a zone, in UTC, so that the order of texts is the order of times.

    Raises ValueError for a time of day with a zone, which has no order, and where UTC is out of range.
    """
    if isinstance(value, datetime.time) and value.tzinfo is not None:
        raise ValueError(f"{value.isoformat()}: a time of day with a zone; without its date it has no order")
    if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
        try:
            value = value.astimezone(datetime.UTC)
        except OverflowError:
            raise ValueError(f"{value.isoformat()}: in UTC it is out of the years 1 to 9999") from None
    text = value.isoformat()
    if text == "NaT":  # of pandas
        raise ValueError("NaT is not a time")
    return text


def check_count(value: object, name: str, low: int, high: int | None = None) -> int:
    """A whole number from `low` to `high`."""
    if isinstance(value, _NO_NUMBERS) or not isinstance(value, int | np.integer):
        raise InvalidInput(f"{name}: expected a whole number, got {type(value).__name__} {value!r:.40}")
    if value < low:
        raise InvalidInput(f"{name}: {value} is less than {low}")
    if high is not None and value > high:
        raise LimitExceeded(f"{name}: {value} is more than {high}")
    return int(value)


def check_counts(values: object, name: str, low: int, high: int | None = None) -> list[int]:
    """Several whole numbers from `low` to `high`, in their order."""
    try:
        given = iter(values)  # type: ignore[call-overload]
    except TypeError as error:  # a 0-dimensional array claims to be iterable
        raise InvalidInput(f"{name}: expected whole numbers, got {type(values).__name__}") from error
    return [check_count(one, name, low, high) for one in given]


def check_optional_count(value: object, name: str, low: int, high: int | None = None) -> int | None:
    """The same, or None."""
    return None if value is None else check_count(value, name, low, high)


def check_number(value: object, name: str) -> float:
    """A finite number."""
    if not _is_finite(value):
        raise InvalidInput(f"{name}: expected a finite number, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_share(value: object, name: str) -> float:
    """A number from 0 to 1."""
    if not _is_finite(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise InvalidInput(f"{name}: expected a number from 0 to 1, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_target(value: object) -> float | None:
    """A recall above 0 and up to 1, or None."""
    if value is None:
        return None
    if not _is_finite(value) or not 0 < value <= 1:  # type: ignore[operator]
        raise InvalidInput(f"target_recall: expected a number above 0 and up to 1, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_timeout(value: object) -> float | None:
    """Seconds to wait, 0 or more, or None."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return value
    if not _is_finite(value) or value < 0:  # type: ignore[operator]
        raise InvalidInput(f"timeout_s: expected seconds, 0 or more, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_progress(value: object) -> None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise InvalidInput(f"progress: expected a function of one argument, got {type(value).__name__}")


def check_flag(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name}: expected True or False, got {value!r:.40}")
    return bool(value)


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{name}: {value!r:.40} is not one of {choices}")
    return value


def _is_finite(value: object) -> bool:
    if isinstance(value, _NO_NUMBERS) or not isinstance(value, int | float | np.floating | np.integer):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False
