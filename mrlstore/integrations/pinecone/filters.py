"""Pinecone's metadata filters as a `where`.

The operators have the same names, but with Pinecone rows without the key match neither `$ne` nor `$nin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrlstore.checks import plain_number
from mrlstore.errors import InvalidInput

Clause = dict[str, Any]

_ORDER = ("$gt", "$gte", "$lt", "$lte")
_NEGATIVE = ("$ne", "$nin")
_OPERATORS = ("$eq", *_NEGATIVE, *_ORDER, "$in", "$exists")


def where_of(filter: Mapping[str, Any] | None) -> Clause | None:
    """The `where` that means the same, or None for no filter; InvalidInput for operators Pinecone has not."""
    given: Any = filter
    if given is None or given == {}:
        return None
    if not isinstance(given, Mapping):
        raise InvalidInput(f"filter: expected a dict, got {given!r:.40}")
    clauses: list[Clause] = []
    for key, value in given.items():
        if key in ("$and", "$or"):
            inner = [where_of(each) for each in value] if isinstance(value, list) else []
            if not inner or None in inner:
                raise InvalidInput(f"filter: {key} takes a list of one or more filters")
            clauses.append({key: inner})
        elif key.startswith("$"):
            raise InvalidInput(f"filter: unknown operator {key!r}; allowed here: $and, $or")
        elif isinstance(value, Mapping):
            if not value:
                raise InvalidInput(f"filter: {key}: an empty dict; give an operator")
            clauses.extend(_condition(key, operator, operand) for operator, operand in value.items())
        else:
            clauses.append({key: _plain(value)})
    return {"$and": clauses}


def _plain(operand: Any) -> Any:
    """Numbers of numpy as Python's, alone, in lists and in arrays."""
    if isinstance(operand, np.ndarray):
        operand = list(operand)
    if isinstance(operand, list | tuple):
        return [_plain(each) for each in operand]
    number = plain_number(operand) if isinstance(operand, np.generic) else None
    return operand if number is None else number


def _condition(key: str, operator: str, operand: Any) -> Clause:
    operand = _plain(operand)
    if operator not in _OPERATORS:
        raise InvalidInput(f"filter: {key}: unknown operator {operator!r}; allowed: {', '.join(_OPERATORS)}")
    if operator in _ORDER and (isinstance(operand, bool) or not isinstance(operand, int | float)):
        raise InvalidInput(f"filter: {key}: {operator} takes a number, got {operand!r:.40}")
    if operator in _NEGATIVE:
        return {key: {operator: operand, "$exists": True}}
    return {key: {operator: operand}}
