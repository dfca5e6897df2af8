"""What intrinsics are made of: functions that append LLVM instructions to a kernel under compilation.

An intrinsic takes addresses (int64), so that one signature serves mapped, sliced and unaligned arrays. The
order of additions is fixed here and fastmath is never used: a row has the same score, bit for bit, in every
kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils as numba_cgutils
from numba.core import types as numba_types
from numba.core.registry import cpu_target
from numba.extending import intrinsic as numba_intrinsic
from numba.np import arrayobj as numba_arrays

cgutils: Any = numba_cgutils  # numba's type hints are partial: treat it as untyped
types: Any = numba_types
_arrays: Any = numba_arrays

BYTE, SHORT, INT, LONG = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT, HALF, DOUBLE = ir.FloatType(), ir.HalfType(), ir.DoubleType()
LANES = 16  # numbers of 32 bits in a vector of 512 bits; LLVM splits it where registers are shorter
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT, LANES)
# Localities of llvm.prefetch. The second cache takes more lines at a time than the first.
INTO_FIRST_CACHE, INTO_SECOND_CACHE = 3, 2


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's decorator, without its type hints, which describe the function as Python would call it."""
    return numba_intrinsic(function)


def features() -> frozenset[str]:
    """Names of what the processor can do that numba compiles for, for instance "avx512vnni"."""
    triple, _, names = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in names.split(",") if name.startswith("+")) | {triple.split("-")[0]}


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """An int64 address as a pointer to this type."""
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any) -> Any:
    """The value at an address, which need not be aligned."""
    return builder.load(pointer(builder, address, kind), align=1)


def array_over(context: Any, builder: Any, array: Any, kind: Any, address: Any, shape: list[Any]) -> Any:
    """The array of numba's type `array`, C-contiguous, over the numbers of this LLVM type at an address."""
    width = context.get_abi_sizeof(kind)
    strides = [LONG(width)]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    made = _arrays.make_array(array)(context, builder)
    _arrays.populate_array(
        made,
        pointer(builder, address, kind),
        shape=shape,
        strides=strides,
        itemsize=LONG(width),
        meminfo=None,
    )
    return made._getvalue()


def offset_by(builder: Any, address: Any, offset: Any) -> Any:
    """The address `offset` bytes further on."""
    return builder.add(address, offset)


def splat(builder: Any, number: Any, kind: Any) -> Any:
    """A vector with the number in every lane."""
    vector = kind(ir.Undefined)
    for lane in range(kind.count):
        vector = builder.insert_element(vector, number, INT(lane))
    return vector


def prefetch_line(builder: Any, address: Any, nearness: int) -> None:
    """Prefetch the cache line at an address, which need not be valid."""
    line = pointer(builder, address, BYTE)
    kind = ir.FunctionType(ir.VoidType(), [line.type, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [line, INT(0), INT(nearness), INT(1)])


def reduce_lanes(builder: Any, vector: Any, add: Any) -> Any:
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


def widen(builder: Any, halves: Any, kind: Any, shape: Any) -> Any:
    """float16 bits as float32. Without F16C by arithmetic on the bits, exact for all finite numbers."""
    if converts_halves():
        return builder.fpext(builder.bitcast(halves, shape(HALF)), kind)
    wide = builder.zext(halves, shape(INT))
    const = _constants(shape)
    magnitude = builder.shl(builder.and_(wide, const(0x7FFF)), const(13))
    sign = builder.shl(builder.and_(wide, const(0x8000)), const(16))
    power = builder.bitcast(const((127 + 112) << 23), kind)
    scaled = builder.fmul(builder.bitcast(magnitude, kind), power)
    return builder.bitcast(builder.or_(builder.bitcast(scaled, shape(INT)), sign), kind)


def narrow(builder: Any, numbers: Any, shape: Any) -> Any:
    """The bits of float32 as float16, to the nearest, ties to even. Without F16C by arithmetic on bits."""
    if converts_halves():
        return builder.bitcast(builder.fptrunc(numbers, shape(HALF)), shape(SHORT))
    const = _constants(shape)
    bits = builder.bitcast(numbers, shape(INT))
    sign = builder.and_(bits, const(-0x80000000))
    bits = builder.xor(bits, sign)
    odd = builder.and_(builder.lshr(bits, const(13)), const(1))
    normal = builder.lshr(builder.add(builder.add(bits, const(((15 - 127) << 23) + 0xFFF)), odd), const(13))
    # float32 of this size have the distance of the smallest float16, 2**-24, so that the addition rounds.
    at_step = const((127 - 15 + 23 - 10 + 1) << 23)
    raised = builder.fadd(builder.bitcast(bits, numbers.type), builder.bitcast(at_step, numbers.type))
    small = builder.sub(builder.bitcast(raised, shape(INT)), at_step)
    huge = builder.select(builder.icmp_signed(">", bits, const(0xFF << 23)), const(0x7E00), const(0x7C00))
    found = builder.select(builder.icmp_signed("<", bits, const(113 << 23)), small, normal)
    found = builder.select(builder.icmp_signed(">=", bits, const((127 + 16) << 23)), huge, found)
    return builder.trunc(builder.or_(found, builder.lshr(sign, const(16))), shape(SHORT))


def converts_halves() -> bool:
    """Whether the processor converts between float16 and float32; else LLVM would call a library for it."""
    known = features()
    return not known & {"x86_64", "i686"} or "f16c" in known


def _constants(shape: Any) -> Callable[[int], Any]:
    """A function that gives an int32, or a vector with it in every lane."""
    kind = shape(INT)
    return lambda number: ir.Constant(kind, [number] * LANES if isinstance(kind, ir.VectorType) else number)


def vector_of(kind: Any) -> Any:
    """The vector type of LANES of these; where code serves vectors and single numbers, with scalar_of."""
    return ir.VectorType(kind, LANES)


def scalar_of(kind: Any) -> Any:
    """The type itself, see vector_of."""
    return kind


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c for vectors or single numbers, fused where the processor can."""
    name = f"llvm.fmuladd.v{LANES}f32" if isinstance(a.type, ir.VectorType) else "llvm.fmuladd.f32"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])
