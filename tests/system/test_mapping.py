"""Maps without descriptors."""

from __future__ import annotations

import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mrlstore.system.mapping import map_file

linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")


@pytest.mark.parametrize("size", [1, 100, mmap.PAGESIZE, 3 * mmap.PAGESIZE + 7])
def test_it_holds_the_bytes_of_the_file(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "f", np.random.default_rng(size).bytes(size + 10)
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    mapped = map_file(descriptor, size)
    os.close(descriptor)
    assert bytes(mapped) == data[:size]
    with pytest.raises(TypeError):
        mapped[0] = 1
    path.unlink()
    assert bytes(mapped) == data[:size], "a file without a name is still mapped"


@linux
def test_it_needs_no_descriptor_and_goes_with_its_object(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10_000)
    descriptor = os.open(path, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    maps = [map_file(descriptor, 10_000) for _ in range(50)]
    views = [np.frombuffer(mapped, np.uint8) for mapped in maps]
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(descriptor)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(path))

    assert mapped() >= 1
    del maps
    gc.collect()
    assert mapped() >= 1 and views[49][9_999] == ord("x"), "an array keeps its map"
    del views
    gc.collect()
    assert mapped() == 0


def test_advice_reaches_it(tmp_path: Path) -> None:
    if not hasattr(mmap, "MADV_RANDOM"):
        pytest.skip("this system has no MADV_RANDOM")
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10_000)
    with open(path, "rb") as file:
        mapped = map_file(file.fileno(), 10_000)
    mapped.madvise(mmap.MADV_RANDOM)
    mapped.madvise(mmap.MADV_WILLNEED, 0, mmap.PAGESIZE)
    assert mapped[9_999] == ord("x")


def test_a_descriptor_that_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError):
            map_file(reading, 100)
    finally:
        os.close(reading)
        os.close(writing)
