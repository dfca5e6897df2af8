"""The kernels that the rest of the library calls, made ready at the first use.

They come from a library that was compiled ahead of time for this processor. Where none fits, numba compiles
them, and until it has, numpy answers searches. MRLSTORE_KERNELS=numba, or the name of a level (see `levels`),
chooses and waits, for tests and measurements.
"""

from __future__ import annotations

import os
from importlib import import_module

from mrlstore.kernels import library
from mrlstore.kernels.call import Kernels
from mrlstore.kernels.contents import KERNELS
from mrlstore.system.late import importing

loaded: list[Kernels] = []


def kernels() -> Kernels:
    """The kernels as attributes, each a `call.Runner`; only here does the library import numba."""
    if not loaded or not loaded[0].compiled:
        with importing:
            if not loaded or _orphaned(loaded[0]):
                loaded[:] = [chosen()]
    return loaded[0]


def warm() -> None:
    """Wait until the kernels of searches are machine code."""
    found = kernels()
    if not found.compiled:
        found = found.wait()
    for name in ("search_walk", "search_scan", "search_groups", "rerank", "exact", "normalise"):
        getattr(found, name).ready()


def compiled_now() -> Kernels:
    """Kernels that numba compiles, or takes from its cache, each at its first use."""
    found = Kernels()
    with importing:
        for module, names in KERNELS.items():
            for name in names:
                setattr(found, name, getattr(import_module(f"{__package__}.{module}"), name))
    return found


def chosen() -> Kernels:
    """The kernels that MRLSTORE_KERNELS names, else the best that are ready."""
    name = os.environ.get("MRLSTORE_KERNELS")
    if name == "numba":
        return compiled_now()
    found = library.load(name)
    if found is not None:
        return found
    if name:
        raise RuntimeError(
            f"MRLSTORE_KERNELS: no library fits {name!r}; see python -m mrlstore.kernels.build"
        )
    from mrlstore.kernels.meanwhile import Meanwhile  # seldom needed, and slow: it starts processes

    return Meanwhile(compiled_now, become)


def become(found: Kernels) -> None:
    """Take these from now on."""
    loaded[:] = [found]


def _orphaned(found: Kernels) -> bool:
    """Whether they wait for a thread that this process, forked since, does not have."""
    return not found.compiled and bool(found.process != os.getpid())
