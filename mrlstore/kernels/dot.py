"""Dot products of codes, of float16 rows, and of a float32 row with itself.

Callers have checked every row number: an address is read as it is given.
"""

from __future__ import annotations

import itertools
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from .emit import (
    BYTE,
    FLOAT,
    FLOATS,
    INTO_SECOND_CACHE,
    INTS,
    LANES,
    LONG,
    SHORT,
    cgutils,
    features,
    intrinsic,
    load,
    multiply_add,
    offset_by,
    pointer,
    prefetch_line,
    reduce_lanes,
    scalar_of,
    splat,
    types,
    vector_of,
    widen,
)  # fmt: skip


def _half_dots(builder: Any, squares: bool, query: Any, row: Any, dim: Any, following: Any) -> list[Any]:
    """Dot products of float32 [dim] and float16 [dim], with `squares` also of the latter with itself.

    Four accumulators of 16 lanes, then 16 numbers at a time into the first, then one at a time. Meanwhile the
    row at `following` is prefetched.
    """
    sums = 2 if squares else 1
    vectors = [[cgutils.alloca_once_value(builder, FLOATS(None)) for _ in range(4)] for _ in range(sums)]
    scalars = [cgutils.alloca_once_value(builder, FLOAT(0.0)) for _ in range(sums)]
    for slot in [s for group in vectors for s in group] + scalars:
        builder.store(
            slot.type.pointee(None) if isinstance(slot.type.pointee, ir.VectorType) else FLOAT(0.0), slot
        )

    def step(offset: Any, targets: list[Any], kind: Any, shape: Any) -> None:
        left = load(builder, offset_by(builder, query, builder.shl(offset, LONG(2))), kind)
        bits = load(builder, offset_by(builder, row, builder.shl(offset, LONG(1))), shape(SHORT))
        right = widen(builder, bits, kind, shape)
        for target, factor in zip(targets, (left, right), strict=False):
            builder.store(multiply_add(builder, factor, right, builder.load(target)), target)

    whole = builder.and_(dim, LONG(-64))
    with cgutils.for_range_slice(builder, LONG(0), whole, LONG(64), LONG) as (start, _):
        ahead = offset_by(builder, following, builder.shl(start, LONG(1)))
        prefetch_line(builder, ahead, INTO_SECOND_CACHE)
        prefetch_line(builder, offset_by(builder, ahead, LONG(64)), INTO_SECOND_CACHE)
        for part in range(4):
            step(builder.add(start, LONG(16 * part)), [group[part] for group in vectors], FLOATS, vector_of)
    sixteens = builder.and_(dim, LONG(-16))
    with cgutils.for_range_slice(builder, whole, sixteens, LONG(16), LONG) as (start, _):
        step(start, [group[0] for group in vectors], FLOATS, vector_of)
    with cgutils.for_range_slice(builder, sixteens, dim, LONG(1), LONG) as (start, _):
        step(start, scalars, FLOAT, scalar_of)
    totals = []
    for group, scalar in zip(vectors, scalars, strict=True):
        a, b, c, d = (builder.load(slot) for slot in group)
        vector = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        totals.append(builder.fadd(reduce_lanes(builder, vector, builder.fadd), builder.load(scalar)))
    return totals


@intrinsic
def dot_half(typingctx: Any, query: Any, row: Any, dim: Any, following: Any) -> Any:
    """The dot product, float32, of query: float32 [dim] and row: float16 [dim], both addresses.

    The row at the address `following`, as long, is prefetched meanwhile.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _half_dots(builder, False, *arguments)[0]

    return types.float32(*[types.int64] * 4), generate


@intrinsic
def dot_half_squares(typingctx: Any, query: Any, row: Any, dim: Any, following: Any) -> Any:
    """As dot_half, and the sum of squares of the row's first dim numbers: (float32, float32)."""
    result = types.UniTuple(types.float32, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, result, _half_dots(builder, True, *arguments))

    return result(*[types.int64] * 4), generate


@intrinsic
def sum_of_squares(typingctx: Any, numbers: Any, length: Any) -> Any:
    """The sum of squares, float32, of numbers: address of float32 [length].

    Four accumulators of 16 lanes, then one number at a time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length = arguments
        vectors = [cgutils.alloca_once_value(builder, FLOATS(None)) for _ in range(4)]
        rest = cgutils.alloca_once_value(builder, FLOAT(0.0))
        for slot in vectors:
            builder.store(FLOATS(None), slot)
        builder.store(FLOAT(0.0), rest)

        def step(offset: Any, target: Any, kind: Any) -> None:
            number = load(builder, offset_by(builder, numbers, builder.shl(offset, LONG(2))), kind)
            builder.store(multiply_add(builder, number, number, builder.load(target)), target)

        whole = builder.and_(length, LONG(-64))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(64), LONG) as (start, _):
            for part in range(4):
                step(builder.add(start, LONG(16 * part)), vectors[part], FLOATS)
        with cgutils.for_range_slice(builder, whole, length, LONG(1), LONG) as (start, _):
            step(start, rest, FLOAT)
        a, b, c, d = (builder.load(slot) for slot in vectors)
        vector = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        return builder.fadd(reduce_lanes(builder, vector, builder.fadd), builder.load(rest))

    return types.float32(types.int64, types.int64), generate


def _multiply_bytes(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add the products of 64 uint8 and 64 int8 to 16 sums, int32, with one VNNI instruction."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    if llvm.llvm_version_info[0] < 22:
        unsigned, signed = builder.bitcast(unsigned, INTS), builder.bitcast(signed, INTS)
    kind = ir.FunctionType(INTS, [INTS, unsigned.type, signed.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [total, unsigned, signed])


def _code_dots(builder: Any, rows: list[Any], query: Any, length: Any) -> list[Any]:
    """Dot products of several rows of codes with one query.

    Each row has a sum of its own, so that their loads overlap.
    """
    totals = [cgutils.alloca_once_value(builder, INTS(None)) for _ in rows]
    for total in totals:
        builder.store(INTS(None), total)
    wide = "avx512vnni" in features()
    lanes = 64 if wide else LANES
    kind = ir.VectorType(BYTE, lanes)
    with cgutils.for_range_slice(builder, LONG(0), length, LONG(lanes), LONG) as (start, _):
        right = load(builder, offset_by(builder, query, start), kind)
        for row, total in zip(rows, totals, strict=True):
            left = load(builder, offset_by(builder, row, start), kind)
            if wide:
                builder.store(_multiply_bytes(builder, builder.load(total), left, right), total)
            else:
                product = builder.mul(builder.zext(left, INTS), builder.sext(right, INTS))
                builder.store(builder.add(builder.load(total), product), total)
    return [reduce_lanes(builder, builder.load(total), builder.add) for total in totals]


@intrinsic
def dot_codes(typingctx: Any, codes: Any, query: Any, length: Any) -> Any:
    """The dot product, int32, of codes: uint8 [length] and query: int8 [length], both addresses.

    length: a multiple of 64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, query, length = arguments
        return _code_dots(builder, [codes], query, length)[0]

    return types.int32(*[types.int64] * 3), generate


@intrinsic
def dot_codes_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any, query: Any, length: Any) -> Any:
    """As dot_codes, for four rows of codes a, b, c, d at once: four int32."""
    result = types.UniTuple(types.int32, 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *rows, query, length = arguments
        return context.make_tuple(builder, result, _code_dots(builder, rows, query, length))

    return result(*[types.int64] * 6), generate


@intrinsic
def multiply_rows(
    typingctx: Any, rows: Any, row_bytes: Any, axes: Any, axis_bytes: Any, length: Any, products: Any
) -> Any:
    """Write the products of four rows with 32 columns of a matrix: float32 [4, 32] to `products`.

    rows: address of four float32 [length], `row_bytes` bytes apart, as the products are; axes: address of
    float32 [length, 32], `axis_bytes` from one line to the next. The sums stay in registers.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, row_bytes, axes, axis_bytes, length, products = arguments
        sums = [[cgutils.alloca_once_value(builder, FLOATS(None)) for _ in range(2)] for _ in range(4)]
        for slot in itertools.chain(*sums):
            builder.store(FLOATS(None), slot)
        starts = [builder.mul(row_bytes, LONG(row)) for row in range(4)]
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(1), LONG) as (i, _):
            line = offset_by(builder, axes, builder.mul(i, axis_bytes))
            parts = [load(builder, offset_by(builder, line, LONG(64 * part)), FLOATS) for part in range(2)]
            for start, pair in zip(starts, sums, strict=True):
                place = builder.add(start, builder.shl(i, LONG(2)))
                number = splat(builder, load(builder, offset_by(builder, rows, place), FLOAT), FLOATS)
                for part, slot in zip(parts, pair, strict=True):
                    builder.store(multiply_add(builder, number, part, builder.load(slot)), slot)
        for start, pair in zip(starts, sums, strict=True):
            for part, slot in enumerate(pair):
                target = offset_by(builder, products, builder.add(start, LONG(64 * part)))
                builder.store(builder.load(slot), pointer(builder, target, FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
