"""What processors can do, as levels: for each of them the kernels are compiled ahead of time.

The levels of 64-bit x86 are those of its ABI (x86-64-v3 has AVX2, FMA and F16C, v4 has AVX-512), and v4 with
VNNI, the instructions for dot products of bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple


class InstructionSet(NamedTuple):
    """One set of instructions."""

    name: str  # also that of the library
    cpu: str  # LLVM's name of a processor that has no other ones
    features: tuple[str, ...]  # LLVM's names


class _Bit(NamedTuple):
    """Where the processor says that it has a feature, see PROCESSOR."""

    word: int
    bit: int


# What the function of this name in the baseline library writes, each as int64: the words of CPUID with the
# features that levels need (leaf 1 ECX, leaf 7 EBX and ECX, leaf 0x80000001 ECX), and XCR0, which says which
# registers the operating system saves, 0 where it does not say.
PROCESSOR: Final = "mrlstore_processor"
WORDS: Final = 5
_AVX_SAVED, _AVX512_SAVED = 0b110, 0b11100110  # bits of XCR0

_V3 = {
    "sse3": _Bit(0, 0), "ssse3": _Bit(0, 9), "fma": _Bit(0, 12), "cx16": _Bit(0, 13), "sse4.1": _Bit(0, 19),
    "sse4.2": _Bit(0, 20), "movbe": _Bit(0, 22), "popcnt": _Bit(0, 23), "xsave": _Bit(0, 26),
    "avx": _Bit(0, 28), "f16c": _Bit(0, 29), "bmi": _Bit(1, 3), "avx2": _Bit(1, 5), "bmi2": _Bit(1, 8),
    "sahf": _Bit(3, 0), "lzcnt": _Bit(3, 5),
}  # fmt: skip
_V4 = {
    "avx512f": _Bit(1, 16), "avx512dq": _Bit(1, 17), "avx512cd": _Bit(1, 28), "avx512bw": _Bit(1, 30),
    "avx512vl": _Bit(1, 31),
}  # fmt: skip
_VNNI = {"avx512vnni": _Bit(2, 11)}
FEATURES: Final = {**_V3, **_V4, **_VNNI}

# By machine, as os.uname() has it; the best first, the last for every processor of the kind.
LEVELS: Final[dict[str, tuple[InstructionSet, ...]]] = {
    "x86_64": (
        InstructionSet("v4-vnni", "x86-64-v4", (*_V3, *_V4, *_VNNI)),
        InstructionSet("v4", "x86-64-v4", (*_V3, *_V4)),
        InstructionSet("v3", "x86-64-v3", (*_V3,)),
        InstructionSet("baseline", "x86-64", ()),
    ),
    "aarch64": (InstructionSet("baseline", "generic", ("neon",)),),
}


def machine() -> str:
    """The kind of this processor, a key of LEVELS or another name."""
    name = os.uname().machine
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name)


def levels() -> tuple[InstructionSet, ...]:
    """The levels of this kind of processor, the best first; none where it is unknown."""
    return LEVELS.get(machine(), ())


def supported(ask: Callable[[], list[int]]) -> list[InstructionSet]:
    """Those of them that this processor has; `ask` gives the words of PROCESSOR."""
    if machine() != "x86_64":
        return list(levels())
    has = features_of(ask())
    return [level for level in levels() if has.issuperset(level.features)]


def features_of(words: list[int]) -> set[str]:
    """The features, by LLVM's names, that the words of PROCESSOR show, as far as levels need them."""
    has = {name for name, (word, bit) in FEATURES.items() if words[word] >> bit & 1}
    saved = words[4]
    if saved & _AVX_SAVED != _AVX_SAVED:
        return has - {"avx", "avx2", "f16c", "fma"}
    return has if saved & _AVX512_SAVED == _AVX512_SAVED else has - {*_V4, *_VNNI}
