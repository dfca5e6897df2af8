"""Searches while no machine code is ready: by numpy, until kernels have been compiled into the cache.

A child process compiles them, because numba would hold Python's lock for most of half a minute. A thread
waits for it, loads what it has compiled, and puts that in the place of numpy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mrlstore.system.log import LOGGER

from . import plain
from .call import Kernels

COMPILING: Final = (
    "no machine code fits this processor: searches are exact, by numpy, while a child process compiles the "
    "kernels, once for each user and version. `mrlstore warm` does it beforehand. They are kept in a cache: "
    "MRLSTORE_CACHE_DIR names a folder for it, else ~/.cache/mrlstore"
)


class Meanwhile(Kernels):
    """The kernels of exact searches, in numpy. Whoever asks for another one waits until it is compiled."""

    compiled = False

    def __init__(self, load: Callable[[], Kernels], done: Callable[[Kernels], None]) -> None:
        """`load` gives the compiled kernels, `done` is told of them once they are ready."""
        super().__init__(normalise=plain.normalise, unit_halves=plain.unit_halves, exact=plain.exact)
        self.process = os.getpid()
        self.load, self.done, self._result = load, done, Kernels()
        self._thread = threading.Thread(target=self._run, name="mrlstore-kernels", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.wait(), name)

    def wait(self) -> Kernels:
        """The compiled kernels; where the child has failed each compiles here, at its first use."""
        if self.process == os.getpid():  # else the thread is one of the process that this was forked from
            self._thread.join()
        return self._result if vars(self._result) else self.load()

    def _run(self) -> None:
        """Have the kernels compiled unless they are in the cache, and load them."""
        from . import code_cache

        made: list[Path] = []
        try:
            if not code_cache.is_full():
                LOGGER.warning(COMPILING)
                made.append(Path(tempfile.mkdtemp(prefix="mrlstore-kernels-")))
                code_cache.temporary[:] = made
                compile_in_child(made[0])
            found = self.load()
            for kernel in vars(found).values():
                kernel.ready()
            self._result = found
            self.done(found)
        except (OSError, subprocess.SubprocessError) as error:
            LOGGER.warning("the kernels were not compiled, searches stay with numpy: %s", error)
        finally:
            for folder in made:
                shutil.rmtree(folder, ignore_errors=True)


def compile_in_child(folder: Path) -> None:
    """Compile all kernels into the cache, or into this folder where no other one can be written."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "mrlstore.kernels.prepare", str(folder)],
        env={**os.environ, "PYTHONPATH": path, "MRLSTORE_KERNELS": "numba"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # Ctrl-C ends this process; the child goes on for the next one
    )
    if done.returncode != 0:
        raise subprocess.SubprocessError(done.stderr.strip()[-1000:])
