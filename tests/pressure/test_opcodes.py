"""An exception, or a signal handler that queries, between any two bytecodes of following another handle.

A call is run once to count its bytecodes, then again and again with one in front of each of them in turn
(under `make torture`; otherwise of a sample). After each, the store is compared with what it should hold, by
every way of asking that goes through other memory: rows, filters over the tail and over segments, exact
scores, and another handle. The exception is kept, as an interactive interpreter keeps the last one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests.oracle import nested_vectors
from tests.pressure.opcodes import AtOpcode, interrupt, places
from tests.scale import FULL

# Python itself drops what is raised in a finalizer, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DIM, ROWS = 8, 36
VECTORS = nested_vectors(4 * ROWS, DIM)

Rows = dict[str, int | None]  # id -> n of its metadata


def add(store: Any) -> None:
    store.upsert(["new1", "r1", "new2"], VECTORS[:3], [{"n": 1}, {"n": 2}, {"n": 3}], namespace="b")


def replace_back(store: Any) -> None:
    store.delete(["new1", "new2"], namespace="b")
    store.upsert(["r1"], VECTORS[1:2], [{"n": 101}], namespace="b")


def update(store: Any) -> None:
    store.update(["r1", "r2", "s3"], [{"n": 7}] * 3, namespace="b")


def update_back(store: Any) -> None:
    store.update(["r1", "r2", "s3"], [{"n": 101}, {"n": 102}, {"n": 3}], namespace="b")


def delete(store: Any) -> None:
    store.delete(where={"n": {"$gte": 130}}, namespace="b")


def delete_back(store: Any) -> None:
    gone = list(range(30, ROWS))
    store.upsert([f"r{i}" for i in gone], VECTORS[30:ROWS], [{"n": 100 + i} for i in gone], namespace="b")


WRITES: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "upsert": (add, replace_back),
    "update": (update, update_back),
    "delete": (delete, delete_back),
}


@pytest.fixture
def path(quick_path: Path) -> Path:
    return quick_path / "store.mrl"


@pytest.fixture
def kept() -> Iterator[list[BaseException]]:
    """The last exception, kept alive with its frames."""
    exceptions: list[BaseException] = []
    yield exceptions
    exceptions.clear()


def filled(path: Path) -> Any:
    """A store with a segment and a tail, rows of two namespaces in both."""
    store = mrlstore.open(path, dim=DIM, auto_maintain=False)
    for space in ("a", "b"):
        store.upsert([f"s{i}" for i in range(ROWS)], VECTORS[:ROWS], [{"n": i} for i in range(ROWS)],
                     namespace=space)  # fmt: skip
    store.optimize()
    for space in ("a", "b"):
        ns = [{"n": 100 + i} for i in range(ROWS)]
        store.upsert([f"r{i}" for i in range(ROWS)], VECTORS[:ROWS], ns, namespace=space)
    look(store)
    return store


def look(store: Any, namespace: str = "b") -> Rows:
    """The rows of a namespace, found in four ways that must agree."""
    found = {record.id: record.metadata["n"] for record in store.scan(namespace=namespace)}
    hits = store.query(VECTORS[0], k=500, exact=True, namespace=namespace)
    assert {hit.id: hit.metadata["n"] for hit in hits} == found
    for low in (20, 110, 130):
        wanted = sorted(id for id, n in found.items() if n is not None and n >= low)
        where = {"n": {"$gte": low}}
        by_filter = store.query(VECTORS[0], k=500, exact=True, namespace=namespace, where=where, include=())
        assert sorted(by_filter.ids) == wanted
        assert sorted(record.id for record in store.scan(where, namespace=namespace)) == wanted
    return found


def bytecodes(run: Callable[[], object]) -> int:
    with AtOpcode(0, interrupt) as counted:
        run()
    return counted.seen


@pytest.mark.parametrize("verb", WRITES)
def test_following_another_handle_is_interrupted_at_every_bytecode(
    path: Path, verb: str, kept: list[BaseException]
) -> None:
    run, back = WRITES[verb]
    with filled(path) as store, mrlstore.open(path, auto_maintain=False) as other:
        run(other)
        after = look(other)
        back(other)
        before = look(store)

        def ask() -> list[str]:
            hits = store.query(VECTORS[0], k=500, namespace="b", where={"n": {"$gte": 100}})
            return sorted(hits.ids)

        def wanted(rows: Rows) -> list[str]:
            return sorted(id for id, n in rows.items() if n is not None and n >= 100)

        run(other)
        count = bytecodes(ask)
        back(other)
        ask()
        for nth in places(count, verb, 20):
            (back if look(other) == after else run)(other)
            now = look(other)
            trap = AtOpcode(nth, interrupt)
            try:
                with trap:
                    ask()
            except KeyboardInterrupt as error:
                kept[:] = [error]
            try:
                assert ask() == wanted(now)
                assert look(store) == now
                assert now in (before, after)
            except BaseException as error:
                raise AssertionError(f"interrupted at {nth} of {count}, {trap.place}: {error!r}") from error
        kept.clear()


def test_a_signal_handler_queries_at_every_bytecode_of_following(path: Path) -> None:
    """The handler sees what is newest, and the interrupted call goes on from there."""
    with filled(path) as store, mrlstore.open(path, auto_maintain=False) as other:
        wrong: list[str] = []

        def handler() -> None:
            more(other, "handler")
            if look(store) != look(other):
                wrong.append("handler")

        def more(writer: Any, prefix: str) -> None:
            rows = [f"{prefix}{i}" for i in range(3)]
            writer.delete(rows, namespace="b")
            writer.upsert(rows, VECTORS[50:53], [{"n": 200 + i} for i in range(3)], namespace="b")

        more(other, "other")
        count = bytecodes(lambda: store.query(VECTORS[0], namespace="b"))
        for nth in places(count, "handler", 30):
            more(other, "other")
            trap = AtOpcode(nth, handler)
            try:
                with trap:
                    store.query(VECTORS[0], namespace="b")
                assert not wrong
                assert look(store) == look(other)
            except BaseException as error:
                raise AssertionError(f"a handler at {nth} of {count}, {trap.place}: {error!r}") from error


def test_the_tail_grows_under_interrupts_at_every_bytecode(path: Path, kept: list[BaseException]) -> None:
    """Other dims of capacity, more namespaces, packing: rows are never shifted against their metadata."""
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        held: dict[str, Rows] = {f"s{i}": {} for i in range(7)}
        number, rng = 0, random.Random(5)

        def add(prefix: str, spaces: list[str]) -> None:
            nonlocal number
            for space in spaces:
                rows = {f"{prefix}{number + i}": number + i for i in range(rng.randrange(1, 4))}
                number += len(rows)
                picked = VECTORS[np.arange(len(rows)) % len(VECTORS)]
                with mrlstore.open(path, auto_maintain=False) as other:
                    other.upsert(list(rows), picked, [{"n": n} for n in rows.values()], namespace=space)
                held[space].update(rows)

        nth = 0
        for turn in range(40 if not FULL else 1_000):
            add("r", rng.sample(sorted(held), 2))
            nth = nth + 37 if not FULL else nth + 7
            if turn % 9 == 8:
                space = rng.choice(sorted(held))
                held[space].clear()
                store.clear(space)
            trap = AtOpcode(nth % 1_400 + 1, interrupt)
            try:
                with trap:
                    store.count({"n": 1}, namespace="s0")
            except KeyboardInterrupt as error:
                kept[:] = [error]
            for space, rows in held.items():
                assert look(store, space) == rows, f"turn {turn}, {trap.place}"
        kept.clear()
