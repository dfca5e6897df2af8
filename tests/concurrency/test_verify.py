"""verify() and repair() while others merge: what was only replaced is not taken for damage."""

from __future__ import annotations

from typing import Any

import pytest

from mrlstore.maintenance import verify
from tests.oracle import nested_vectors

DIM = 8
VECTORS = nested_vectors(4_300, DIM)


@pytest.mark.parametrize("step", ["_bytes_of", "_base_problems", "check_part"])
@pytest.mark.parametrize("call", ["verify", "repair"])
def test_parts_that_are_merged_away_meanwhile(
    opened: Any, monkeypatch: pytest.MonkeyPatch, call: str, step: str
) -> None:
    store, other = opened(dim=DIM), opened()
    store.upsert([f"r{i}" for i in range(4_200)], VECTORS[:4_200])
    store.optimize()
    real, turns = getattr(verify, step), []

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(verify, step, real)
        turns.append(step)
        other.upsert([f"r{i}" for i in range(1_000)], VECTORS[100:1_100])
        if call == "verify":
            other.optimize()
        return real(*arguments)

    monkeypatch.setattr(verify, step, overtaken)
    found = getattr(store, call)()
    assert turns
    assert found.ok, found
    assert len(store) == 4_200
