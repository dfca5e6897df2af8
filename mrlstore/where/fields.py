"""The values of one field: what a row has of it, and the order of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrlstore.where.nodes import MISSING, Scalar, resolve, tag

_RANKS = {"null": 0, "bool": 1, "number": 2, "string": 3}


def scalars_of(metadata: Mapping[str, Any] | None, field: str) -> list[Scalar]:
    """The values that an equality filter on this field would match: one, or the members of a list, each once.

    1 and 1.0 are one value and come as 1. Objects, lists in lists and NaN are none.
    """
    value = resolve(metadata or {}, field)
    members = value if isinstance(value, list) else () if value is MISSING else (value,)
    found = {tag(member): member for member in members if tag(member) is not None and member == member}
    return [as_whole(value) for value in found.values()]


def as_whole(value: Scalar) -> Scalar:
    """The same value, a whole number as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def order_key(value: Scalar) -> tuple[int, Any]:
    """What sorts scalars of all types: null, False, True, numbers, then strings by code points."""
    kind = tag(value)
    assert kind is not None
    return _RANKS[kind[0]], 0 if value is None else value
