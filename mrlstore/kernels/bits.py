"""Comparisons of many numbers at once, and bits of single ones."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import (
    BYTE,
    FLOAT,
    FLOATS,
    INT,
    LONG,
    SHORT,
    cgutils,
    intrinsic,
    load,
    offset_by,
    reduce_lanes,
    splat,
    types,
)  # fmt: skip


@intrinsic
def nonzero_bytes(typingctx: Any, address: Any) -> Any:
    """Which of the 64 bytes at an address are not zero: an int64, the lowest bit for the first byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(BYTE, 64)
        bits = builder.icmp_unsigned("!=", load(builder, arguments[0], kind), kind(None))
        return builder.bitcast(bits, LONG)

    return types.int64(types.int64), generate


@intrinsic
def not_below(typingctx: Any, numbers: Any, least: Any) -> Any:
    """Whether each of numbers: address of float32 [16] is not below `least`: int64, the lowest bit first.

    Where either is not a number, the bit is set.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, least = arguments
        bounds = splat(builder, least, FLOATS)
        bits = builder.fcmp_unordered(">=", load(builder, numbers, FLOATS), bounds)
        return builder.zext(builder.bitcast(bits, SHORT), LONG)

    return types.int64(types.int64, types.float32), generate


@intrinsic
def count_greater(typingctx: Any, numbers: Any, length: Any, least: Any) -> Any:
    """How many, int64, of numbers: address of int64 [length] are greater than `least`.

    Reads up to the next multiple of 16; what lies behind `length` must not be greater.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, least = arguments
        kind = ir.VectorType(LONG, 8)
        sums = [cgutils.alloca_once_value(builder, kind(None)) for _ in range(2)]
        for slot in sums:
            builder.store(kind(None), slot)
        bounds = splat(builder, least, kind)
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(16), LONG) as (start, _):
            for part, slot in enumerate(sums):
                place = builder.shl(builder.add(start, LONG(8 * part)), LONG(3))
                greater = builder.icmp_signed(
                    ">", load(builder, offset_by(builder, numbers, place), kind), bounds
                )
                builder.store(builder.sub(builder.load(slot), builder.sext(greater, kind)), slot)
        return reduce_lanes(builder, builder.add(*map(builder.load, sums)), builder.add)

    return types.int64(*[types.int64] * 3), generate


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """The position, int64, of the lowest bit that is set in an int64 other than 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@intrinsic
def square_root(typingctx: Any, number: Any) -> Any:
    """The square root of a float32 or float64, of the same type: one instruction, no call of a library."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(arguments[0].type, [arguments[0].type])
        name = f"llvm.sqrt.f{number.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return number(number), generate


@intrinsic
def float_bits(typingctx: Any, number: Any) -> Any:
    """The bits of a float32, as int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], INT)

    return types.int32(types.float32), generate


@intrinsic
def bits_float(typingctx: Any, bits: Any) -> Any:
    """The float32 that has these bits, int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.int32), generate
