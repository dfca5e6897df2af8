"""Where kernels that numba compiled are kept for later processes.

The cache folder is chosen for each kernel and never through numba's global settings. Its name holds a
hash of the modules that kernels are made of, because numba does not notice an edited callee, and of
numba's version and settings. Where no folder is writable, or a cached file is damaged, each process
compiles the kernels anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching as numba_caching
from numba.core import config as numba_config
from numba.core.registry import cpu_target

from mrlstore.system.log import LOGGER
from mrlstore.system.private_folder import check_private

from .library import source_digest

caching: Any = numba_caching  # numba's type hints are partial: treat it as untyped
config: Any = numba_config
VERSION = "2"  # of the cache layout
# A folder of last resort, which the process removes that made it.
temporary: list[Path] = []


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
    folders += temporary
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


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """The cache of one kernel, as numba's dispatchers use it; no error of it is an error of the kernel."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel; None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file raises: compile anew, over it
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, if that is possible."""
        with contextlib.suppress(Exception):  # a full disk costs the next process a compilation
            super().save_overload(sig, data)


def is_full() -> bool:
    """Whether all kernels lie in a cache, compiled for this processor."""
    return any((folder / _mark()).exists() for folder in cache_folders())


@contextlib.contextmanager
def filling() -> Iterator[Path | None]:
    """While a process compiles all kernels into the cache: others wait, and then find them there.

    Gives the folder; None where none can be written. If the body raises nothing, the cache is full then.
    """
    locator = _Locator.from_function(filling, "")
    if locator is None:
        yield None
        return
    folder = Path(locator.get_cache_path())
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        (folder / _mark()).touch()


def _mark() -> str:
    """The name of the file that says so; processors share a folder where homes are on a network."""
    words = repr(cpu_target.target_context.codegen().magic_tuple())
    return f"full-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
