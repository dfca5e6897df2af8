"""Calls of kernels: machine code that takes one address, that of a block of memory with all arguments.

A block is a row of numbers of 8 bytes: first the results, then the arguments. An integer is an int64, a
float a float64 (the kernel narrows it where its signature says float32), an array its address and the length
of each of its dimensions. Code that was compiled ahead of time and code that numba compiled now are called
alike. For a call that is made often the block is filled once, see `Runner.bound`.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np

Run = Callable[[int], object]  # runs a kernel, given the address of its block
_SIGNATURE: Final = re.compile(r"(?P<result>UniTuple\(\w+, \d+\)|\w+)\((?P<arguments>.*)\)")
_SEVERAL: Final = re.compile(r"UniTuple\((?P<name>\w+), (?P<count>\d+)\)")
_ARRAY: Final = re.compile(r"(\w+)\[([:, 1]*)\]")
_FLOATS: Final = ("float32", "float64")


class Argument(NamedTuple):
    """The type of one argument or result."""

    name: str  # of an array, that of its numbers
    dimensions: int  # of an array; 0 for a number
    dtype: np.dtype[Any] | None  # of an array


class Signature:
    """The types of a kernel, from numba's words for them: `int64(float32[:, ::1], int64)`.

    Arrays are C-contiguous. Results are none (void), one number, or a few of one type (UniTuple).
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        outer = _SIGNATURE.fullmatch(self.text)
        if outer is None:
            raise ValueError(f"not the signature of a kernel: {self.text}")
        several = _SEVERAL.fullmatch(outer["result"])
        self.results: list[str] = [] if outer["result"] == "void" else [outer["result"]]
        if several:
            self.results = [several["name"]] * int(several["count"])
        parts = re.findall(r"\w+(?:\[[^]]*\])?", outer["arguments"])
        self.arguments = [_argument(part) for part in parts]

    @cached_property
    def block(self) -> struct.Struct:
        """How a block is packed."""
        words = "".join(map(_code, self.results))
        for one in self.arguments:
            words += "q" * (1 + one.dimensions) if one.dimensions else _code(one.name)
        return struct.Struct("=" + words)

    @cached_property
    def answer(self) -> struct.Struct:
        """How the results in a block are read."""
        return struct.Struct("=" + "".join(map(_code, self.results)))

    def pack(self, arguments: tuple[Any, ...]) -> ctypes.Array[ctypes.c_char]:
        """A new block with these arguments; TypeError where they do not have the types of the kernel."""
        numbers: list[Any] = [0] * len(self.results)
        if len(arguments) != len(self.arguments):
            raise TypeError(f"expected {len(self.arguments)} arguments, got {len(arguments)}: {self.text}")
        for value, (name, dimensions, dtype) in zip(arguments, self.arguments, strict=True):
            if dimensions == 0:
                numbers.append(value)
            elif (
                isinstance(value, np.ndarray)
                and value.dtype == dtype
                and value.ndim == dimensions
                and value.flags.c_contiguous
            ):
                numbers += value.__array_interface__["data"][0], *value.shape
            else:
                raise TypeError(f"expected {name} with {dimensions} dimensions, C-contiguous: {self.text}")
        block = ctypes.create_string_buffer(self.block.size or 8)
        try:
            self.block.pack_into(block, 0, *numbers)
        except struct.error as error:
            raise TypeError(f"{error}: {self.text}") from None
        return block

    def result(self, block: ctypes.Array[ctypes.c_char]) -> Any:
        """What a kernel wrote into its block: nothing, a number, or a tuple of them."""
        numbers = self.answer.unpack_from(block)
        if self.results == ["boolean"]:
            return bool(numbers[0])
        return numbers if len(numbers) > 1 else numbers[0] if numbers else None


class Runner:
    """A kernel that can be run, whoever compiled it."""

    def __init__(self, signature: Signature, run: Run | None) -> None:
        self.signature = signature
        self._run = run

    def ready(self) -> Run:
        """The machine code."""
        assert self._run is not None
        return self._run

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel; TypeError where the arguments do not have its types."""
        block = self.signature.pack(arguments)
        self.ready()(ctypes.addressof(block))
        return self.signature.result(block)

    def bound(self, *arguments: Any) -> Callable[[], object]:
        """A function that runs the kernel on these arguments, which it keeps.

        It may be called any number of times, but not by two threads at once. It gives no results: such a
        kernel writes what matters into its arguments.
        """
        block = self.signature.pack(arguments)
        run = partial(self.ready(), ctypes.addressof(block))
        run.kept = block, arguments  # type: ignore[attr-defined]
        return run


class Kernels(SimpleNamespace):
    """The kernels of the library as attributes, each a Runner."""

    compiled = True  # whether all kernels are there, and may be bound to their arguments


def _argument(text: str) -> Argument:
    array = _ARRAY.fullmatch(text)
    if array is None:
        return Argument(text, 0, None)
    return Argument(array[1], array[2].count(":") - 1, np.dtype(array[1]))


def _code(name: str) -> str:
    return "d" if name in _FLOATS else "q"
