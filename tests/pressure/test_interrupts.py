"""Ctrl-C at every place: whatever a call was doing, the store goes on, nothing is locked or half done."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mrlstore
from tests import inside
from tests.children import Child, children
from tests.oracle import nested_vectors
from tests.pressure import interrupt_bodies
from tests.scale import figure

DIM, ROWS = 8, 60
VECTORS = nested_vectors(ROWS, DIM)
HOMES = (str(Path(mrlstore.__file__).parent), contextlib.__file__)


class Interrupt:
    """Raises KeyboardInterrupt at the `nth` place where Python looks for signals; 0 counts them only.

    That is where a function of Python's begins and where one of C's has returned. Places outside of the
    library and of contextlib, which runs its transactions, don't count.
    """

    def __init__(self, nth: int) -> None:
        self.nth, self.places = nth, 0

    def __enter__(self) -> Interrupt:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(HOMES):
            self.places += 1
            if self.places == self.nth:
                sys.setprofile(None)
                raise KeyboardInterrupt


CALLS: dict[str, Callable[[Any], object]] = {
    "upsert": lambda store: store.upsert(["r1", "new"], VECTORS[:2], [{"turn": 1}] * 2, ["text"] * 2),
    "update": lambda store: store.update(["r1", "r2"], [{"turn": 1}] * 2),
    "delete": lambda store: store.delete(where={"n": {"$lt": 5}}),
    "query": lambda store: store.query(VECTORS[0], include=("metadata", "vector"), where={"n": {"$gt": 1}}),
    "get": lambda store: store.get(["r1"], include=("vector",)),
    "optimize": lambda store: store.optimize(),
    "repair": lambda store: store.repair(),
}


def state(store: Any) -> dict[str, Any]:
    return {record.id: (record.metadata, record.document) for record in store.scan()}


# Python itself drops what is raised in a finalizer, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("verb", CALLS)
def test_ctrl_c_at_every_place(opened: Any, path: Path, tmp_path: Path, verb: str) -> None:
    def fresh(where: Path) -> Any:
        store = opened(where, dim=DIM)
        store.upsert([f"r{i}" for i in range(ROWS)], VECTORS, [{"n": i} for i in range(ROWS)])
        store.optimize()
        store.upsert(["waiting"], VECTORS[:1], [{"n": 1000}])
        store.query(VECTORS[0])
        return store

    model = fresh(tmp_path / "model.mrl")
    before = state(model)
    with Interrupt(0) as whole:
        CALLS[verb](model)
    after = state(model)
    step = figure(1, max(1, whole.places // 8))
    for nth in range(1 + step // 2, whole.places + 1, step):
        store = fresh(tmp_path / f"{nth}.mrl")
        try:
            with Interrupt(nth):
                CALLS[verb](store)
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            raise AssertionError(f"place {nth}: {type(error).__name__}: {error}") from error
        judge(store, [before, after], nth)


def judge(store: Any, allowed: list[dict[str, Any]], nth: int) -> None:
    """All or nothing happened, by every way of asking, and anybody may write."""
    try:
        found = state(store)
        assert found in allowed
        assert len(store.query(VECTORS[0], k=200, exact=True)) == len(found) == len(store)
        with mrlstore.open(store.path, auto_maintain=False) as other:
            assert state(other) == found
            other.upsert(["others"], VECTORS[3:4])
            assert store.query(VECTORS[3], k=2, exact=True, include=()).ids.count("others") == 1
            assert other.delete(["others"]) == 1
            other.optimize(timeout_s=5)
        assert store.upsert(["after"], VECTORS[4:5]) == 1
        assert "after" in store.query(VECTORS[4], k=2, exact=True, include=()).ids
        assert store.delete(["after"]) == 1
        assert store.verify().ok
    except BaseException as error:
        raise AssertionError(f"interrupted at place {nth}: {type(error).__name__}: {error}") from error
    store.close()


def test_interrupts_at_any_time_leave_nothing_half_done(tmp_path: Path) -> None:
    seconds = figure(3_600, 3)
    with children(Child(interrupt_bodies.free, str(tmp_path), seconds, 0)) as (child,):
        calls, interrupted, wrong = child.receive(seconds + 240)
        child.finish()
    print(f"{calls} calls, {interrupted} interrupted")
    assert wrong == []
    assert interrupted > calls // 10


def test_a_signal_handler_may_read_but_not_write(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler runs in the midst of whatever its thread is doing: here, of a write transaction."""
    store = opened(dim=DIM)
    store.upsert(["a"], VECTORS[:1])
    said: list[object] = []

    def handle(number: int, frame: FrameType | None) -> None:
        said.append(len(store.query(VECTORS[0])))
        try:
            store.upsert(["b"], VECTORS[1:2])
        except mrlstore.StoreLocked as error:
            said.append("in the midst of another write" in str(error))

    writer = inside.module("mrlstore.writing.writer")
    real = writer.rows.insert

    def insert(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)
        real(*arguments)

    monkeypatch.setattr(writer.rows, "insert", insert)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        store.upsert(["c"], VECTORS[2:3])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said == [1, True]
    assert sorted(record.id for record in store.scan()) == ["a", "c"]


def test_a_signal_handler_may_read_in_the_midst_of_a_read(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(dim=DIM), opened()
    said: list[int] = []
    snapshot = inside.module("mrlstore.storage.snapshot")
    real = snapshot.tail_rows.since

    def since(*arguments: Any, **options: Any) -> Any:
        if not said:
            said.append(0)
            said.append(len(store.query(VECTORS[0])))
        return real(*arguments, **options)

    other.upsert(["a", "b"], VECTORS[:2])
    monkeypatch.setattr(snapshot.tail_rows, "since", since)
    assert len(store.query(VECTORS[0])) == 2
    assert said == [0, 2]
