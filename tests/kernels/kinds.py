"""Kernels of tests, compiled by numba at their first use or ahead of time, as MRLSTORE_KERNELS says.

So the tests of this folder run on both kinds, and on every level that this processor has: `test_levels`.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrlstore.kernels import build, jit
from mrlstore.kernels.call import Run, Runner
from mrlstore.kernels.levels import levels

PREFIX = "test_"
MODULES = ("tests.kernels.test_dot", "tests.kernels.test_scan", "tests.kernels.test_topk")
made: dict[str, jit.Kernel] = {}  # by name


def kernel(signature: str) -> Callable[[Callable[..., Any]], Runner]:
    """As jit.kernel."""

    def decorate(function: Callable[..., Any]) -> Runner:
        made[function.__name__] = jit.kernel(signature)(function)
        if os.environ.get("MRLSTORE_KERNELS", "numba") == "numba":
            return made[function.__name__]
        return _Ahead(function.__name__)

    return decorate


class _Ahead(Runner):
    """A kernel in the library that holds those of all tests, which the first of them builds."""

    def __init__(self, name: str) -> None:
        super().__init__(made[name].signature, None)
        self.name = name

    def ready(self) -> Run:
        if self._run is None:
            run = getattr(_library(), PREFIX + self.name)
            run.argtypes, run.restype = (ctypes.c_void_p,), None
            self._run = run
        return self._run


_opened: list[ctypes.CDLL] = []


def _library() -> ctypes.CDLL:
    if not _opened:
        (level,) = (one for one in levels() if one.name == os.environ["MRLSTORE_KERNELS"])
        with tempfile.TemporaryDirectory() as folder:
            compiled, linked = Path(folder) / "tests.o", Path(folder) / "tests.so"
            command = [sys.executable, "-m", "tests.kernels.kinds", str(compiled)]
            environment = build.environment_for(level, MRLSTORE_KERNELS="numba")
            subprocess.run(command, check=True, env=environment, timeout=300)
            build.link(compiled, linked)
            _opened.append(ctypes.CDLL(str(linked)))
    return _opened[0]


def _write_object(path: Path) -> None:
    from mrlstore.kernels.objects import object_code

    kinds = importlib.import_module("tests.kernels.kinds")  # this module, under the name that tests import
    for module in MODULES:
        importlib.import_module(module)
    path.write_bytes(object_code(kinds.made, PREFIX, processor=False))


if __name__ == "__main__":
    _write_object(Path(sys.argv[1]))
