"""Ids of points, which are unsigned integers or UUIDs, as the ids of rows, which are strings.

The integer 7 is the row "7", a UUID its canonical text, so the type of an id follows from its text. Rows of
other APIs may have other ids: they are answered as strings, and found by them.
"""

from __future__ import annotations

import re
from typing import Final, TypeGuard
from uuid import UUID

from mrlstore.server.bodies import shown
from mrlstore.server.refusals import invalid

PointId = int | str

_LARGEST: Final = 2**64 - 1
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,19}")


def point_id(row_id: str) -> PointId:
    """The id of the point that a row is."""
    if _DECIMAL.fullmatch(row_id) and int(row_id) <= _LARGEST:
        return int(row_id)
    return row_id


def row_id(given: object, place: str) -> str:
    """The id of the row that a point is; HttpRefusal (400) for what can be no id."""
    if type(given) is int and 0 <= given <= _LARGEST:
        return str(given)
    if not isinstance(given, str) or not given:
        raise invalid(f"{place}: expected an unsigned integer or a UUID, got {shown(given)}")
    if isinstance(point_id(given), int):
        raise invalid(f"{place}: {shown(given)} is a number in a string; send it as a number")
    return _canonical(given) or given


def new_row_id(given: object, place: str) -> str:
    """As `row_id`, for a point that may be new: of strings only UUIDs."""
    found = row_id(given, place)
    if isinstance(given, str) and _canonical(given) is None:
        raise invalid(f"{place}: {shown(given)} is not a point id: expected an unsigned integer or a UUID")
    return found


def row_ids(given: object, place: str) -> list[str]:
    """The ids of rows of a list of ids of points."""
    if not isinstance(given, list):
        raise invalid(f"{place}: expected a list of ids, got {shown(given)}")
    return [row_id(each, f"{place}[{at}]") for at, each in enumerate(given)]


def _canonical(text: str) -> str | None:
    """The canonical text of a UUID, or None for other texts."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def is_id(given: object) -> TypeGuard[PointId]:
    """Whether a value of a request is an id, and not a vector or an object."""
    return type(given) is int or isinstance(given, str)
