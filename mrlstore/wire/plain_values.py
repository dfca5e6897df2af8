"""Values of the public API as plain JSON values, and back, by the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from mrlstore.wire.arrays import array_from, array_json

T = TypeVar("T")


def to_plain(value: Any, *, as_base64: bool = False) -> Any:
    """A value in dicts, lists, strings, numbers, booleans and None.

    Args:
        value: a dataclass, a named tuple, an array, a mapping, a sequence or a scalar.
        as_base64: arrays as `{"base64": ..., "shape": [...]}` instead of lists.
    """
    if is_dataclass(value):
        names = [each.name for each in fields(value)]
        return {name: to_plain(getattr(value, name), as_base64=as_base64) for name in names}
    if isinstance(value, np.ndarray):
        return array_json(value) if as_base64 else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner, as_base64=as_base64) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {
            name: to_plain(inner, as_base64=as_base64)
            for name, inner in zip(value._fields, value, strict=True)
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(inner, as_base64=as_base64) for inner in value]
    return value


def from_plain(kind: type[T], value: Any) -> T:
    """The value of a dataclass or named tuple from what `to_plain` made of it.

    Raises TypeError, ValueError or KeyError for what is none. Fields that this version does not know are
    passed over.
    """
    hashable: Any = kind
    made: T = _reader(hashable)(value)
    return made


@lru_cache(maxsize=1_000)
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes values of a type from plain ones."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _optional(inner)
    if origin is np.ndarray:
        return _array
    if origin is tuple:
        return _tuple(inner)
    if origin is list:
        each = _reader(inner[0])
        return lambda value: [each(one) for one in value]
    if origin is Literal:
        return _same
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, entry = inner[0], _reader(inner[1])
        named = int if key is int else _same
        return lambda value: {named(name): entry(one) for name, one in value.items()}
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return _object(kind)
    return _number if kind is float else _same


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _array(value: Any) -> Any:
    if isinstance(value, dict):
        return array_from(value, "array", len(value.get("shape", [0])))
    return np.asarray(value, dtype=np.float32)


def _optional(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Of a union: None, or the one kind of object; scalars stay as they are."""
    readers = [_reader(kind) for kind in kinds if kind is not type(None)]
    first = readers[0] if len(readers) == 1 else _same
    return lambda value: None if value is None else first(value)


def _tuple(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        each = _reader(kinds[0])
        return lambda value: tuple(each(one) for one in value)
    readers = [_reader(kind) for kind in kinds]
    return lambda value: tuple(read(one) for read, one in zip(readers, value, strict=True))


def _object(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else list(kind._fields)
    readers: dict[str, Callable[[Any], Any]] = {}

    def read(value: Any) -> Any:
        if not readers:  # made late, so that a type may hold itself
            readers.update({name: _reader(hints[name]) for name in names})
        return kind(**{name: readers[name](value[name]) for name in names if name in value})

    return read
