"""One id twice in a file: which row stays, and what is counted, is the same for every size of batch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mrlstore.exchange import import_rows
from mrlstore.types import Conflict

Opened = Callable[..., Any]

# A bad vector ends neither the rows of its id before it nor those behind it.
ROWS: list[dict[str, Any]] = [
    {"id": "a", "n": 0, "vector": [1, 0, 0]},
    {"id": "b", "n": 1, "vector": [0, 0, 0]},
    {"id": "a", "n": 2, "vector": [0, 1, 0]},
    {"id": "b", "n": 3, "vector": [0, 1, 1]},
    {"id": "c", "n": 4, "namespace": "other", "vector": [1, 1, 1]},
    {"id": "b", "n": 5, "vector": [0, 2, 1]},
    {"id": "a", "n": 6, "vector": [0, 1]},
    {"id": "c", "n": 7, "namespace": "other"},
    {"id": "c", "n": 8, "vector": [1, 1, 2]},
]


class Outcome(NamedTuple):
    counts: tuple[int, int, int]
    refused: list[str]
    stays: dict[tuple[str, str], int]


def outcome(store: Any, on_conflict: Conflict, batch: int) -> Outcome:
    text = "\n".join(map(json.dumps, ROWS)).encode()
    done = import_rows(store, io.BytesIO(text), on_conflict=on_conflict, extra="metadata", batch=batch)
    assert done.rows == len(ROWS)
    stays = {(row.namespace, row.id): row.metadata["n"] for row in store.scan(namespace=None)}
    counts = (done.written, done.skipped, done.refused)
    return Outcome(counts, sorted(refusal.place for refusal in done.refusals), stays)


EXPECTED: dict[Conflict, Outcome] = {
    "replace": Outcome(
        (7, 0, 2), ["-:2", "-:7"], {("", "a"): 2, ("", "b"): 5, ("", "c"): 8, ("other", "c"): 7}
    ),
    "skip": Outcome((4, 4, 1), ["-:2"], {("", "a"): 0, ("", "b"): 3, ("", "c"): 8, ("other", "c"): 4}),
    "error": Outcome(
        (4, 0, 5),
        ["-:2", "-:3", "-:6", "-:7", "-:8"],
        {("", "a"): 0, ("", "b"): 3, ("", "c"): 8, ("other", "c"): 4},
    ),
}


@pytest.mark.parametrize("on_conflict", EXPECTED)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 9, 1000])
def test_an_id_twice(opened: Opened, tmp_path: Path, on_conflict: Conflict, batch: int) -> None:
    store = opened(tmp_path / f"{batch}.mrl", dim=3)
    assert outcome(store, on_conflict, batch) == EXPECTED[on_conflict]


def test_many_rows_of_one_id_take_one_transaction_for_each_round(opened: Opened, tmp_path: Path) -> None:
    store = opened(tmp_path / "s.mrl")
    rows = [{"id": f"r{n % 50}", "n": n, "vector": [1, n]} for n in range(200)]
    text = "\n".join(map(json.dumps, rows)).encode()
    before = store.stats().generation
    done = import_rows(store, io.BytesIO(text), extra="metadata")
    assert (done.written, len(store)) == (200, 50)
    assert store.stats().generation - before == 4
    assert all(record.metadata["n"] >= 150 for record in store.scan())
