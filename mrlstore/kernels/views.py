"""Arrays over addresses, for kernels that get one table of addresses instead of many arrays.

Unpacking an array argument takes a third of a microsecond of each call from Python; a view that is made
inside a kernel takes no time.
"""

from __future__ import annotations

from typing import Any

import numba

from .emit import intrinsic, types
from .jit import device

carray: Any = numba.carray  # type: ignore[attr-defined]


def _pointer(kind: Any) -> Any:
    """An intrinsic that gives an address as a pointer to this type."""

    def point(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return intrinsic(point)


_floats, _longs, _ints = _pointer(types.float32), _pointer(types.int64), _pointer(types.int32)
_signed, _unsigned = _pointer(types.int8), _pointer(types.uint8)


@device
def floats(address: Any, count: Any) -> Any:
    """The float32 [count] at an address."""
    return carray(_floats(address), count)


@device
def longs(address: Any, count: Any) -> Any:
    """The int64 [count] at an address."""
    return carray(_longs(address), count)


@device
def ints(address: Any, count: Any) -> Any:
    """The int32 [count] at an address."""
    return carray(_ints(address), count)


@device
def signed_bytes(address: Any, count: Any) -> Any:
    """The int8 [count] at an address."""
    return carray(_signed(address), count)


@device
def unsigned_bytes(address: Any, count: Any) -> Any:
    """The uint8 [count] at an address."""
    return carray(_unsigned(address), count)
