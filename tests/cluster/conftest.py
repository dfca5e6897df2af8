"""Folders of the tests of clusters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a place: what is lost there by a power cut is no matter."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="mrlstore-test-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
