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

caching: Any = numba_caching  # numba's type hints are partial: treat it as untyped
config: Any = numba_config
VERSION = "1"  # of the cache layout
_LOCK = forks.long_lock()


def device(function: Callable[..., Any]) -> Any:
    """A function that only kernels call; it is compiled into each of them."""
    return numba.njit(nogil=True, error_model="numpy", cache=False)(function)


def kernel(signature: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Mark a function as a kernel with one signature, for instance `"int64(int64, int64)"`."""
    return functools.partial(Kernel, signature)


class Kernel:
    """A kernel that compiles, or loads from the cache, at its first use."""

    def __init__(self, signature: str, function: Callable[..., Any]) -> None:
        self.signature = signature
        self.function = function
        self._ready: Any = None

    def ready(self) -> Any:
        """The compiled dispatcher; hot callers keep it, to save a Python call each time."""
        if self._ready is None:
            with _LOCK:
                if self._ready is None:
                    self._ready = _compile(self.function, self.signature)
        return self._ready

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel, compiling or loading it first where that was not done yet."""
        return self.ready()(*arguments)


def _compile(function: Callable[..., Any], signature: str) -> Any:
    """Compile for one signature only: two signatures in one cache file can poison it for later processes."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(OSError, RuntimeError):  # no writable folder: go on without a cache
        dispatcher._cache = _Cache(function)
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


@functools.cache  # once for all kernels
def _report(words: str) -> None:
    LOGGER.debug(words)


@functools.cache
def source_key() -> str:
    """A hash of all files of this package and of what changes the compiled code."""
    digest = hashlib.sha256(repr((VERSION, numba.__version__, config.BOUNDSCHECK, config.OPT)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


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
