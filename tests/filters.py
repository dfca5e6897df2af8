"""Filters for tests: random metadata and filters, and an oracle that reads a filter dict literally.

The oracle shares nothing with the library: it flattens the metadata first, compares numbers as fractions
and strings as lists of code points, and evaluates the dict as written, without a tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
    if operator == "$other":
        excluded = [token(one) for one in operand]
        return any(one[0] != "nothing" and one not in excluded for one in tokens(value))
    if operator == "$within":
        members = value if isinstance(value, list) else [value]
        return any(all(accepts(op, limit, True, one) for op, limit in operand.items()) for one in members)
    kind, limit = token(operand)
    same = [content for other, content in tokens(value) if other == kind and not isinstance(value, list)]
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
NUMBERS += [
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**64 - 1,
    2.0**64,
    2**64 + 1,
    -(2**64) - 1,
    2**70 + 1,
    -(2**70) - 1,
    10**300,
]
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
    chosen: st.SearchStrategy[Any] = st.integers(0, len(values) - 1).map(lambda place: values[place])
    return chosen


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

# Objects whose keys hold dots, so that several chains of keys join to one path.
objects: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    keys,
    st.recursive(st.integers(0, 99), lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=16),
    max_size=4,
)


def draw_filter(draw: st.DrawFn, paths: list[str], found: list[Any], depth: int = 3) -> dict[str, Any]:
    """A filter that mostly asks for these paths and values, so that there are rows that match."""
    kind = draw(st.integers(0, 9)) if depth else 9
    if kind <= 1:
        clauses = [draw_filter(draw, paths, found, depth - 1) for _ in range(draw(st.integers(1, 3)))]
        return {("$and", "$or")[kind]: clauses}
    if kind == 2:
        return {"$not": draw_filter(draw, paths, found, depth - 1)}
    if kind == 3:
        inner = draw_filter(draw, paths, found, depth - 1)
        return {draw_field(draw, paths): draw_condition(draw, found), "$or": [inner]}
    return {draw_field(draw, paths): draw_condition(draw, found) for _ in range(draw(st.integers(1, 2)))}


def draw_field(draw: st.DrawFn, paths: list[str]) -> str:
    fields = [path for path in paths if not path.startswith("$")]
    some: int = draw(st.integers(0, 5))
    chosen: str = draw(one_of_these(fields if fields and some else PATHS[1:5]))
    return chosen


def draw_condition(draw: st.DrawFn, found: list[Any]) -> Any:
    """A bare value, or one or two operators."""

    def value() -> Any:
        some: int = draw(st.integers(0, 4))
        return draw(one_of_these(found) if found and some else operands)

    def limit() -> Any:
        one = value()
        if one is None or isinstance(one, bool):
            return draw(st.sampled_from([math.inf, -math.inf, 1, "b"]))
        return one

    def several(least: int, most: int) -> list[Any]:
        return [value() for _ in range(draw(st.integers(least, most)))]

    def piece() -> Any:
        one, start = value(), draw(st.integers(0, 3))
        return one[start : start + 2] if isinstance(one, str) else one

    makers: list[Callable[[], Any]] = [
        value,
        lambda: {draw(st.sampled_from(["$eq", "$ne", "$contains", "$not_contains"])): value()},
        lambda: {draw(st.sampled_from(["$in", "$nin", "$any", "$other"])): several(0, 9)},
        lambda: {draw(st.sampled_from(["$gt", "$gte", "$lt", "$lte"])): limit()},
        lambda: {"$contains": piece()},
        lambda: {"$all": several(1, 3)},
        lambda: {"$exists": draw(st.booleans())},
        lambda: {"$gt": limit(), "$lte": limit()},
        lambda: {"$within": {"$gte": limit(), draw(st.sampled_from(["$lt", "$lte"])): limit()}},
        lambda: {"$gte": limit(), "$lt": limit()},
        lambda: {"$not": {"$gte": limit(), "$in": several(0, 3)}},
    ]
    return draw(one_of_these(makers))()


def asked_about(rows: list[dict[str, Any] | None]) -> tuple[list[str], list[Any]]:
    """The paths of these rows, and the scalars that a filter may name."""
    paths: list[str] = []
    found: list[Any] = []
    for row in rows:
        for path, value in flattened(row).items():
            paths.append(path)
            members = value if isinstance(value, list) else [value]
            found += [
                one for one in members if token(one)[0] != "nothing" and one not in (math.inf, -math.inf)
            ]
    return paths, [
        one for one in found if not isinstance(one, str) or "\ud800" not in one and "\udfff" not in one
    ]


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """A filter about nothing in particular."""
    return draw_filter(draw, PATHS, [])


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[dict[str, Any] | None], list[dict[str, Any]]]:
    """A table of rows, and filters that ask about it."""
    rows = draw(tables)
    paths, found = asked_about(rows)
    return rows, [draw_filter(draw, paths, found) for _ in range(draw(st.integers(1, 6)))]
