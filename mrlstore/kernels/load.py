"""The kernels that the rest of the library calls, made ready at the first use.

They come from a library that was compiled ahead of time for this processor; where none fits, numba compiles
them. MRLSTORE_KERNELS=numba, or the name of a level (see `levels`), chooses, for tests and measurements.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import SimpleNamespace
from typing import Final

from mrlstore.kernels import library
from mrlstore.system import forks

# The modules of this package that hold kernels, and their kernels.
KERNELS: Final = {
    "links": ("insert_rows", "refine", "square_lengths"),
    "reach": ("join_equals", "link_to", "reach", "reverse"),
    "rerank": ("exact", "rerank"),
    "two_stage": ("search_scan", "search_walk"),
    "unit_rows": ("normalise", "unit_halves"),
}
# Hold it while importing a module that needs numba: no fork takes place meanwhile. A child would find the
# interpreter's lock of a module that another thread is importing held for ever.
importing = forks.long_lock()
_loaded: list[SimpleNamespace] = []


def kernels() -> SimpleNamespace:
    """The kernels as attributes, each a `call.Runner`; only here does the library import numba."""
    if not _loaded:
        with importing:
            _loaded[:] = _loaded or [_chosen()]
    return _loaded[0]


def _chosen() -> SimpleNamespace:
    """The kernels that MRLSTORE_KERNELS names, else the best that are ready."""
    name = os.environ.get("MRLSTORE_KERNELS")
    if name == "numba":
        return compiled_now()
    found = library.load(name)
    if found is None and name:
        raise RuntimeError(
            f"MRLSTORE_KERNELS: no library fits {name!r}; see python -m mrlstore.kernels.build"
        )
    return found or compiled_now()


def compiled_now() -> SimpleNamespace:
    """Kernels that numba compiles, or takes from its cache, each at its first use."""
    found = SimpleNamespace()
    for module, names in KERNELS.items():
        for name in names:
            setattr(found, name, getattr(import_module(f"{__package__}.{module}"), name))
    return found
