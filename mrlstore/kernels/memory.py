"""Single values at addresses, prefetches, and moves of bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import (
    BYTE,
    FLOAT,
    INT,
    INTO_FIRST_CACHE,
    INTO_SECOND_CACHE,
    LONG,
    cgutils,
    intrinsic,
    load,
    offset_by,
    pointer,
    prefetch_line,
    types,
)  # fmt: skip


def _loader(kind: Any, result: Any) -> Any:
    """An intrinsic that gives the value at an address."""

    def load_value(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return load(builder, arguments[0], kind)

        return result(types.int64), generate

    return intrinsic(load_value)


load_byte = _loader(BYTE, types.uint8)
load_row = _loader(INT, types.uint32)
load_float = _loader(FLOAT, types.float32)
load_long = _loader(LONG, types.int64)


def _prefetcher(nearness: int) -> Any:
    """An intrinsic that prefetches `length` bytes from an address on, which need not be valid."""

    def prefetch(typingctx: Any, address: Any, length: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, length = arguments
            with cgutils.for_range_slice(builder, LONG(0), length, LONG(64), LONG) as (start, _):
                prefetch_line(builder, offset_by(builder, address, start), nearness)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return intrinsic(prefetch)


prefetch, prefetch_far = _prefetcher(INTO_FIRST_CACHE), _prefetcher(INTO_SECOND_CACHE)


@intrinsic
def move(typingctx: Any, target: Any, source: Any, length: Any) -> Any:
    """Copy `length` bytes from the address `source` to `target`; the two may overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (pointer(builder, address, BYTE) for address in arguments[:2])
        flag = ir.IntType(1)
        kind = ir.FunctionType(ir.VoidType(), [target.type, source.type, LONG, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.memmove.p0.p0.i64")
        builder.call(function, [target, source, arguments[2], flag(0)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
