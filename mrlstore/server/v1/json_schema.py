"""JSON schemas of the types that answers are made of, from their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from mrlstore.server.v1.declared import VECTOR, Schema
from mrlstore.types import BatchResult, Hit, HitGroup, Plan, Result

_SCALARS: Final = {
    bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null",
}  # fmt: skip
# What `mrlstore.wire.result_values` writes of classes that are not dataclasses.
_PARTS: Final[dict[Any, dict[str, Any]]] = {
    Result: {"hits": list[Hit], "groups": list[HitGroup], "plan": Plan},
    BatchResult: {"results": list[Result]},
}


class Schemas:
    """The schemas of named types, collected as they are referred to."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type; of a class with fields a reference to it."""
        if isinstance(kind, Mapping):
            return {name: self._inner(value) for name, value in kind.items()}
        origin, inner = get_origin(kind), get_args(kind)
        if kind in _SCALARS:
            return {"type": _SCALARS[kind]}
        if kind is Any:
            return {}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(each) for each in inner]}
        if origin is Literal:
            return {"enum": list(inner)}
        if origin is np.ndarray:
            return VECTOR
        if origin is tuple and inner[-1] is not Ellipsis:
            return {"type": "array", "prefixItems": [self.of(each) for each in inner]}
        if origin in (tuple, list):
            return {"type": "array", "items": self.of(inner[0])}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        return self._reference(kind)

    def _inner(self, value: Any) -> Any:
        """What stands in a schema: types in it become schemas too."""
        if isinstance(value, Mapping):
            return self.of(value)
        if isinstance(value, list):
            return [self._inner(each) for each in value]
        return self.of(value) if isinstance(value, type) else value

    def _reference(self, kind: Any) -> Schema:
        name = kind.__name__
        if name not in self.named:
            self.named[name] = {}  # referred to while it is made
            self.named[name] = self._object(kind)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, kind: Any) -> Schema:
        summary = (kind.__doc__ or "").partition("\n")[0]
        if kind in _PARTS:
            hints, required = _PARTS[kind], list(_PARTS[kind])[:1]
        else:
            hints = get_type_hints(kind)
            required = _required(kind)
        properties = {name: self.of(hint) for name, hint in hints.items()}
        return {"type": "object", "description": summary, "properties": properties, "required": required}


def _required(kind: Any) -> list[str]:
    if is_dataclass(kind):
        return [
            each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING
        ]
    return [name for name in kind._fields if name not in kind._field_defaults]
