"""What is slow to build is built once for a test run, by whichever worker needs it first."""

from __future__ import annotations

import fcntl
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Shared:
    """A folder that all workers of a test run share. What lies there is copied, never opened or changed."""

    def __init__(self, factory: pytest.TempPathFactory, config: pytest.Config) -> None:
        base = factory.getbasetemp()  # of a worker of pytest-xdist: a folder inside that of the run
        self._folder = (base.parent if hasattr(config, "workerinput") else base) / "shared"
        self._folder.mkdir(exist_ok=True)

    def store(self, name: str, target: Path, build: Callable[[Path], object]) -> Path:
        """A copy, at `target`, of the closed store that `build` makes at a path that it is given."""
        shutil.copytree(self._once(name, build), target)
        return target

    def value(self, name: str, make: Callable[[], Any]) -> Any:
        """A copy of the value that `make` gives."""

        def build(path: Path) -> None:
            path.write_bytes(pickle.dumps(make()))

        return pickle.loads(self._once(name, build).read_bytes())

    def _once(self, name: str, build: Callable[[Path], object]) -> Path:
        done, begun = self._folder / name, self._folder / f"{name}.begun"
        with open(self._folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                if begun.exists():
                    shutil.rmtree(begun)  # of a build that failed
                build(begun)
                begun.rename(done)
        return done
