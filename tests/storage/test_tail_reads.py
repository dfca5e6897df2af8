"""What a reader pays for rows that others have written: it reads those alone, whatever the tail holds."""

from __future__ import annotations

from pathlib import Path

import mrlstore
from mrlstore.catalogue import tail_rows
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
