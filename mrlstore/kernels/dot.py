"""The inner loops, written as LLVM vectors: dot products of codes and of float16 rows, loads and prefetches.

All work on addresses (int64), so that one signature serves mapped, sliced and unaligned arrays. Callers have
checked every row number. The order of additions is fixed here and no fastmath is used anywhere, so a row has
the same score, bit for bit, in every kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils as numba_cgutils
from numba.core import types as numba_types
from numba.core.registry import cpu_target
from numba.extending import intrinsic as numba_intrinsic

cgutils: Any = numba_cgutils  # numba's own hints are partial: treat it as untyped
types: Any = numba_types


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's decorator, without the hints that describe the function as Python would call it."""
    return numba_intrinsic(function)


BYTE, SHORT, INT, LONG = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT, HALF = ir.FloatType(), ir.HalfType()
LANES = 16
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT, LANES)
NEAR, FAR = 3, 2  # prefetches into the first cache; into the second, to which more may be on their way


def features() -> frozenset[str]:
    """What the processor that numba compiles for can do."""
    triple, _, names = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in names.split(",") if name.startswith("+")) | {triple.split("-")[0]}


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(_pointer(builder, address, kind), align=1)


def _at(builder: Any, address: Any, offset: Any) -> Any:
    return builder.add(address, offset)


def _prefetch(builder: Any, address: Any, nearness: int) -> None:
    pointer = _pointer(builder, address, BYTE)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, INT(0), INT(nearness), INT(1)])


def _reduce(builder: Any, vector: Any, add: Any) -> Any:
    """Add the lanes of a vector as a tree of halves: a fixed order."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        low = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
        high = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes, 2 * lanes)))
        vector = add(
            builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high)
        )
    return builder.extract_element(vector, INT(0))


def _widen(builder: Any, halves: Any, kind: Any, shape: Any) -> Any:
    """Float16 bits to float32. Without F16C by arithmetic on the bits: exact for all finite numbers."""
    known = features()
    if not known & {"x86_64", "i686"} or "f16c" in known:
        return builder.fpext(builder.bitcast(halves, shape(HALF)), kind)
    wide = builder.zext(halves, shape(INT))

    def const(number: int) -> Any:
        return ir.Constant(shape(INT), [number] * kind.count if isinstance(kind, ir.VectorType) else number)

    magnitude = builder.shl(builder.and_(wide, const(0x7FFF)), const(13))
    sign = builder.shl(builder.and_(wide, const(0x8000)), const(16))
    power = builder.bitcast(const((127 + 112) << 23), kind)
    scaled = builder.fmul(builder.bitcast(magnitude, kind), power)
    return builder.bitcast(builder.or_(builder.bitcast(scaled, shape(INT)), sign), kind)


def _vector(kind: Any) -> Any:
    return ir.VectorType(kind, LANES)


def _scalar(kind: Any) -> Any:
    return kind


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = f"llvm.fmuladd.v{LANES}f32" if isinstance(a.type, ir.VectorType) else "llvm.fmuladd.f32"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _halves(builder: Any, squares: bool, query: Any, row: Any, dim: Any, following: Any) -> list[Any]:
    """Dot product of float32 [dim] and float16 [dim], and if asked the sum of squares of the latter.

    Four accumulators of 16 lanes, then 16 at a time into the first, then one at a time. Meanwhile the row at
    `following` is prefetched.
    """
    sums = 2 if squares else 1
    vectors = [[cgutils.alloca_once_value(builder, FLOATS(None)) for _ in range(4)] for _ in range(sums)]
    scalars = [cgutils.alloca_once_value(builder, FLOAT(0.0)) for _ in range(sums)]
    for slot in [s for group in vectors for s in group] + scalars:
        builder.store(
            slot.type.pointee(None) if isinstance(slot.type.pointee, ir.VectorType) else FLOAT(0.0), slot
        )

    def step(offset: Any, targets: list[Any], kind: Any, shape: Any) -> None:
        left = _load(builder, _at(builder, query, builder.shl(offset, LONG(2))), kind)
        bits = _load(builder, _at(builder, row, builder.shl(offset, LONG(1))), shape(SHORT))
        right = _widen(builder, bits, kind, shape)
        for target, factor in zip(targets, (left, right), strict=False):
            builder.store(_fma(builder, factor, right, builder.load(target)), target)

    whole = builder.and_(dim, LONG(-64))
    with cgutils.for_range_slice(builder, LONG(0), whole, LONG(64), LONG) as (start, _):
        ahead = _at(builder, following, builder.shl(start, LONG(1)))
        _prefetch(builder, ahead, FAR)
        _prefetch(builder, _at(builder, ahead, LONG(64)), FAR)
        for part in range(4):
            step(builder.add(start, LONG(16 * part)), [group[part] for group in vectors], FLOATS, _vector)
    sixteens = builder.and_(dim, LONG(-16))
    with cgutils.for_range_slice(builder, whole, sixteens, LONG(16), LONG) as (start, _):
        step(start, [group[0] for group in vectors], FLOATS, _vector)
    with cgutils.for_range_slice(builder, sixteens, dim, LONG(1), LONG) as (start, _):
        step(start, scalars, FLOAT, _scalar)
    totals = []
    for group, scalar in zip(vectors, scalars, strict=True):
        a, b, c, d = (builder.load(slot) for slot in group)
        vector = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        totals.append(builder.fadd(_reduce(builder, vector, builder.fadd), builder.load(scalar)))
    return totals


@intrinsic
def dot_half(typingctx: Any, query: Any, row: Any, dim: Any, following: Any) -> Any:
    """Of query: float32 [dim] and row: float16 [dim], as float32; the row at `following` is prefetched."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, False, *arguments)[0]

    return types.float32(*[types.int64] * 4), generate


@intrinsic
def dot_half_squares(typingctx: Any, query: Any, row: Any, dim: Any, following: Any) -> Any:
    """The same, and the sum of squares of the row's first dim numbers: (float32, float32)."""
    result = types.UniTuple(types.float32, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, result, _halves(builder, True, *arguments))

    return result(*[types.int64] * 4), generate


def _multiply_bytes(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add the products of 64 uint8 and 64 int8 to 16 int32 sums with VNNI."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    if llvm.llvm_version_info[0] < 22:
        unsigned, signed = builder.bitcast(unsigned, INTS), builder.bitcast(signed, INTS)
    kind = ir.FunctionType(INTS, [INTS, unsigned.type, signed.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [total, unsigned, signed])


@intrinsic
def sum_of_squares(typingctx: Any, numbers: Any, length: Any) -> Any:
    """Of numbers: float32 [length], as float32: four accumulators of 16 lanes, then one number at a time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length = arguments
        vectors = [cgutils.alloca_once_value(builder, FLOATS(None)) for _ in range(4)]
        rest = cgutils.alloca_once_value(builder, FLOAT(0.0))
        for slot in vectors:
            builder.store(FLOATS(None), slot)
        builder.store(FLOAT(0.0), rest)

        def step(offset: Any, target: Any, kind: Any) -> None:
            number = _load(builder, _at(builder, numbers, builder.shl(offset, LONG(2))), kind)
            builder.store(_fma(builder, number, number, builder.load(target)), target)

        whole = builder.and_(length, LONG(-64))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(64), LONG) as (start, _):
            for part in range(4):
                step(builder.add(start, LONG(16 * part)), vectors[part], FLOATS)
        with cgutils.for_range_slice(builder, whole, length, LONG(1), LONG) as (start, _):
            step(start, rest, FLOAT)
        a, b, c, d = (builder.load(slot) for slot in vectors)
        vector = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        return builder.fadd(_reduce(builder, vector, builder.fadd), builder.load(rest))

    return types.float32(types.int64, types.int64), generate


def _code_sums(builder: Any, rows: list[Any], query: Any, length: Any) -> list[Any]:
    """Dot products of several rows of codes with one query: each has a sum of its own, the loads overlap."""
    totals = [cgutils.alloca_once_value(builder, INTS(None)) for _ in rows]
    for total in totals:
        builder.store(INTS(None), total)
    wide = "avx512vnni" in features()
    lanes = 64 if wide else LANES
    kind = ir.VectorType(BYTE, lanes)
    with cgutils.for_range_slice(builder, LONG(0), length, LONG(lanes), LONG) as (start, _):
        right = _load(builder, _at(builder, query, start), kind)
        for row, total in zip(rows, totals, strict=True):
            left = _load(builder, _at(builder, row, start), kind)
            if wide:
                builder.store(_multiply_bytes(builder, builder.load(total), left, right), total)
            else:
                product = builder.mul(builder.zext(left, INTS), builder.sext(right, INTS))
                builder.store(builder.add(builder.load(total), product), total)
    return [_reduce(builder, builder.load(total), builder.add) for total in totals]


@intrinsic
def dot_codes(typingctx: Any, codes: Any, query: Any, length: Any) -> Any:
    """Of codes: uint8 [length] and query: int8 [length], as int32; length is a multiple of 64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, query, length = arguments
        return _code_sums(builder, [codes], query, length)[0]

    return types.int32(*[types.int64] * 3), generate


@intrinsic
def dot_codes_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any, query: Any, length: Any) -> Any:
    """The same of four rows of codes at once: four int32."""
    result = types.UniTuple(types.int32, 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *rows, query, length = arguments
        return context.make_tuple(builder, result, _code_sums(builder, rows, query, length))

    return result(*[types.int64] * 6), generate


@intrinsic
def sign_codes(typingctx: Any, codes: Any, length: Any, signed: Any) -> Any:
    """Write stored codes uint8 [length] as int8 [length], a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, length, signed = arguments
        kind = _vector(BYTE)
        flip = ir.Constant(kind, [0x80] * LANES)
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(LANES), LONG) as (start, _):
            flipped = builder.xor(_load(builder, _at(builder, codes, start), kind), flip)
            builder.store(flipped, _pointer(builder, _at(builder, signed, start), kind), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


def _prefetcher(nearness: int) -> Any:
    def prefetch(typingctx: Any, address: Any, length: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, length = arguments
            with cgutils.for_range_slice(builder, LONG(0), length, LONG(64), LONG) as (start, _):
                _prefetch(builder, _at(builder, address, start), nearness)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return intrinsic(prefetch)


# Ask for `length` bytes from `address` on, line by line; the address need not be valid.
prefetch, prefetch_far = _prefetcher(NEAR), _prefetcher(FAR)


@intrinsic
def largest(typingctx: Any, numbers: Any, length: Any) -> Any:
    """The greatest magnitude among numbers: float32 [length]; length is a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        best = cgutils.alloca_once_value(builder, INTS(None))
        builder.store(INTS(None), best)
        mask = ir.Constant(INTS, [0x7FFFFFFF] * LANES)
        with cgutils.for_range_slice(builder, LONG(0), arguments[1], LONG(LANES), LONG) as (start, _):
            bits = _load(builder, _at(builder, arguments[0], builder.shl(start, LONG(2))), INTS)
            builder.store(_greater(builder, builder.and_(bits, mask), builder.load(best)), best)
        bits = _reduce(builder, builder.load(best), lambda a, b: _greater(builder, a, b))
        return builder.bitcast(bits, FLOAT)

    return types.float32(types.int64, types.int64), generate


def _greater(builder: Any, a: Any, b: Any) -> Any:
    """Lane by lane the greater; the bits of floats that are not negative order like the floats."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@intrinsic
def quantise(typingctx: Any, numbers: Any, length: Any, factor: Any, codes: Any) -> Any:
    """Write int8 codes of numbers: float32 [length], a multiple of 16; gives the sum of the codes, int32.

    Each code is the number times factor, rounded; the caller's factor keeps it within -127 .. 127.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, factor, codes = arguments
        total = cgutils.alloca_once_value(builder, INTS(None))
        builder.store(INTS(None), total)
        factors = FLOATS(ir.Undefined)
        for lane in range(LANES):
            factors = builder.insert_element(factors, factor, INT(lane))
        kind = ir.FunctionType(FLOATS, [FLOATS])
        rint = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32")
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(LANES), LONG) as (start, _):
            vector = _load(builder, _at(builder, numbers, builder.shl(start, LONG(2))), FLOATS)
            rounded = builder.fptosi(builder.call(rint, [builder.fmul(vector, factors)]), INTS)
            builder.store(builder.add(builder.load(total), rounded), total)
            target = _pointer(builder, _at(builder, codes, start), ir.VectorType(BYTE, LANES))
            builder.store(builder.trunc(rounded, ir.VectorType(BYTE, LANES)), target, align=1)
        return _reduce(builder, builder.load(total), builder.add)

    return types.int32(types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def divide_to_half(typingctx: Any, numbers: Any, length: Any, divisor: Any, halves: Any) -> Any:
    """Write numbers / divisor: float32 [length] as float16, to the nearest, ties to even. Only with F16C."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, divisor, halves = arguments
        divisors = FLOATS(ir.Undefined)
        for lane in range(LANES):
            divisors = builder.insert_element(divisors, divisor, INT(lane))

        def step(offset: Any, by: Any, kind: Any, shape: Any) -> None:
            number = _load(builder, _at(builder, numbers, builder.shl(offset, LONG(2))), kind)
            half = builder.fptrunc(builder.fdiv(number, by), shape(HALF))
            target = _pointer(builder, _at(builder, halves, builder.shl(offset, LONG(1))), shape(SHORT))
            builder.store(builder.bitcast(half, shape(SHORT)), target, align=1)

        whole = builder.and_(length, LONG(-LANES))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(LANES), LONG) as (start, _):
            step(start, divisors, FLOATS, _vector)
        with cgutils.for_range_slice(builder, whole, length, LONG(1), LONG) as (start, _):
            step(start, divisor, FLOAT, _scalar)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), generate


def _loader(kind: Any, result: Any) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _load(builder, arguments[0], kind)

        return result(types.int64), generate

    return intrinsic(load)


load_byte = _loader(BYTE, types.uint8)
load_row = _loader(INT, types.uint32)
load_float = _loader(FLOAT, types.float32)
load_long = _loader(LONG, types.int64)


@intrinsic
def nonzero_bytes(typingctx: Any, address: Any) -> Any:
    """Which of the 64 bytes from `address` on are not zero: one bit each, the lowest for the first, int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(BYTE, 64)
        bits = builder.icmp_unsigned("!=", _load(builder, arguments[0], kind), kind(None))
        return builder.bitcast(bits, LONG)

    return types.int64(types.int64), generate


@intrinsic
def not_below(typingctx: Any, numbers: Any, least: Any) -> Any:
    """Which of numbers: float32 [16] are not below `least`: one bit each, the lowest for the first, int64.

    Where one of both is not a number it is not below.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, least = arguments
        bounds = FLOATS(ir.Undefined)
        for lane in range(LANES):
            bounds = builder.insert_element(bounds, least, INT(lane))
        bits = builder.fcmp_unordered(">=", _load(builder, numbers, FLOATS), bounds)
        return builder.zext(builder.bitcast(bits, SHORT), LONG)

    return types.int64(types.int64, types.float32), generate


@intrinsic
def count_greater(typingctx: Any, numbers: Any, length: Any, least: Any) -> Any:
    """How many of numbers: int64 [length, rounded up to a multiple of 16] are greater than `least`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, length, least = arguments
        kind = ir.VectorType(LONG, 8)
        sums = [cgutils.alloca_once_value(builder, kind(None)) for _ in range(2)]
        for slot in sums:
            builder.store(kind(None), slot)
        bounds = kind(ir.Undefined)
        for lane in range(8):
            bounds = builder.insert_element(bounds, least, INT(lane))
        with cgutils.for_range_slice(builder, LONG(0), length, LONG(16), LONG) as (start, _):
            for part, slot in enumerate(sums):
                place = builder.shl(builder.add(start, LONG(8 * part)), LONG(3))
                greater = builder.icmp_signed(">", _load(builder, _at(builder, numbers, place), kind), bounds)
                builder.store(builder.sub(builder.load(slot), builder.sext(greater, kind)), slot)
        return _reduce(builder, builder.add(*map(builder.load, sums)), builder.add)

    return types.int64(*[types.int64] * 3), generate


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set, of int64 other than 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@intrinsic
def float_bits(typingctx: Any, number: Any) -> Any:
    """The bits of a float32, as int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], INT)

    return types.int32(types.float32), generate


@intrinsic
def bits_float(typingctx: Any, bits: Any) -> Any:
    """The float32 of these bits, int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.int32), generate


@intrinsic
def move(typingctx: Any, target: Any, source: Any, length: Any) -> Any:
    """Copy `length` bytes between addresses that may overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (_pointer(builder, address, BYTE) for address in arguments[:2])
        flag = ir.IntType(1)
        kind = ir.FunctionType(ir.VoidType(), [target.type, source.type, LONG, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.memmove.p0.p0.i64")
        builder.call(function, [target, source, arguments[2], flag(0)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
