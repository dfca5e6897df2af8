"""Numbers in other forms: floats as int8 codes or as float16, stored codes as signed ones."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import (
    BYTE,
    DOUBLE,
    FLOAT,
    FLOATS,
    INTS,
    LANES,
    LONG,
    SHORT,
    cgutils,
    intrinsic,
    load,
    narrow,
    offset_by,
    pointer,
    reduce_lanes,
    scalar_of,
    splat,
    types,
    vector_of,
    widen,
)  # fmt: skip

# float32 of this size have a distance of 1, so that to add it and to subtract it again rounds to whole
# numbers. LLVM's own function for that calls a library where the processor has no SSE4.1.
WHOLE = 1.5 * 2**23


@intrinsic
def sign_codes(typingctx: Any, codes: Any, length: Any, signed: Any) -> Any:
    """Write stored codes, uint8 [length], as int8 [length] to `signed`; both addresses.

    length: a multiple of 16. A stored code is the signed one plus 128.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, length, signed = arguments
        kind = vector_of(BYTE)
        flip = ir.Constant(kind, [0x80] * LANES)
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(LANES), LONG) as (start, _):
            flipped = builder.xor(load(builder, offset_by(builder, codes, start), kind), flip)
            builder.store(flipped, pointer(builder, offset_by(builder, signed, start), kind), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def largest(typingctx: Any, numbers: Any, length: Any) -> Any:
    """The greatest magnitude, float32, among numbers: address of float32 [length], a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        best = cgutils.alloca_once_value(builder, INTS(None))
        builder.store(INTS(None), best)
        mask = ir.Constant(INTS, [0x7FFFFFFF] * LANES)
        with cgutils.for_range_slice(builder, LONG(0), arguments[1], LONG(LANES), LONG) as (start, _):
            bits = load(builder, offset_by(builder, arguments[0], builder.shl(start, LONG(2))), INTS)
            builder.store(_greater(builder, builder.and_(bits, mask), builder.load(best)), best)
        bits = reduce_lanes(builder, builder.load(best), lambda a, b: _greater(builder, a, b))
        return builder.bitcast(bits, FLOAT)

    return types.float32(types.int64, types.int64), generate


def _greater(builder: Any, a: Any, b: Any) -> Any:
    """Lane by lane the greater; bits of floats that are not negative order like the floats."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@intrinsic
def widen_squares(typingctx: Any, halves: Any, length: Any, numbers: Any) -> Any:
    """Write halves: float16 [length] as float32 to `numbers`; both addresses. Gives their sum of squares.

    The sum is float64, exact for rows of about unit length: the squares of float16 are multiples of 2**-48.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        halves, length, numbers = arguments
        wide = ir.VectorType(DOUBLE, LANES)
        total = cgutils.alloca_once_value(builder, wide(None))
        rest = cgutils.alloca_once_value(builder, DOUBLE(0.0))
        builder.store(wide(None), total)
        builder.store(DOUBLE(0.0), rest)

        def step(offset: Any, sums: Any, kind: Any, shape: Any) -> None:
            bits = load(builder, offset_by(builder, halves, builder.shl(offset, LONG(1))), shape(SHORT))
            number = widen(builder, bits, kind, shape)
            target = pointer(builder, offset_by(builder, numbers, builder.shl(offset, LONG(2))), kind)
            builder.store(number, target, align=4)
            square = builder.fpext(builder.fmul(number, number), shape(DOUBLE))  # exact in float32 too
            builder.store(builder.fadd(builder.load(sums), square), sums)

        whole = builder.and_(length, LONG(-LANES))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(LANES), LONG) as (start, _):
            step(start, total, FLOATS, vector_of)
        with cgutils.for_range_slice(builder, whole, length, LONG(1), LONG) as (start, _):
            step(start, rest, FLOAT, scalar_of)
        return builder.fadd(reduce_lanes(builder, builder.load(total), builder.fadd), builder.load(rest))

    return types.float64(types.int64, types.int64, types.int64), generate


@intrinsic
def quantise(typingctx: Any, numbers: Any, length: Any, factor: Any, codes: Any) -> Any:
    """Write the int8 codes of numbers: float32 [length] to `codes`; both addresses. Gives their sum, int32.

    Each code is the number times factor, rounded to the nearest, ties to even; the caller's factor keeps it
    within -127 .. 127. length: a multiple of 16.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, factor, codes = arguments
        total = cgutils.alloca_once_value(builder, INTS(None))
        builder.store(INTS(None), total)
        factors = splat(builder, factor, FLOATS)
        whole = ir.Constant(FLOATS, [WHOLE] * LANES)
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(LANES), LONG) as (start, _):
            vector = load(builder, offset_by(builder, numbers, builder.shl(start, LONG(2))), FLOATS)
            rounded = builder.fsub(builder.fadd(builder.fmul(vector, factors), whole), whole)
            rounded = builder.fptosi(rounded, INTS)
            builder.store(builder.add(builder.load(total), rounded), total)
            target = pointer(builder, offset_by(builder, codes, start), ir.VectorType(BYTE, LANES))
            builder.store(builder.trunc(rounded, ir.VectorType(BYTE, LANES)), target, align=1)
        return reduce_lanes(builder, builder.load(total), builder.add)

    return types.int32(types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def divide_to_half(typingctx: Any, numbers: Any, length: Any, divisor: Any, halves: Any) -> Any:
    """Write numbers / divisor: float32 [length] as float16 [length] to `halves`; both addresses.

    Rounded to the nearest, ties to even.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, divisor, halves = arguments
        divisors = splat(builder, divisor, FLOATS)

        def step(offset: Any, by: Any, kind: Any, shape: Any) -> None:
            number = load(builder, offset_by(builder, numbers, builder.shl(offset, LONG(2))), kind)
            half = narrow(builder, builder.fdiv(number, by), shape)
            target = pointer(builder, offset_by(builder, halves, builder.shl(offset, LONG(1))), shape(SHORT))
            builder.store(half, target, align=1)

        whole = builder.and_(length, LONG(-LANES))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(LANES), LONG) as (start, _):
            step(start, divisors, FLOATS, vector_of)
        with cgutils.for_range_slice(builder, whole, length, LONG(1), LONG) as (start, _):
            step(start, divisor, FLOAT, scalar_of)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), generate
