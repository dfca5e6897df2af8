"""Filters for tests: random metadata and filters, and an oracle that reads a filter dict literally.

The oracle shares nothing with the library: it flattens the metadata first, compares numbers as fractions
and strings as lists of code points, and evaluates the dict as written, without a tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

# --- the oracle --------------------------------------------------------------------------------------


def chains(metadata: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value below the metadata with the keys that lead to it."""
    for key, value in metadata.items():
        yield (*above, key), value
        if isinstance(value, dict):
            yield from chains(value, (*above, key))


def flattened(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The value at every path; of several, the one whose first key, then second key, ... is longest."""
    found: dict[str, tuple[list[int], Any]] = {}
    for keys, value in chains(metadata or {}):
        rank = [len(key) for key in keys]
        path = ".".join(keys)
        if path not in found or rank > found[path][0]:
            found[path] = (rank, value)
    return {path: value for path, (_, value) in found.items()}


def token(value: Any) -> tuple[str, Any]:
    """Equal tokens are equal values; tokens of one kind are in the order of the values."""
    if isinstance(value, str):
        return "string", [ord(character) for character in value]
    if isinstance(value, bool) or value is None:
        return "constant", str(value)
    if isinstance(value, int | float) and value == value:
        infinite = isinstance(value, float) and math.isinf(value)
        return "number", (math.copysign(1, value), 0) if infinite else (0, Fraction(value))
    return "nothing", object()  # equal to no other


def tokens(value: Any) -> list[tuple[str, Any]]:
    """Those of a list's members, or that of the value."""
    return [token(member) for member in value] if isinstance(value, list) else [token(value)]


def accepts(operator: str, operand: Any, present: bool, value: Any) -> bool:
    """One operator of one field."""
    negative = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}
    if operator in negative:
        return not accepts(negative[operator], operand, present, value)
    if operator == "$not":
        return not all(accepts(each, given, present, value) for each, given in operand.items())
    if operator == "$exists":
        return present is bool(operand)
    if not present:
        return False
    if operator == "$eq":
        return token(operand) in tokens(value)
    if operator == "$in":
        return any(token(one) in tokens(value) for one in operand)
    if operator == "$contains" and isinstance(value, str):
        return isinstance(operand, str) and value.find(operand) >= 0
    if operator in ("$any", "$all", "$contains"):
        wanted = [token(one) for one in operand] if operator != "$contains" else [token(operand)]
        among = [one in tokens(value) for one in wanted]
        return isinstance(value, list) and (all(among) if operator == "$all" else any(among))
    kind, limit = token(operand)
    same = [content for other, content in tokens(value) if other == kind]
    if operator in ("$gt", "$gte"):
        return any(content > limit or (operator == "$gte" and content == limit) for content in same)
    return any(content < limit or (operator == "$lte" and content == limit) for content in same)


def passes(where: dict[str, Any], metadata: dict[str, Any] | None) -> bool:
    """Whether a row with this metadata passes the filter."""
    flat = flattened(metadata)
    results = []
    for key, condition in where.items():
        if key == "$and":
            results.append(all([passes(clause, metadata) for clause in condition]))
        elif key == "$or":
            results.append(any([passes(clause, metadata) for clause in condition]))
        elif key == "$not":
            results.append(not passes(condition, metadata))
        else:
            operators = condition if isinstance(condition, dict) else {"$eq": condition}
            for operator, operand in operators.items():
                results.append(accepts(operator, operand, key in flat, flat.get(key)))
    return all(results)


# --- random metadata and filters ---------------------------------------------------------------------

KEYS = ["a", "b", "c", "a.b", "b.c", "a.b.c", "b.c.d", "", ".", "a.", ".a", "é", "\0", "$x"]
PATHS = [*KEYS, "a.a", "a.c", "b.a", "a.b.b", "a..b", "c.$x", "a.a.a", "nowhere", "c.nowhere"]
NUMBERS: list[int | float] = [
    0,
    1,
    2,
    -1,
    1.0,
    0.5,
    -0.0,
    2.5,
    1e-300,
    5e-324,
    1e300,
    2**53,
    2**53 + 1,
    2.0**53,
]
NUMBERS += [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2.0**64, 2**70 + 1, -(2**70) - 1, 10**300]
NUMBERS += [10**400, -(10**400), 2**2048 - 1, 2**2048, -(2**2050), 9007199254740993.0]
STRINGS = [
    "",
    "a",
    "ab",
    "abc",
    "b",
    "bc",
    "z",
    "é",
    "e\u0301",
    "ａ",
    "\uffff",
    "\U0001f600",
    "\0",
    "a\0",
    "1",
    "true",
]
STRINGS += [
    "x" * 255,
    "x" * 256,
    "x" * 257,
    "y" + "x" * 300,
    "é" * 256,
    "\U0001f600" * 257,
    "null",
    "ÿ",
    "\x7f",
]


def one_of_these(values: list[Any]) -> st.SearchStrategy[Any]:
    """As sampled_from, with a short repr: those above make strategies that take too long to print."""
    return st.integers(0, len(values) - 1).map(values.__getitem__)


finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.deferred(lambda: one_of_these(NUMBERS) | st.integers() | finite)
strings = st.deferred(lambda: one_of_these(STRINGS) | st.text(max_size=4))
operands = st.deferred(lambda: st.sampled_from([None, True, False]) | numbers | strings)
scalars = st.deferred(lambda: operands | one_of_these([math.nan, math.inf, -math.inf, "\ud800", "a\udfff"]))
keys = st.sampled_from(KEYS)
values: st.SearchStrategy[Any] = st.deferred(
    lambda: st.recursive(
        scalars | st.lists(scalars, max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )
)
metadatas = st.none() | st.dictionaries(keys, values, max_size=6)
tables = st.lists(metadatas, max_size=30)

_value_lists = st.lists(operands, max_size=9)
_orderable = numbers | strings | st.sampled_from([math.inf, -math.inf])
_operators: list[st.SearchStrategy[dict[str, Any]]] = [
    *(st.fixed_dictionaries({name: operands}) for name in ("$eq", "$ne", "$contains", "$not_contains")),
    *(st.fixed_dictionaries({name: _value_lists}) for name in ("$in", "$nin", "$any")),
    *(st.fixed_dictionaries({name: _orderable}) for name in ("$gt", "$gte", "$lt", "$lte")),
    st.fixed_dictionaries({"$all": st.lists(operands, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$gt": _orderable, "$lte": _orderable}),
    st.fixed_dictionaries({"$gte": numbers, "$lt": numbers}),
]
_conditions = st.recursive(
    st.one_of(_operators), lambda inner: st.fixed_dictionaries({"$not": inner}), max_leaves=2
)
_leaves = st.dictionaries(
    st.sampled_from([path for path in PATHS if not path.startswith("$")]),
    operands | _conditions,
    min_size=1,
    max_size=2,
)
filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
        st.builds(lambda one, other: {**one, "$or": [other]}, _leaves, inner),
    ),
    max_leaves=5,
)
