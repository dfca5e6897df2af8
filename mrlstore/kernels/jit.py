"""Compiles kernels at their first use, each for one explicit signature, without the GIL, and caches them.

The cache folder is chosen for each kernel and never through numba's global settings. Its name holds a hash of
every file of this package, because numba does not notice an edited callee, and of numba's version and
settings. Where no folder is writable, or a cached file is damaged, each process compiles the kernels anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching as numba_caching
from numba.core import config as numba_config

from mrlstore.system import forks
from mrlstore.system.log import LOGGER
from mrlstore.system.private_folder import check_private

from .call import Run, Runner, Signature
from .entry import entry_of
from .library import source_digest

caching: Any = numba_caching  # numba's type hints are partial: treat it as untyped
config: Any = numba_config
njit: Any = numba.njit
VERSION = "2"  # of the cache layout
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
        dispatcher._cache = _Cache(function)
    dispatcher.compile(ENTRY)
    dispatcher.disable_compile()
    return dispatcher


@functools.cache  # once for all kernels
def _report(words: str) -> None:
    LOGGER.debug(words)


@functools.cache
def source_key() -> str:
    """A hash of the modules that kernels are made of, and of what changes the compiled code."""
    numbas = repr((VERSION, numba.__version__, config.BOUNDSCHECK, config.OPT))
    return hashlib.sha256((numbas + source_digest()).encode()).hexdigest()[:16]


def cache_folders() -> list[Path]:
    """Folders for compiled kernels, the preferred one first; all belong to the user or to the package."""
    folders = []
    if os.environ.get("MRLSTORE_CACHE_DIR"):
        folders.append(Path(os.environ["MRLSTORE_CACHE_DIR"]))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folders.append(Path(base) / "mrlstore")
    folders.append(Path(__file__).parent / "__pycache__")
    return [folder / f"kernels-{source_key()}" for folder in folders if folder.is_absolute()]


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Where one kernel is cached: the first folder that can be written."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._function = function
        self._folder = folder

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(self._folder)
        super().ensure_cache_path()

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return source_key()

    def get_disambiguator(self) -> str:
        return str(self._function.__code__.co_firstlineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator | None:
        for folder in cache_folders():
            locator = cls(py_func, folder)
            try:
                locator.ensure_cache_path()
            except OSError as error:
                _report(f"kernels are not cached in {folder}: {error}")
                continue
            return locator
        return None


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file raises: compile anew, over it
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):  # a full disk costs the next process a compilation
            super().save_overload(sig, data)
