"""Compiles the kernels ahead of time: `python -m mrlstore.kernels.build`.

It makes one shared library for each level, in a process of its own, in which numba compiles for that level.
It needs numba, a linker (cc or ld) and nm. The wheel is built with the libraries.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .contents import KERNELS
from .levels import InstructionSet, levels, machine, supported
from .library import FOLDER, MANIFEST, PREFIX, Manifest, ask_processor, manifest, processor, source_digest
from .load import compiled_now

if TYPE_CHECKING:
    from .jit import Kernel

AT_ONCE: Final = 2  # processes that compile, each of which takes 300 MB
# Functions of C's library that LLVM calls for moves of memory; every process has them.
FROM_C: Final = frozenset(("memcpy", "memmove", "memset"))


class CannotBuild(Exception):
    """What is missing, or what is wrong with what was built."""


def build(wanted: Sequence[InstructionSet] | None = None, folder: Path = FOLDER) -> list[str]:
    """Make the libraries of these levels, or of all, unless they lie ready; gives the names of new ones.

    The lowest level is always made, because its library has the function that asks the processor. CannotBuild
    is raised where a tool is missing, the processor is of an unknown kind, or a library is not as it must be.
    """
    if not levels():
        raise CannotBuild(f"processors of the kind {machine()} are not known")
    found = manifest(folder)
    checksums = {} if found is None else dict(found.libraries)
    chosen = {*(levels() if wanted is None else wanted), levels()[-1]}
    missing = [level for level in levels() if level in chosen and level.name not in checksums]
    if not missing:
        return []
    _linker()
    folder.mkdir(exist_ok=True)
    print(f"compiling the kernels for {', '.join(level.name for level in missing)}", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda level: _make(level, Path(work)), missing))
        for level in missing:
            made = Path(work) / f"{level.name}.so"
            checksums[level.name] = hashlib.sha256(made.read_bytes()).hexdigest()
            os.replace(made, folder / made.name)
        signatures = {name: kernel.signature.text for name, kernel in kernels_by_name().items()}
        new = Manifest(machine(), source_digest(), signatures, checksums)
        (Path(work) / MANIFEST).write_text(json.dumps(new._asdict(), indent=1))
        os.replace(Path(work) / MANIFEST, folder / MANIFEST)
    for old in folder.glob("*.so"):
        if old.stem not in checksums:
            old.unlink()
    return [level.name for level in missing]


def supported_here() -> list[InstructionSet]:
    """The levels that this processor has."""
    found = manifest()
    if found is not None:
        return supported(lambda: processor(found))
    from .objects import object_code

    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder) / "processor.o", Path(folder) / "processor.so"

        def ask() -> list[int]:
            compiled.write_bytes(object_code({}, PREFIX, processor=True))
            link(compiled, linked)
            return ask_processor(ctypes.CDLL(str(linked)))

        return supported(ask)


def kernels_by_name() -> dict[str, Kernel]:
    """All kernels of the library."""
    found = vars(compiled_now())
    return {name: found[name] for names in KERNELS.values() for name in names}


def environment_for(level: InstructionSet, **more: str) -> dict[str, str]:
    """The environment of a process in which numba compiles for a level, and imports this package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    path = [str(FOLDER.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "NUMBA_CPU_NAME": level.cpu,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in level.features),
        "PYTHONPATH": os.pathsep.join(path),
        **more,
    }


def link(object_file: Path, library: Path) -> None:
    """Link one object file to a shared library; CannotBuild if it needs functions that are not FROM_C."""
    linker = _linker()
    _run([linker, *_flags(linker), "-o", str(library), str(object_file)])
    command = ["nm", "-u"] if sys.platform == "darwin" else ["nm", "-D", "-u"]
    listed = _run([*command, str(library)]).split("\n")
    missing = {line.split()[-1].lstrip("_").partition("@")[0] for line in listed if line.strip()} - FROM_C
    if missing:
        raise CannotBuild(f"{library.name} needs {', '.join(sorted(missing))}")


def _make(level: InstructionSet, work: Path) -> None:
    """Compile and link one level, in a process that compiles for it."""
    compiled = work / f"{level.name}.o"
    command = [sys.executable, "-m", "mrlstore.kernels.build", "--object", str(compiled)]
    _run([*command, "--levels", level.name], environment_for(level))
    link(compiled, work / f"{level.name}.so")


def _write_object(level: str, path: Path) -> None:
    """In the process of one level: its object file."""
    from .objects import object_code

    baseline = machine() == "x86_64" and level == levels()[-1].name
    path.write_bytes(object_code(kernels_by_name(), PREFIX, processor=baseline))


def _linker() -> str:
    for name in ("cc", "gcc", "clang", "ld"):
        if shutil.which(name) and shutil.which("nm"):
            return name
    raise CannotBuild("no linker is found (cc or ld, and nm: Debian, Ubuntu: apt-get install binutils)")


def _flags(linker: str) -> list[str]:
    """Options for a library that needs no other one."""
    if sys.platform == "darwin":
        return ["-shared", "-undefined", "dynamic_lookup"]
    to_linker = ["-z", "noexecstack", "--gc-sections", "-s"]
    return (
        ["-shared", *to_linker] if linker == "ld" else ["-shared", "-nostdlib", f"-Wl,{','.join(to_linker)}"]
    )


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(
            f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
    return done.stdout


def main() -> int:
    """The command; without --strict it gives 0 where nothing can be built: numba then compiles later."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", nargs="*", choices=[level.name for level in levels()], help="not all")
    parser.add_argument("--supported", action="store_true", help="the levels that this processor has")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where nothing can be built")
    parser.add_argument("--object", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.object is not None:
        _write_object(options.levels[0], options.object)
        return 0
    started = time.monotonic()
    try:
        wanted = [one for one in levels() if options.levels is None or one.name in options.levels]
        if options.supported:
            wanted = supported_here()
        made = build(wanted)
    except CannotBuild as error:
        print(f"the kernels are not compiled ahead of time: {error}", file=sys.stderr)
        return int(options.strict)
    if made:
        print(f"compiled the kernels for {', '.join(made)} in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
