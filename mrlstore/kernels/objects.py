"""Object code of kernels, compiled ahead of time for the processor that numba compiles for in this process.

NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say which. What numba adds for calls from Python is left out, so that
nothing of numba or Python is needed where the code runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config as numba_config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from .emit import INT, LONG, offset_by, pointer
from .jit import ENTRY, Kernel, dispatcher_of
from .levels import PROCESSOR, WORDS

config: Any = numba_config  # numba's type hints are partial: treat it as untyped
_CPUID = "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}"
_XGETBV = "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"
_SAVED_BY_SYSTEM = 1 << 27  # leaf 1, ECX: the operating system uses XSAVE, so that XGETBV may be called


def object_code(kernels: Mapping[str, Kernel], prefix: str, *, processor: bool) -> bytes:
    """One object file; the function of each kernel is its name behind the prefix, `void (int64 block)`.

    processor: add the function PROCESSOR too.
    """
    whole = llvm.parse_assembly(str(_processor_module()) if processor else "")
    for name, kernel in kernels.items():
        whole.link_in(_module(prefix + name, kernel))
    whole.verify()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for CPUID
    target = llvm.Target.from_triple(llvm.get_process_triple())
    _, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=int(config.OPT), reloc="pic")
    return bytes(machine.emit_object(whole))


def _module(symbol: str, kernel: Kernel) -> Any:
    """The optimized module of one kernel: `symbol`, and what it calls, hidden."""
    dispatcher = dispatcher_of(
        kernel.function, kernel.signature, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )
    with global_compiler_lock:
        dispatcher.compile(ENTRY)
        (compiled,) = dispatcher.overloads.values()
        module = llvm.parse_assembly(compiled.library.get_llvm_str())
    inner = compiled.fndesc.llvm_func_name
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != inner:
            value.linkage = "internal"
    raising = [value.name for value in module.global_variables if "picklebuf" in value.name]
    if raising:
        raise ValueError(f"{symbol} may raise an exception, which needs Python: {raising}")
    module.link_in(llvm.parse_assembly(_bridge(module, symbol, inner)))
    module.get_function(inner).linkage = "internal"
    return module


def _bridge(module: Any, symbol: str, inner: str) -> str:
    """A module with the function that C calls. It calls numba's, which has two more arguments and a status.

    The status is not looked at: no kernel raises an exception, see `_module`.
    """
    made = ir.Module("bridge")
    made.triple = module.triple
    place = LONG.as_pointer()
    kind = ir.FunctionType(INT, [place, place.as_pointer(), LONG])
    function = ir.Function(made, kind, inner)
    outer = ir.Function(made, ir.FunctionType(ir.VoidType(), [LONG]), symbol)
    builder = ir.IRBuilder(outer.append_basic_block())
    result, raised = builder.alloca(LONG), builder.alloca(place)
    builder.call(function, [result, raised, outer.args[0]])
    builder.ret_void()
    return str(made)


def _processor_module() -> Any:
    """The function PROCESSOR, see levels: it writes int64 [WORDS] to an address."""
    module = ir.Module("processor")
    module.triple = llvm.get_process_triple()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [LONG]), PROCESSOR)
    builder = ir.IRBuilder(function.append_basic_block())

    def ask(leaf: int, at_least: Any) -> list[Any]:
        """EAX to EDX of a leaf of CPUID, zeros where `at_least`, the last leaf, is below it."""
        kind = ir.FunctionType(ir.LiteralStructType([INT] * 4), [INT, INT])
        found = builder.asm(kind, "cpuid", _CPUID, [INT(leaf), INT(0)], side_effect=True)
        known = builder.icmp_unsigned(">=", at_least, INT(leaf))
        return [builder.select(known, builder.extract_value(found, i), INT(0)) for i in range(4)]

    last, last_extended = ask(0, INT(0))[0], ask(0x80000000, INT(0x80000000))[0]
    one, seven, extended = ask(1, last), ask(7, last), ask(0x80000001, last_extended)
    words = [one[2], seven[1], seven[2], extended[2]]
    for i, word in enumerate(words):
        place = offset_by(builder, function.args[0], LONG(8 * i))
        builder.store(builder.zext(word, LONG), pointer(builder, place, LONG))
    place = pointer(builder, offset_by(builder, function.args[0], LONG(8 * (WORDS - 1))), LONG)
    builder.store(LONG(0), place)
    with builder.if_then(builder.icmp_unsigned("!=", builder.and_(one[2], INT(_SAVED_BY_SYSTEM)), INT(0))):
        kind = ir.FunctionType(ir.LiteralStructType([INT, INT]), [INT])
        found = builder.asm(kind, "xgetbv", _XGETBV, [INT(0)], side_effect=True)
        builder.store(builder.zext(builder.extract_value(found, 0), LONG), place)
    builder.ret_void()
    return module
