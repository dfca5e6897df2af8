"""The entry of a kernel: a function of the address of a block, which unpacks arguments and packs results.

`call` describes the block. Kernels compiled by numba at their first use have the same entry as those compiled
ahead of time, so that both are the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba.core import sigutils

from .call import Signature
from .emit import FLOAT, LONG, array_over, intrinsic, load, offset_by, pointer, types

normalize_signature: Any = sigutils.normalize_signature  # numba's type hints are partial: treat it as untyped
_DOUBLE = ir.DoubleType()
_FIELD_BYTES = 8


def entry_of(function: Callable[..., Any], signature: Signature, inner: Any) -> FunctionType:
    """The function of one address, int64, that calls `inner`, the compiled form of `function`."""
    arguments, _ = normalize_signature(signature.text)
    names = {"give": _give, "unpack": _unpacker(arguments, len(signature.results)), "inner": inner}
    made = FunctionType(_entry.__code__, names, function.__name__)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def _entry(block: Any) -> None:
    """Takes its three names from `entry_of`."""
    give(block, inner(*unpack(block)))  # type: ignore[name-defined]  # noqa: F821


def _unpacker(kinds: tuple[Any, ...], first: int) -> Any:
    """An intrinsic that gives the arguments in a block, from field `first` on, as a tuple of these types."""
    result = types.Tuple(kinds)

    def unpack(typingctx: Any, block: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            fields = _Fields(builder, arguments[0], first)
            return context.make_tuple(builder, result, [fields.take(context, kind) for kind in kinds])

        return result(types.int64), generate

    return intrinsic(unpack)


class _Fields:
    """Reads the fields of a block one after the other."""

    def __init__(self, builder: Any, block: Any, first: int) -> None:
        self._builder, self._block, self._next = builder, block, first

    def take(self, context: Any, kind: Any) -> Any:
        """The next argument, of this type."""
        if isinstance(kind, types.Array):
            address, *shape = (self._field(LONG) for _ in range(1 + kind.ndim))
            number = context.get_data_type(kind.dtype)
            return array_over(context, self._builder, kind, number, address, shape)
        if isinstance(kind, types.Float):
            wide = self._field(_DOUBLE)
            return self._builder.fptrunc(wide, FLOAT) if kind.bitwidth == 32 else wide
        return self._field(LONG)

    def _field(self, kind: Any) -> Any:
        place = offset_by(self._builder, self._block, LONG(_FIELD_BYTES * self._next))
        self._next += 1
        return load(self._builder, place, kind)


@intrinsic
def _give(typingctx: Any, block: Any, value: Any) -> Any:
    """Write what a kernel gave into the first fields of its block."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, given = arguments
        several = isinstance(value, types.BaseTuple)
        for place, kind in enumerate(value if several else [] if value == types.none else [value]):
            number = builder.extract_value(given, place) if several else given
            if isinstance(kind, types.Float):
                number = builder.fpext(number, _DOUBLE) if kind.bitwidth == 32 else number
            elif kind == types.boolean:
                number = builder.zext(number, LONG)
            elif kind.bitwidth < LONG.width:
                number = builder.sext(number, LONG)
            field = offset_by(builder, block, LONG(_FIELD_BYTES * place))
            builder.store(number, pointer(builder, field, number.type))
        return context.get_dummy_value()

    return types.void(types.int64, value), generate
