"""Kernels that were compiled ahead of time: shared libraries in this package, one for each level.

`build` makes them, with a manifest. They are used only if they were made from the sources that lie beside
them, and if their checksums fit: to load a file that is cut short would end the process. Neither numba nor
llvmlite is imported.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path
from typing import Final, NamedTuple

from mrlstore.system.log import LOGGER

from .call import Kernels, Runner, Signature
from .levels import PROCESSOR, WORDS, machine, supported

FOLDER: Final = Path(__file__).parent / "machine_code"
MANIFEST: Final = "manifest.json"
PREFIX: Final = "mrlstore_"  # of the name of each function
# Modules that look for machine code and run it, or have it made.
_NOT_COMPILED: Final = frozenset(
    f"{name}.py"
    for name in ("__init__", "build", "code_cache", "library", "load", "meanwhile", "plain", "prepare")
)


class Manifest(NamedTuple):
    """What lies in FOLDER."""

    machine: str  # see levels.machine
    sources: str  # see source_digest
    kernels: dict[str, str]  # the signature of each
    libraries: dict[str, str]  # by name of the level, the SHA-256 of its file


def source_digest() -> str:
    """A hash of the modules of this package that machine code is made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in _NOT_COMPILED:
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def manifest(folder: Path = FOLDER) -> Manifest | None:
    """What lies in the folder; None if it was made from other sources, or for another kind of processor."""
    try:
        found = Manifest(**json.loads((folder / MANIFEST).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        LOGGER.warning("%s is not read: %s", folder / MANIFEST, error)
        return None
    return found if found.machine == machine() and found.sources == source_digest() else None


def load(level: str | None = None, folder: Path = FOLDER) -> Kernels | None:
    """The kernels as attributes: of the best level that this processor has, or of the level named.

    None where no library lies ready that can be used.
    """
    found = manifest(folder)
    if found is None:
        return None
    for name in levels_of(found, folder) if level is None else [level]:
        library = _open(folder, name, found)
        if library is not None:
            return _kernels(library, found)
    return None


def levels_of(found: Manifest, folder: Path = FOLDER) -> list[str]:
    """The levels that libraries lie ready for and that this processor has, the best first."""
    return [one.name for one in supported(lambda: processor(found, folder)) if one.name in found.libraries]


def _kernels(library: ctypes.CDLL, found: Manifest) -> Kernels:
    made = Kernels()
    for name, signature in found.kernels.items():
        run = getattr(library, PREFIX + name)
        run.argtypes, run.restype = (ctypes.c_void_p,), None
        setattr(made, name, Runner(Signature(signature), run))
    return made


def processor(found: Manifest, folder: Path = FOLDER) -> list[int]:
    """What the processor says of itself, see levels.PROCESSOR; zeros without a baseline library."""
    library = _open(folder, "baseline", found)
    return [0] * WORDS if library is None else ask_processor(library)


def ask_processor(library: ctypes.CDLL) -> list[int]:
    """What the function PROCESSOR of a library writes."""
    words = (ctypes.c_uint64 * WORDS)()
    ask = getattr(library, PROCESSOR)
    ask.argtypes, ask.restype = (ctypes.c_void_p,), None
    ask(ctypes.addressof(words))
    return list(words)


def _open(folder: Path, level: str, found: Manifest) -> ctypes.CDLL | None:
    """The library of a level; None, which is logged, where its file is missing or damaged."""
    path = folder / f"{level}.so"
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != found.libraries[level]:
            raise OSError("its checksum is another one")
        return ctypes.CDLL(str(path))
    except (OSError, KeyError) as error:
        LOGGER.warning("%s is not loaded: %s", path, error)
        return None
