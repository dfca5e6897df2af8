"""Arrays over addresses, for kernels that get one table of addresses instead of many arrays.

Unpacking an array argument takes a third of a microsecond of each call from Python; a view that is made
inside a kernel takes no time.
"""

from __future__ import annotations

from typing import Any

from .emit import BYTE, FLOAT, INT, LONG, array_over, intrinsic, types


def _view(number: Any, kind: Any) -> Any:
    """An intrinsic that gives the array, of one dimension and `count` numbers, at an address."""
    array = types.Array(number, 1, "C")

    def view(typingctx: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, count = arguments
            return array_over(context, builder, array, kind, address, [count])

        return array(types.int64, types.int64), generate

    return intrinsic(view)


# Each takes an address and a count, both int64.
floats, longs, ints = _view(types.float32, FLOAT), _view(types.int64, LONG), _view(types.int32, INT)
signed_bytes, unsigned_bytes = _view(types.int8, BYTE), _view(types.uint8, BYTE)
