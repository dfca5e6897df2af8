"""JSON bodies: parsed with orjson, vectors straight to float32; and answers written with it."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from mrlstore.server.refusals import invalid
from mrlstore.types import LIMITS

_MAX_SHOWN: Final = 60
_MOST_NUMBERS: Final = 4 * 1024 * 1024  # of one answer
_MOST_HITS: Final = 100_000  # of one answer to several questions
_FLOAT32_SQUARE: Final = float(np.finfo(np.float32).max) ** 2  # below it, every number fits into a float32


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds; an empty body is an empty object.

    Raises HttpRefusal (400) for other text, NaN and infinity included, which JSON does not have.
    """
    if not body:
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise invalid(f"the body is not a JSON object, but {shown(parsed)}")
    return parsed


def dump(value: Any) -> bytes:
    """JSON, with arrays of numpy as lists."""
    try:
        written: bytes = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        return written
    except TypeError:  # whole numbers of more than 64 bits, which metadata may hold
        return json.dumps(value, default=_plain, ensure_ascii=False).encode("utf-8")


def float_row(
    numbers: object, place: str, dim: int | None = None, *, zero: bool = False
) -> NDArray[np.float32]:
    """The float32 array [dim] of a list of numbers from JSON.

    Packing them as C doubles is twice as fast as `numpy.array`, and refuses texts and nulls.

    Args:
        numbers: what JSON gave.
        place: where it stands in the body, for messages.
        dim: how many there have to be; None takes any number that a store takes.
        zero: also take a vector of length zero.

    Raises:
        HttpRefusal: 400, it is not a list of finite numbers of that length with a length above zero.
    """
    if type(numbers) is not list:
        raise invalid(f"{place}: expected a list of numbers, got {shown(numbers)}")
    if dim is not None and len(numbers) != dim:
        raise invalid(f"{place}: {len(numbers)} numbers, but the index has dimension {dim}")
    if not LIMITS.min_dim <= len(numbers) <= LIMITS.max_dim:
        raise invalid(
            f"{place}: {len(numbers)} numbers; a vector has {LIMITS.min_dim} to {LIMITS.max_dim:,} here"
        )
    try:
        doubles = np.frombuffer(struct.pack(f"{len(numbers)}d", *numbers), dtype=np.float64)
    except struct.error:
        at, wrong = next((at, one) for at, one in enumerate(numbers) if type(one) not in (int, float))
        raise invalid(f"{place}[{at}]: expected a number, got {shown(wrong)}") from None
    with np.errstate(over="ignore"):
        square = float(np.dot(doubles, doubles))
    if not 0 < square < _FLOAT32_SQUARE and not (zero and square == 0 and not doubles.any()):
        raise invalid(f"{place}: all numbers are zero, or too large or too small for a vector")
    suspicious = (doubles == 0) | (doubles == 1)
    if suspicious.any() and any(type(numbers[at]) is bool for at in np.flatnonzero(suspicious).tolist()):
        raise invalid(f"{place}: expected numbers, got true or false among them")
    return doubles.astype(np.float32)


def check_hits(count: int) -> None:
    """Refuse answers with more hits than fit into some 50 MB of JSON, at some 500 bytes of metadata each."""
    if count > _MOST_HITS:
        raise invalid(f"{count:,} hits are too many for one answer; ask for at most {_MOST_HITS:,}")


def flag(body: dict[str, Any], name: str) -> bool:
    """A field that is true or false; absent or null is false."""
    given = body.get(name)
    if given is None or given is False or given is True:
        return bool(given)
    raise invalid(f"{name}: expected true or false, got {shown(given)}")


def check_numbers(rows: int, dim: int | None) -> None:
    """Refuse answers with more numbers than fit into some 50 MB of JSON."""
    if rows * (dim or 0) > _MOST_NUMBERS:
        raise invalid(
            f"values: {rows:,} rows of {dim:,} numbers are too many for one answer; ask for at most "
            f"{_MOST_NUMBERS // (dim or 1):,} rows with their values"
        )


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
