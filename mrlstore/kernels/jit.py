"""Compiles kernels by numba at their first use, each for one explicit signature, without the GIL."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numba

from mrlstore.system import forks

from .call import Run, Runner, Signature
from .code_cache import KernelCache
from .entry import entry_of

njit: Any = numba.njit  # numba's type hints are partial: treat it as untyped
ENTRY = "void(int64)"  # of the entry of each kernel, for numba
# Without numba's runtime: kernels that allocate memory do not compile, so that all can be compiled ahead of
# time.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
_LOCK = forks.long_lock()


def device(function: Callable[..., Any]) -> Any:
    """A function that only kernels call; it is compiled into each of them."""
    return njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def kernel(signature: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Mark a function as a kernel with one signature, for instance `"int64(int64, int64)"`."""
    return functools.partial(Kernel, signature)


class Kernel(Runner):
    """A kernel that numba compiles, or loads from the cache, at its first use."""

    def __init__(self, signature: str, function: Callable[..., Any]) -> None:
        super().__init__(Signature(signature), None)
        self.function = function

    def ready(self) -> Run:
        """The compiled dispatcher."""
        if self._run is None:
            with _LOCK:
                if self._run is None:
                    self._run = _compile(self.function, self.signature)
        return self._run


def dispatcher_of(function: Callable[..., Any], signature: Signature, **options: bool) -> Any:
    """Numba's dispatcher for the entry of a kernel, not compiled yet."""
    return njit(**_OPTIONS, **options)(entry_of(function, signature, device(function)))


def _compile(function: Callable[..., Any], signature: Signature) -> Any:
    """Compile for one signature only: two signatures in one cache file can poison it for later processes."""
    dispatcher = dispatcher_of(function, signature)
    with contextlib.suppress(OSError, RuntimeError):  # no writable folder: go on without a cache
        dispatcher._cache = KernelCache(function)
    dispatcher.compile(ENTRY)
    dispatcher.disable_compile()
    return dispatcher
