"""What a reader pays for rows that others have written: it reads those alone, whatever the tail holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue import tail_rows
from mrlstore.index import codes
from mrlstore.system import products
from tests import inside
from tests.nested import nested


def test_new_rows_of_the_tail_are_found_by_their_generation(tmp_path: Path) -> None:
    """SQLite would else read every vector of the tail, in the order of the keys."""
    with mrlstore.open(tmp_path / "s.mrl", dim=64, auto_maintain=False) as store:
        for start in range(0, 300, 100):
            store.upsert([str(start + i) for i in range(100)], nested(100, 64, seed=start))
        session = inside.session(store)
        with session.catalogue.read() as connection:
            steps = [
                str(step) for step in connection.execute(f"EXPLAIN QUERY PLAN {tail_rows.SINCE}", (2, 0))
            ]
            assert any("tail_by_gen" in step for step in steps) and not any("SCAN" in step for step in steps)
            found = tail_rows.since(connection, session.snapshots.latest().generation - 1)
        assert [row.id for row in found] == [str(i) for i in range(200, 300)]
        assert [row.key for row in found] == sorted(row.key for row in found)


def test_few_rows_are_rotated_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel, to the numbers that a product of matrices gives."""
    rows = nested(2_000, 256)
    rotation = codes.choose_rotation(rows.astype(np.float16), 256)
    assert rotation is not None
    calls: list[int] = []

    def watched(a: Any, b: Any) -> Any:
        calls.append(len(a))
        return products.product(a, b)

    monkeypatch.setattr(codes, "product", watched)
    prefixes, usable = codes.unit_prefixes(rows[:7], 256)
    few = codes.encode(prefixes, usable, rotation)
    assert calls == []
    many, all_usable = codes.unit_prefixes(rows, 256)
    whole = codes.encode(many, all_usable, rotation)[:7]
    assert calls == [2_000]
    assert np.abs(few[:, 4:].astype(int) - whole[:, 4:]).max() <= 1
    np.testing.assert_allclose(
        few[:, :4].copy().view(np.float32), whole[:, :4].copy().view(np.float32), rtol=1e-5
    )
