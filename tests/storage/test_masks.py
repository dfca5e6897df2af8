"""Masks: which rows pass a filter is shared with readers of later generations, never of older ones."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests import inside
from tests.oracle import nested_vectors
from tests.scale import figure

DIM, ROWS = 8, 2_400
VECTORS = nested_vectors(ROWS, DIM)
LONG = "x" * 300  # longer than what a column holds: such a filter asks the catalogue

METADATA = {
    "a long string": lambda row: {"s": f"{LONG}{row % 2}"},
    "a path without a column": lambda row: {**{f"k{i}": i for i in range(300)}, "z": row % 2},
    "no columns": lambda row: {"z": row % 2},
}
FILTERS: dict[str, Any] = {
    "a long string": {"s": f"{LONG}1"},
    "a path without a column": {"z": 1},
    "no columns": {"z": 1},
}


def filled(path: Path, kind: str) -> Any:
    store = mrlstore.open(path, dim=DIM, auto_maintain=False)
    count = 300 if kind == "a path without a column" else ROWS
    metadata = [METADATA[kind](row) for row in range(count)]
    store.upsert([f"r{i}" for i in range(count)], VECTORS[:count], metadata)
    if kind == "no columns":
        inside.module("mrlstore.maintenance.steps").flush(inside.session(store))
    else:
        store.optimize()
    return store


def matching(session: Any, view: Any, where: Any) -> set[int]:
    """The keys that match at a view's generation."""
    matching = inside.module("mrlstore.search.matching")
    with view.connection() as connection:
        found = matching.matching_keys(connection, view.snapshot, "", where)
    return set(found.tolist())


@pytest.mark.parametrize("kind", METADATA)
def test_an_older_reader_does_not_take_a_newer_mask(path: Path, kind: str) -> None:
    """A reader's transaction is open while rows are updated and another reader evaluates the same filter."""
    where = mrlstore.where.parse(FILTERS[kind])
    with filled(path, kind) as store:
        session = inside.session(store)
        wanted = len(store.query(VECTORS[0], k=ROWS, where=FILTERS[kind], exact=True, include=()))
        session.snapshots.close()  # forgets the masks

        def run(view: Any) -> int:
            with view.connection() as connection:
                inside.module("mrlstore.catalogue.settings").generation(connection)  # fixes what it sees
                old = view.snapshot
                thread = threading.Thread(target=others)
                thread.start()
                thread.join(60)
                keys = inside.module("mrlstore.search.matching").matching_keys(connection, old, "", where)
            return len(set(keys.tolist()))

        def others() -> None:
            store.delete([f"r{i}" for i in range(1, 200, 2)])
            assert len(store.query(VECTORS[0], k=ROWS, where=FILTERS[kind], exact=True, include=())) == (
                wanted - 100
            )

        assert session.consistently(run) == wanted


def test_answers_of_readers_beside_a_writer_are_of_one_generation(path: Path) -> None:
    """All rows that match are updated again and again; every answer has all of them."""
    with filled(path, "a long string") as store:
        ids = [f"r{i}" for i in range(1, ROWS, 2)]
        wrong: list[int] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                hits = store.query(VECTORS[0], k=ROWS, where=FILTERS["a long string"], exact=True, include=())
                if len(hits) != len(ids):
                    wrong.append(len(hits))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(figure(400, 25)):
            chosen = ids[turn % 7 :: 7]
            store.update(chosen, [{"turn": turn}] * len(chosen))
        done.set()
        for thread in threads:
            thread.join(60)
        assert wrong == []
