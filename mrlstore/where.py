"""The filter language: a dict given as `where` becomes a tree of nodes, each with a plain meaning.

`parse` checks everything a caller may write and builds the tree; `Node.matches` says what it means for
one row, in plain Python, and is the reference. `columns` evaluates the same tree over many rows at once
and asks `matches` for the few rows it cannot decide.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from mrlstore.errors import InvalidInput

Scalar = None | bool | int | float | str
Tag = tuple[str, Any]
Ordering = Literal["$gt", "$gte", "$lt", "$lte"]

MISSING: Final = object()  # what `resolve` gives for a path that is not there; null is a value, not this

MAX_DEPTH: Final = 32
MAX_CLAUSES: Final = 1_000
MAX_VALUES: Final = 100_000  # members of one $in, $nin or $any
MAX_PATH: Final = 1_024  # characters of a field's path

_ARRAYS = (list, tuple, set, frozenset, np.ndarray)


def resolve(metadata: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or MISSING.

    The longest literal key wins: in `{"a.b": 1, "a": {"b": 2}}` the path `a.b` is 1. Where a key leads
    nowhere, the next shorter one is tried, so every value is reached by its keys joined with dots.
    Lists are not descended into.
    """
    if path in metadata:
        return metadata[path]
    dot = path.rfind(".")
    while dot >= 0:
        inner = metadata.get(path[:dot])
        if isinstance(inner, dict):
            found = resolve(inner, path[dot + 1 :])
            if found is not MISSING:
                return found
        dot = path.rfind(".", 0, dot)
    return MISSING


def tag(value: Any) -> Tag | None:
    """The type and value of a scalar, so that equal tags mean equal values: 1 is 1.0 but not True."""
    if value is None:
        return ("null", None)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, str):
        return ("string", value)
    return None


class Node:
    """One condition on a row's metadata; the subclasses are plain data. Equal keys mean equal conditions."""

    @cached_property
    def fields(self) -> frozenset[str]:
        """The dotted paths that the condition looks at."""
        return frozenset(_fields(self))

    @cached_property
    def key(self) -> str:
        """A canonical text, fit for a cache: neither order nor spelling changes it (1 is 1.0)."""
        return _key(self)

    def matches(self, metadata: Mapping[str, Any] | None) -> bool:
        """Whether a row with this metadata passes; None is a row without metadata, the same as `{}`."""
        return _matches(self, {} if metadata is None else metadata)


@dataclass(frozen=True)
class And(Node):
    """Every clause holds. At least one clause."""

    clauses: tuple[Node, ...]


@dataclass(frozen=True)
class Or(Node):
    """At least one clause holds. At least one clause."""

    clauses: tuple[Node, ...]


@dataclass(frozen=True)
class Not(Node):
    """The clause does not hold: its exact complement, rows without the key included."""

    clause: Node


@dataclass(frozen=True)
class Leaf(Node):
    """A condition on the value of one field, which never holds where the field is missing."""

    field: str


@dataclass(frozen=True)
class In(Leaf):
    """$eq and $in: the value, or any member of a list, equals one of `values`."""

    values: tuple[Scalar, ...]

    @cached_property
    def wanted(self) -> frozenset[Tag | None]:
        """The tags of the values."""
        return frozenset(tag(value) for value in self.values)


@dataclass(frozen=True)
class AnyMember(In):
    """$any: a list that has at least one of `values`; a value that is no list does not match."""


@dataclass(frozen=True)
class Contains(Leaf):
    """$contains: a list that has the member, or a string that has the substring."""

    value: Scalar


@dataclass(frozen=True)
class Range(Leaf):
    """$gt, $gte, $lt, $lte: a value of the operand's type in that order; a list is of another type."""

    op: Ordering
    operand: int | float | str


@dataclass(frozen=True)
class Exists(Leaf):
    """$exists: the key is there; null counts as there."""


COMPARE: Final[dict[Ordering, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def _matches(node: Node, metadata: Mapping[str, Any]) -> bool:
    match node:
        case Leaf(field):
            value = resolve(metadata, field)
            return value is not MISSING and _holds(node, value)
        case And(clauses):
            return all(_matches(clause, metadata) for clause in clauses)
        case Or(clauses):
            return any(_matches(clause, metadata) for clause in clauses)
        case Not(clause):
            return not _matches(clause, metadata)
    raise TypeError(f"{type(node).__name__} is no condition")


def _holds(leaf: Leaf, value: Any) -> bool:
    """Whether the condition holds for this value of its field."""
    members = value if isinstance(value, list) else [value]
    match leaf:
        case AnyMember():
            return isinstance(value, list) and any(tag(member) in leaf.wanted for member in members)
        case In():
            return any(tag(member) in leaf.wanted for member in members if tag(member) is not None)
        case Range(_, op, operand):
            kind = (str,) if isinstance(operand, str) else (int, float)
            return isinstance(value, kind) and not isinstance(value, bool) and COMPARE[op](value, operand)
        case Contains(_, wanted):
            if isinstance(value, str):
                return isinstance(wanted, str) and wanted in value
            return isinstance(value, list) and any(tag(member) == tag(wanted) for member in value)
    return isinstance(leaf, Exists)


def _fields(node: Node) -> set[str]:
    match node:
        case And(clauses) | Or(clauses):
            return set().union(*(clause.fields for clause in clauses))
        case Not(clause):
            return set(clause.fields)
        case Leaf(field):
            return {field}
    raise TypeError(f"{type(node).__name__} is no condition")


def _key(node: Node) -> str:
    match node:
        case And(clauses) | Or(clauses):
            operands = sorted({clause.key for clause in clauses})
        case Not(clause):
            operands = [clause.key]
        case In(field, values):
            operands = [json.dumps(field), *sorted({_scalar_key(value) for value in values})]
        case Contains(field, value):
            operands = [json.dumps(field), _scalar_key(value)]
        case Range(field, op, operand):
            operands = [json.dumps(field), op, _scalar_key(operand)]
        case Leaf(field):
            operands = [json.dumps(field)]
        case _:
            raise TypeError(f"{type(node).__name__} is no condition")
    return f"{type(node).__name__}({','.join(operands)})"


def _scalar_key(value: Scalar) -> str:
    """A text that two scalars share exactly when a filter cannot tell them apart."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:x}h"  # hexadecimal has no limit on its digits
    return repr(value) if isinstance(value, float) else json.dumps(value)


def parse(where: Mapping[str, Any] | None) -> Node | None:
    """The tree of a filter; None for None and `{}`, which let every row pass.

    Raises InvalidInput, with the place in the filter, what is wrong and what is allowed. At most 32
    levels, 1,000 conditions, 100,000 values in one list and 1,024 characters in one field's path.
    """
    given: Any = where
    if given is None or (isinstance(given, Mapping) and not given):
        return None
    return _Parser().filter(given, "where", 1)


class _Parser:
    """Builds the nodes and counts the conditions on fields; `at` is the place in the filter, for messages."""

    def __init__(self) -> None:
        self.clauses = 0

    def filter(self, where: Any, at: str, depth: int) -> Node:
        """A whole filter: fields and $and, $or, $not side by side, all of which must hold."""
        if not isinstance(where, Mapping):
            raise InvalidInput(f'{at}: a filter is a dict such as {{"year": 2024}}, not {_show(where)}')
        if not where:
            raise InvalidInput(f"{at}: an empty dict says nothing here; leave it out")
        self._deeper(at, depth)
        return _all([self._entry(key, value, at, depth) for key, value in where.items()])

    def _entry(self, key: Any, value: Any, at: str, depth: int) -> Node:
        if not isinstance(key, str):
            raise InvalidInput(f"{at}: keys are field names or operators, that is strings, not {_show(key)}")
        if key in ("$and", "$or"):
            clauses = self._clauses(value, f"{at}.{key}", depth)
            return _all(clauses) if key == "$and" else Or(tuple(clauses))
        if key == "$not":
            return Not(self.filter(value, f"{at}.$not", depth + 1))
        if key.startswith("$"):
            hint = f'; it goes inside a field, {{"name": {{"{key}": ...}}}}' if key in _OPERATORS else ""
            raise InvalidInput(f"{at}: unknown operator {_show(key)} here; allowed: $and, $or, $not{hint}")
        return self._condition(_field_name(key, at), value, f"{at}.{_clip(key)}", depth)

    def _clauses(self, value: Any, at: str, depth: int) -> list[Node]:
        if not isinstance(value, list | tuple):
            raise InvalidInput(f"{at}: takes a list of filters, not {_show(value)}")
        if not value:
            raise InvalidInput(f"{at}: takes one filter or more; the list is empty")
        return [self.filter(each, f"{at}[{i}]", depth + 1) for i, each in enumerate(value)]

    def _condition(self, field: str, value: Any, at: str, depth: int) -> Node:
        """What is asked of one field: a bare value, or a dict of operators which must all hold."""
        if not isinstance(value, Mapping):
            self._count(at, 1)
            return In(field, (_scalar(value, at),))
        if not value:
            raise InvalidInput(f"{at}: an empty dict; give a value, or operators: {_ALLOWED}")
        self._deeper(at, depth)
        return _all([self._operator(field, op, operand, at, depth) for op, operand in value.items()])

    def _operator(self, field: str, op: Any, operand: Any, at: str, depth: int) -> Node:
        if op == "$not":
            return Not(self._negated(field, operand, f"{at}.$not", depth + 1))
        build = _OPERATORS.get(op) if isinstance(op, str) else None
        if build is None:
            nested = isinstance(op, str) and not op.startswith("$")
            hint = f"; a nested key is reached by a dotted path, {_show(f'{field}.{op}')}" if nested else ""
            raise InvalidInput(f"{at}: unknown operator {_show(op)}; allowed: {_ALLOWED}{hint}")
        node = build(field, operand, f"{at}.{op}")
        self._count(at, len(node.clauses) if isinstance(node, And) else 1)
        return node

    def _negated(self, field: str, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, Mapping):
            raise InvalidInput(f'{at}: takes a dict of operators such as {{"$gt": 5}}; for a value use $ne')
        return self._condition(field, operand, at, depth)

    def _count(self, at: str, clauses: int) -> None:
        self.clauses += clauses
        if self.clauses > MAX_CLAUSES:
            raise InvalidInput(f"{at}: more than {MAX_CLAUSES:,} conditions; for many values use $in")

    def _deeper(self, at: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{_clip(at)}: nested more than {MAX_DEPTH} levels deep")


def _all(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _eq(field: str, operand: Any, at: str) -> Node:
    return In(field, (_scalar(operand, at),))


def _in(field: str, operand: Any, at: str) -> Node:
    return In(field, _values(operand, at))


def _any(field: str, operand: Any, at: str) -> Node:
    return AnyMember(field, _values(operand, at))


def _every(field: str, operand: Any, at: str) -> Node:
    values = _values(operand, at)
    if not values:
        raise InvalidInput(f"{at}: takes one value or more; the list is empty")
    return _all([AnyMember(field, (value,)) for value in values])


def _contains(field: str, operand: Any, at: str) -> Node:
    return Contains(field, _scalar(operand, at, "$any or $all"))


def _exists(field: str, operand: Any, at: str) -> Node:
    if isinstance(operand, np.bool_):
        operand = bool(operand)
    if not isinstance(operand, bool):
        raise InvalidInput(f"{at}: takes True or False, not {_show(operand)}")
    return Exists(field) if operand else Not(Exists(field))


def _ordering(op: Ordering) -> Callable[[str, Any, str], Node]:
    def build(field: str, operand: Any, at: str) -> Node:
        value = _plain(operand, at)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidInput(f"{at}: takes a number or a string, not {_show(operand)}")
        return Range(field, op, value)

    return build


def _negation(build: Callable[[str, Any, str], Node]) -> Callable[[str, Any, str], Node]:
    return lambda field, operand, at: Not(build(field, operand, at))


_OPERATORS: Final[dict[str, Callable[[str, Any, str], Node]]] = {
    "$eq": _eq,
    "$ne": _negation(_eq),
    "$in": _in,
    "$nin": _negation(_in),
    "$gt": _ordering("$gt"),
    "$gte": _ordering("$gte"),
    "$lt": _ordering("$lt"),
    "$lte": _ordering("$lte"),
    "$exists": _exists,
    "$contains": _contains,
    "$not_contains": _negation(_contains),
    "$any": _any,
    "$all": _every,
}
_ALLOWED: Final = ", ".join((*_OPERATORS, "$not"))


def _values(operand: Any, at: str) -> tuple[Scalar, ...]:
    if not isinstance(operand, _ARRAYS) or (isinstance(operand, np.ndarray) and operand.ndim != 1):
        raise InvalidInput(f"{at}: takes a list of values, not {_show(operand)}")
    if len(operand) > MAX_VALUES:
        raise InvalidInput(f"{at}: {len(operand):,} values, more than {MAX_VALUES:,}")
    return tuple(_scalar(value, f"{at}[{i}]") for i, value in enumerate(operand))


def _scalar(value: Any, at: str, instead: str = "$in, $any or $all") -> Scalar:
    """A value to be compared for equality; lists are refused, and so is infinity, which JSON lacks."""
    plain = _plain(value, at)
    if isinstance(plain, _ARRAYS):
        raise InvalidInput(f"{at}: one value is wanted here, not a list; for lists use {instead}")
    if tag(plain) is None:
        hint = "; a nested key is reached by a dotted path" if isinstance(plain, Mapping) else ""
        raise InvalidInput(
            f"{at}: a value is a string, a number, True, False or None, as in JSON, not {_show(value)}{hint}"
        )
    if isinstance(plain, float) and math.isinf(plain):
        raise InvalidInput(f"{at}: no row holds an infinity; it is allowed with $gt, $gte, $lt and $lte only")
    return plain  # type: ignore[no-any-return]


def _plain(value: Any, at: str) -> Any:
    """The value as a built-in type (so are numpy scalars and enums given); NaN, lone surrogates refused."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return _text(str.__str__(value), at)
    if isinstance(value, float):
        if math.isnan(value):
            raise InvalidInput(f"{at}: NaN equals nothing, itself included, and orders with nothing")
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    return value


def _field_name(key: str, at: str) -> str:
    if len(key) > MAX_PATH:
        raise InvalidInput(f"{at}: the field {_show(key)} is longer than {MAX_PATH:,} characters")
    return _text(str.__str__(key), at)


def _text(text: str, at: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{at}: {_show(text)} holds a lone surrogate: not valid Unicode") from None
    return text


def _clip(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def _show(value: Any) -> str:
    """A short description that is safe for whatever was passed: huge ints and strings, odd objects."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an int of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool | int | float | str):
        return _clip(repr(value[:100] if isinstance(value, str) else value))
    return f"a {type(value).__name__}"
