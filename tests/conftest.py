"""What all tests share: stores that are closed and checked after use, and hypothesis' settings.

Every store opened through `opened` is verified once the test is over, as a file system would be checked.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from mrlstore.kernels.library import load as machine_code
from tests.shared import Shared

if machine_code() is None:  # no linker, or kernels that were edited since: not numpy, which answers meanwhile
    os.environ.setdefault("MRLSTORE_KERNELS", "numba")

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.register_profile("torture", settings.get_profile("default"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

Opened = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's store goes; nothing is there yet."""
    return tmp_path / "store.mrl"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Open stores that are closed after the test, and whose folders are then verified."""
    import mrlstore

    stores: list[Any] = []

    def open_one(where: Path | str = path, **options: Any) -> Any:
        options.setdefault("auto_maintain", False)
        store = mrlstore.open(where, **options)
        stores.append((store, Path(where)))
        return store

    yield open_one
    for store, _ in stores:
        store.close()
    for folder in {folder for _, folder in stores if (folder / "catalogue.db").exists()}:
        with mrlstore.open(folder, mode="r") as store:
            report = store.verify()
        assert report.ok, f"after the test, {folder} is damaged: {report.problems}"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Shared:
    """Stores and values that are built once for a test run, for all its workers."""
    return Shared(tmp_path_factory, pytestconfig)


@pytest.fixture
def store(opened: Opened) -> Any:
    """An empty store, dim 8, without background work."""
    return opened(dim=8)


@pytest.fixture(scope="session")
def library(
    tmp_path_factory: pytest.TempPathFactory, shared: Shared
) -> Iterator[Callable[[str], tuple[Any, Any]]]:
    """Stores for tests that only read: `library(layout)` gives (store, oracle), opened once a worker."""
    import mrlstore
    from tests.layouts import make_layout

    made: dict[str, tuple[Any, Any]] = {}

    def build(layout: str, path: Path) -> None:
        path.mkdir()
        store, oracle = make_layout(layout, path / "store.mrl")
        store.close()
        (path / "oracle").write_bytes(pickle.dumps(oracle))

    def get(layout: str) -> tuple[Any, Any]:
        if layout not in made:
            folder = shared.store(
                layout, tmp_path_factory.mktemp(layout) / "copy", functools.partial(build, layout)
            )
            store = mrlstore.open(folder / "store.mrl", auto_maintain=False)
            made[layout] = store, pickle.loads((folder / "oracle").read_bytes())
        return made[layout]

    yield get
    for store, _ in made.values():
        store.close()


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a place: what a power cut would do there is no matter."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="mrlstore-test-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
