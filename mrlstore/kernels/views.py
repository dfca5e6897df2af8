"""Arrays over addresses, for kernels that get one table of addresses instead of many arrays.

Unpacking an array costs a call from Python a third of a microsecond; a view made inside costs nothing.
"""

from __future__ import annotations

from typing import Any

import numba

from .dot import intrinsic, types
from .jit import device

carray: Any = numba.carray  # type: ignore[attr-defined]


def _pointer(kind: Any) -> Any:
    def point(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return intrinsic(point)


_floats, _longs, _ints = _pointer(types.float32), _pointer(types.int64), _pointer(types.int32)
_signed, _unsigned = _pointer(types.int8), _pointer(types.uint8)


@device
def floats(address: Any, count: Any) -> Any:
    """float32 [count]."""
    return carray(_floats(address), count)


@device
def longs(address: Any, count: Any) -> Any:
    """int64 [count]."""
    return carray(_longs(address), count)


@device
def ints(address: Any, count: Any) -> Any:
    """int32 [count]."""
    return carray(_ints(address), count)


@device
def signed_bytes(address: Any, count: Any) -> Any:
    """int8 [count]."""
    return carray(_signed(address), count)


@device
def unsigned_bytes(address: Any, count: Any) -> Any:
    """uint8 [count]."""
    return carray(_unsigned(address), count)
