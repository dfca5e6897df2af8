"""Threads that a store starts: interrupted, without memory, or beside a signal handler that queries."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.api import handle
from mrlstore.maintenance import background
from mrlstore.recall import audit
from mrlstore.system import event
from tests import inside
from tests.children import Child, Pipe, children
from tests.oracle import nested_vectors
from tests.pressure.opcodes import AtOpcode, interrupt, places

DIM = 8
VECTORS = nested_vectors(20, DIM)
IDS = [f"r{i}" for i in range(20)]


@pytest.fixture
def path(quick_path: Path) -> Path:
    return quick_path / "store.mrl"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
        assert not thread.is_alive(), thread.name


def counted(run: Any, within: tuple[str, ...]) -> int:
    with AtOpcode(0, interrupt, within) as found:
        run()
    return found.seen


def test_a_start_of_background_work_is_cut_at_every_bytecode(path: Path) -> None:
    """The store is closed as ever, and a later write starts what was not started."""
    within = (background.__file__, event.__file__)

    def write(store: mrlstore.Store) -> None:
        store.upsert(["a"], VECTORS[:1])

    with mrlstore.open(path) as store:
        count = counted(lambda: write(store), within)
    for nth in places(count, "start", 20):
        store, trap = mrlstore.open(path), AtOpcode(nth, interrupt, within)
        try:
            with trap:
                write(store)
        except KeyboardInterrupt:
            pass
        write(store)
        assert inside.background_works(store), f"interrupted at {nth} of {count}, {trap.place}"
        store.close()


@pytest.mark.parametrize("name", ["mrlstore-maintenance", "mrlstore-audit"])
def test_a_thread_that_cannot_be_started_is_tried_again(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is committed, and an answer is an answer: neither call fails."""
    refused: list[threading.Thread] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    store = mrlstore.open(path)
    store.audit(1.0)
    for _ in range(2):
        assert store.upsert(IDS, VECTORS) == 20
        assert len(store.query(VECTORS[0], k=5)) == 5
    assert refused
    assert inside.background_works(store)
    assert inside.session(store).audit.wait(30.0)
    store.close()


def test_background_work_goes_on_after_an_interrupted_optimize(path: Path) -> None:
    with mrlstore.open(path) as store:
        store.upsert(IDS, VECTORS)
        store.optimize()
        count = counted(store.optimize, (handle.__file__,))
        for nth in range(1, count + 1):
            trap = AtOpcode(nth, interrupt, (handle.__file__,))
            try:
                with trap:
                    store.optimize()
            except KeyboardInterrupt:
                pass
            assert not inside.background_is_paused(store), trap.place


def test_an_audit_that_is_replaced_under_an_interrupt_leaves_no_thread(path: Path) -> None:
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(IDS, VECTORS)

        def replace() -> None:
            store.audit(1.0)
            store.query(VECTORS[0])
            store.audit(0.0)

        recall_methods = inside.module("mrlstore.api.recall_methods").__file__
        count = counted(replace, (recall_methods, audit.__file__))
        for nth in places(count, "replaced", 20):
            try:
                with AtOpcode(nth, interrupt, (recall_methods, audit.__file__)):
                    replace()
            except KeyboardInterrupt:
                pass
            store.audit(0.0)


def _queries_while_offering(pipe: Pipe, path: str) -> None:
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(IDS, VECTORS)
    store.audit(1.0)
    store.query(VECTORS[0])
    answers: list[list[str]] = []

    def handler() -> None:
        answers.append(store.query(VECTORS[1], k=3).ids)
        store.stats()

    count = counted(lambda: store.query(VECTORS[0]), (audit.__file__,))
    for nth in range(1, count + 1):
        with AtOpcode(nth, handler, (audit.__file__,)):
            store.query(VECTORS[0])
    pipe.send((count, len(answers), answers.count(answers[0])))
    store.close()


def test_a_signal_handler_queries_while_an_answer_is_given_to_the_audit(path: Path) -> None:
    with children(Child(_queries_while_offering, str(path))) as (child,):
        count, answers, alike = child.receive(120)
        child.finish()
    assert count >= answers == alike > 20  # fewer bytecodes where the queue is full


def _queries_while_opening(pipe: Pipe, path: str) -> None:
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(IDS, VECTORS)
    expected, within = store.query(VECTORS[0], k=3).ids, (handle.__file__,)

    def in_child(nth: int) -> int:
        """What a forked child ends with that opens the store again, interrupted at its nth bytecode."""
        pid = os.fork()
        if pid:
            return os.waitpid(pid, 0)[1]
        signal.alarm(30)
        seen: list[list[str]] = []
        with AtOpcode(nth, lambda: seen.append(store.query(VECTORS[0], k=3).ids), within):
            seen.append(store.query(VECTORS[0], k=3).ids)
        store.close()
        os._exit(0 if seen == [expected] * 2 else 1)

    pipe.send([in_child(nth) for nth in range(1, 60, 6)])
    store.close()


def test_a_signal_handler_queries_while_a_forked_child_opens_the_store_again(path: Path) -> None:
    with children(Child(_queries_while_opening, str(path))) as (child,):
        assert set(child.receive(120)) == {0}
        child.finish()


def test_damage_that_is_found_while_a_merge_begins_keeps_its_mark(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` marks a segment between its choice for a merge and the merge."""
    steps = inside.module("mrlstore.maintenance.steps")
    store = opened(dim=DIM)
    for first in (0, 10):
        store.upsert(IDS[first : first + 10], VECTORS[first : first + 10])
        steps.flush(inside.session(store))
    base = inside.first_segment(store).base.path
    file = base / "vectors.npy"
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(held)
    found: list[mrlstore.VerifyReport] = []

    def verified(*arguments: Any) -> None:
        if not found:
            found.append(store.verify())

    monkeypatch.setattr(inside.BEFORE_A_MERGE, verified)
    store.optimize()
    assert not found[0].ok
    with pytest.raises(mrlstore.CorruptStore, match="damaged"):
        store.query(np.ones(DIM), exact=True)
    assert store.repair().lost == (("", "r9"),)
    assert len(store) == 20
