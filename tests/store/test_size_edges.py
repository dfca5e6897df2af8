"""Offsets beyond 2^31 and 4 GiB: the right row is read. The files are sparse, so they cost no disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.api.opening import open_store
from mrlstore.catalogue import rows, segments, settings, tail_rows
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.storage.base_part import write_base
from mrlstore.storage.parts import Stream
from mrlstore.system.files import Files
from tests import inside
from tests.oracle import nested_vectors, stored_row

DIM = 8192
_ZEROS = bytes(1 << 20)


class SparseFiles(Files):
    """Leaves holes where zeros are written."""

    def write(self, descriptor: int, data: memoryview) -> int:
        piece = data[: len(_ZEROS)]
        if piece == memoryview(_ZEROS)[: len(piece)]:
            end = os.lseek(descriptor, len(piece), os.SEEK_CUR)
            os.ftruncate(descriptor, end)
            return len(piece)
        return super().write(descriptor, data)


@pytest.mark.parametrize("size", [1 << 31, pytest.param(1 << 32, marks=pytest.mark.torture)])
def test_rows_beyond_the_edge_are_the_right_ones(path: Path, size: int) -> None:
    edge = size // (2 * DIM)  # the first row whose offset does not fit
    n = edge + 50
    places = [0, 1, edge - 2, edge - 1, edge, edge + 1, n - 1]
    vectors = nested_vectors(len(places), DIM)
    unit = {place: stored_row(vector) for place, vector in zip(places, vectors, strict=True)}
    inverse = np.ones(n, dtype=np.float32)
    for place, row in unit.items():
        inverse[place] = 1 / np.linalg.norm(row.astype(np.float32))

    def blocks() -> Iterator[np.ndarray[Any, np.dtype[np.float16]]]:
        for start in range(0, n, 512):
            block = np.zeros((min(512, n - start), DIM), dtype=np.float16)
            for place, row in unit.items():
                if start <= place < start + len(block):
                    block[place - start] = row
            yield block

    files = SparseFiles()
    with open_store(path, dim=DIM, auto_maintain=False, files=files) as store:
        session = inside.session(store)
        keys = np.arange(1000, 1000 + n, dtype=np.int64)
        part = write_base(
            files,
            session.parts,
            session.settings.store_uuid,
            [""] * n,
            [f"r{i}" for i in range(n)],
            {
                "keys": keys,
                "norms": np.ones(n, dtype=np.float32),
                "inv_norms": inverse,
                "row_crcs": np.zeros(n, dtype=np.uint32),  # only verify and repair look at them
                "vectors": Stream(np.dtype(np.float16), (n, DIM), blocks()),
            },
        )
        with session.catalogue.write() as write:
            settings.reserve_keys(write.connection, n + 2000)
            rows.insert(
                write.connection, [rows.Row(int(keys[i]), "", f"r{i}", False, None, None) for i in places]
            )
            segments.add(write.connection, write.generation, SegmentRow(0, write.generation - 1, n, part.ref))
            dead = np.setdiff1d(np.arange(n), places)
            tail_rows.remove(write.connection, write.generation, keys[dead].tolist())
        part.release()
        assert os.stat(session.parts / part.ref.name / "vectors.npy").st_blocks * 512 < 200 << 20, (
            "not sparse"
        )
        for place, vector in zip(places, vectors, strict=True):
            for options in ({"exact": True}, {"dim": 100}, {}):
                hit = store.query(vector, k=1, **options)[0]
                assert hit.id == f"r{place}", (place, options)
                assert hit.score == pytest.approx(1.0, abs=1e-5)
            found: Any = store.get([f"r{place}"], include=("vector",))[0].vector
            assert np.allclose(found, unit[place].astype(np.float32), atol=1e-3)
        assert [hit.id for hit in store.query(id=f"r{edge}", k=1, exact=True)] == [f"r{edge}"]


@pytest.mark.parametrize("indexed", [False, True])
def test_lengths_at_the_edge_of_float32_come_back_finite(opened: Any, indexed: bool) -> None:
    largest = float(np.finfo(np.float32).max)
    given = np.zeros((4, 8))
    given[0, 0], given[1, 1], given[2] = largest, -largest, largest / 3
    beyond = np.array([1, 0.052, 0.095])  # rounding to float16 carries the first beyond what float32 holds
    given[3, :3] = beyond / np.linalg.norm(beyond) * largest * (1 - 1e-9)
    store = opened(dim=8)
    store.upsert(["a", "b", "c", "d"], given)
    if indexed:
        store.optimize()
    for row, record in zip(given, store.get(["a", "b", "c", "d"], include=("vector",)), strict=True):
        assert np.isfinite(record.vector).all()
        np.testing.assert_allclose(record.vector, row, rtol=1e-3)
