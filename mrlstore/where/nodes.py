"""The tree of a filter: nodes of plain data.

`Node.matches` is the reference: it says in plain Python what a condition means for one row.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mrlstore.system.lazy import lazy

Scalar = None | bool | int | float | str
Tag = tuple[str, Any]
Ordering = Literal["$gt", "$gte", "$lt", "$lte"]

MISSING: Final = object()  # what `resolve` gives for a path that is not there; null is a value, not this


def resolve(metadata: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or MISSING.

    The longest literal key wins: in `{"a.b": 1, "a": {"b": 2}}` the path `a.b` is 1. Where a key
    leads to nothing, the next shorter one is tried, so every value is reached by its keys joined with dots.
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

    @lazy
    def fields(self) -> frozenset[str]:
        """The dotted paths that the condition looks at."""
        return frozenset(_fields(self))

    @lazy
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

    @lazy
    def tags(self) -> frozenset[Tag | None]:
        """The tags of the values."""
        return frozenset(tag(value) for value in self.values)


@dataclass(frozen=True)
class AnyMember(In):
    """$any: a list that has at least one of `values`; a value that is not a list does not match."""


@dataclass(frozen=True)
class OtherThan(In):
    """$other: the value, or any member of a list, is a scalar that is none of `values`."""


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
class Within(Leaf):
    """$within: the value, or at least one member of a list, is of their type and meets all bounds."""

    bounds: tuple[Range, ...]  # one or more, of the same field


@dataclass(frozen=True)
class Exists(Leaf):
    """$exists: the key is there; null counts as there."""


_COMPARE: Final[dict[Ordering, Callable[[Any, Any], bool]]] = {
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
    raise TypeError(f"{type(node).__name__} is not a condition")


def _holds(leaf: Leaf, value: Any) -> bool:
    """Whether the condition holds for this value of its field."""
    members = value if isinstance(value, list) else [value]
    match leaf:
        case AnyMember():
            return isinstance(value, list) and any(tag(member) in leaf.tags for member in members)
        case OtherThan():
            tags = {tag(member) for member in members if member == member}
            return bool(tags - leaf.tags - {None})
        case In():
            return any(tag(member) in leaf.tags for member in members if tag(member) is not None)
        case Range(_, op, operand):
            kind = (str,) if isinstance(operand, str) else (int, float)
            return isinstance(value, kind) and not isinstance(value, bool) and _COMPARE[op](value, operand)
        case Within(_, bounds):
            return any(all(_holds(bound, member) for bound in bounds) for member in members)
        case Contains(_, part):
            if isinstance(value, str):
                return isinstance(part, str) and part in value
            return isinstance(value, list) and any(tag(member) == tag(part) for member in value)
    return isinstance(leaf, Exists)


def _fields(node: Node) -> set[str]:
    match node:
        case And(clauses) | Or(clauses):
            return set().union(*(clause.fields for clause in clauses))
        case Not(clause):
            return set(clause.fields)
        case Leaf(field):
            return {field}
    raise TypeError(f"{type(node).__name__} is not a condition")


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
        case Within(field, bounds):
            operands = [json.dumps(field), *sorted({bound.key for bound in bounds})]
        case Leaf(field):
            operands = [json.dumps(field)]
        case _:
            raise TypeError(f"{type(node).__name__} is not a condition")
    return f"{type(node).__name__}({','.join(operands)})"


def _scalar_key(value: Scalar) -> str:
    """A text that two scalars share exactly when a filter cannot tell them apart."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:x}h"  # hexadecimal has no limit on its digits
    return repr(value) if isinstance(value, float) else json.dumps(value)
