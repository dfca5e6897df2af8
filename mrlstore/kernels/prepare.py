"""Compiles all kernels into the cache beforehand, unless machine code lies ready: `mrlstore warm`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from . import library
from .load import compiled_now


class Prepared(NamedTuple):
    """What a later process will find."""

    level: str | None  # of the library in the package
    folder: Path | None  # where numba has cached the kernels; None too where no folder can be written


def prepare() -> Prepared:
    """Compile the kernels in this process, for half a minute; nothing where they lie ready.

    With MRLSTORE_KERNELS=numba the libraries of the package are not looked at.
    """
    found = library.manifest() if os.environ.get("MRLSTORE_KERNELS") != "numba" else None
    if found is not None and library.load() is not None:
        return Prepared(library.levels_of(found)[0], None)
    from . import code_cache

    with code_cache.filling() as folder:
        for kernel in vars(compiled_now()).values():
            kernel.ready()
    return Prepared(None, folder)


def main() -> int:
    """The child of `meanwhile`; its argument is a folder for the case that no cache can be written."""
    from . import code_cache

    code_cache.temporary[:] = [Path(sys.argv[1])]
    return 0 if prepare().folder is not None else 1


if __name__ == "__main__":
    sys.exit(main())
