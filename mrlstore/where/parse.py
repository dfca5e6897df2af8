"""Parses what a caller gives as `where` into the tree; everything else is refused, with its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from mrlstore.checks import plain_number
from mrlstore.errors import InvalidInput
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.where.nodes import (
    And,
    AnyMember,
    Contains,
    Exists,
    In,
    Node,
    Not,
    Or,
    Ordering,
    OtherThan,
    Range,
    Scalar,
    Within,
    tag,
)

MAX_DEPTH: Final = 32
MAX_CLAUSES: Final = 1_000
MAX_VALUES: Final = 100_000  # members of one $in, $nin, $any or $other
MAX_PATH: Final = 1_024  # characters of a field's path

_REMEMBERED: Final = 1_000  # parsed filters: services use the same ones again and again
_TOKENS: Final = 200  # most tokens of a filter that is remembered
_SCALARS: Final = {int, float, bool, type(None)}

_ARRAYS = (list, tuple, set, frozenset, np.ndarray)


def parse(where: Mapping[str, Any] | None) -> Node | None:
    """The tree of a filter; None for None and `{}`, which let every row pass.

    Raises InvalidInput, with the place in the filter, what is wrong and what is allowed. At most 32
    levels, 1,000 conditions, 100,000 values in one list and 1,024 characters in one field's path.
    """
    given: Any = where
    if given is None or (isinstance(given, Mapping) and not given):
        return None
    tokens: list[Any] = []
    if not _spell(given, tokens):
        return _Parser().filter(given, "where", 1)
    spelling = tuple(tokens)
    node = _parsed.get(spelling)
    if node is None:
        node = _Parser().filter(given, "where", 1)
        _parsed.put(spelling, node)
    return node


def check_field(field: object, name: str) -> str:
    """The dotted path of a field, as filters name it; `name` is the argument's, for messages."""
    if not isinstance(field, str) or field.startswith("$"):
        raise InvalidInput(f"{name}: expected the name of a metadata field, got {_show(field)}")
    return _field_name(field, name)


_parsed: BoundedCache[tuple[Any, ...], Node] = BoundedCache(_REMEMBERED)


def _spell(where: Any, tokens: list[Any]) -> bool:
    """Append tokens that no other filter has, as a cache key; False for long filters and unusual types."""
    kind = type(where)
    if kind is str:
        tokens.append(where)
        return True
    if kind in _SCALARS:
        tokens += kind, where  # with the type, because True == 1
        return True
    if kind is not dict and kind is not list:
        return False
    tokens += kind, len(where)
    if kind is list:
        return len(tokens) + len(where) < _TOKENS and all([_spell(value, tokens) for value in where])
    for key, value in where.items():
        if type(key) is not str or len(tokens) > _TOKENS:
            return False
        tokens.append(key)
        if not _spell(value, tokens):
            return False
    return True


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
        """The condition on one field: a bare value, or a dict of operators which must all hold."""
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


def _other(field: str, operand: Any, at: str) -> Node:
    return OtherThan(field, _values(operand, at))


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


def _ordering(op: Ordering) -> Callable[[str, Any, str], Range]:
    def build(field: str, operand: Any, at: str) -> Range:
        value = _plain(operand, at)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidInput(f"{at}: takes a number or a string, not {_show(operand)}")
        return Range(field, op, value)

    return build


def _within(field: str, operand: Any, at: str) -> Node:
    if not isinstance(operand, Mapping) or not operand or not all(op in _BOUNDS for op in operand):
        raise InvalidInput(f"{at}: takes a dict of one or more of {', '.join(_BOUNDS)}")
    bounds = [_BOUNDS[op](field, limit, f"{at}.{op}") for op, limit in operand.items()]
    return Within(field, tuple(bounds))


def _negation(build: Callable[[str, Any, str], Node]) -> Callable[[str, Any, str], Node]:
    return lambda field, operand, at: Not(build(field, operand, at))


_BOUNDS: Final[dict[str, Callable[[str, Any, str], Range]]] = {
    "$gt": _ordering("$gt"),
    "$gte": _ordering("$gte"),
    "$lt": _ordering("$lt"),
    "$lte": _ordering("$lte"),
}
_OPERATORS: Final[dict[str, Callable[[str, Any, str], Node]]] = {
    "$eq": _eq,
    "$ne": _negation(_eq),
    "$in": _in,
    "$nin": _negation(_in),
    **_BOUNDS,
    "$within": _within,
    "$exists": _exists,
    "$contains": _contains,
    "$not_contains": _negation(_contains),
    "$any": _any,
    "$all": _every,
    "$other": _other,
}
_ALLOWED: Final = ", ".join((*_OPERATORS, "$not"))


def _values(operand: Any, at: str) -> tuple[Scalar, ...]:
    if not isinstance(operand, _ARRAYS) or (isinstance(operand, np.ndarray) and operand.ndim != 1):
        raise InvalidInput(f"{at}: takes a list of values, not {_show(operand)}")
    if len(operand) > MAX_VALUES:
        raise InvalidInput(f"{at}: {len(operand):,} values, more than {MAX_VALUES:,}")
    return tuple(_scalar(value, f"{at}[{i}]") for i, value in enumerate(operand))


def _scalar(value: Any, at: str, instead: str = "$in, $any or $all") -> Scalar:
    """A value to compare for equality; lists are refused, and infinities, which JSON cannot hold."""
    plain = _plain(value, at)
    if isinstance(plain, _ARRAYS):
        raise InvalidInput(f"{at}: takes one value, not a list; for lists use {instead}")
    if tag(plain) is None:
        hint = "; a nested key is reached by a dotted path" if isinstance(plain, Mapping) else ""
        raise InvalidInput(
            f"{at}: a value is a string, a number, True, False or None, as in JSON, not {_show(value)}{hint}"
        )
    if isinstance(plain, float) and math.isinf(plain):
        raise InvalidInput(f"{at}: no row holds an infinity; it is allowed with $gt, $gte, $lt and $lte only")
    return plain  # type: ignore[no-any-return]


def _plain(value: Any, at: str) -> Any:
    """The value as a built-in type, numpy scalars and enums too; NaN and lone surrogates are refused."""
    if isinstance(value, np.generic):
        number = plain_number(value)
        value = value if number is None else number
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
