"""Connections that a fork might find open: those of exceptions that are kept, and of hooks that run last."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import mrlstore
from mrlstore.system import forks
from tests import inside
from tests.oracle import nested_vectors
from tests.pressure.opcodes import AtOpcode, interrupt, places
from tests.pressure.test_interrupts import Interrupt
from tests.scale import figure

DIM, ROWS = 8, 20
VECTORS = nested_vectors(ROWS, DIM)


def opened_again(store: Any) -> None:
    with mrlstore.open(store.path, auto_maintain=False) as other:
        other.count({"n": 1})


CALLS: dict[str, Callable[[Any], object]] = {
    "open": opened_again,
    "upsert": lambda store: store.upsert(["new"], VECTORS[:1]),
    "query": lambda store: store.query(VECTORS[0], k=3, where={"n": 1}),
    "backup": lambda store: store.backup(store.path.with_name(f"{len(list(store.path.parent.iterdir()))}")),
}


def open_connections(path: Path) -> list[apsw.Connection]:
    return [found for found in apsw.connections() if found.filename.startswith(str(path.parent))]


# Python itself drops what is raised in a finalizer, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("verb", CALLS)
def test_no_connection_of_a_kept_exception_is_open_at_a_fork(path: Path, verb: str) -> None:
    """Interrupted where it opens, hands out, takes back or closes one: then nothing is open, at once."""
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(ROWS)], VECTORS, [{"n": i} for i in range(ROWS)])
        CALLS[verb](store)
        inside.close_connections(store)
        with Interrupt(0) as whole:
            CALLS[verb](store)
        step = figure(1, max(1, whole.places // 150))
        for nth in range(1, whole.places + 1, step):
            inside.close_connections(store)
            kept: BaseException | None = None
            try:
                with Interrupt(nth):
                    CALLS[verb](store)
            except KeyboardInterrupt as error:
                kept = error
            forks.before()
            try:
                assert inside.fork_of_this_thread().clean, f"place {nth}"
                assert open_connections(path) == [], f"place {nth}"
            finally:
                forks.in_parent()
            assert store.count() >= ROWS
            del kept


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_at_any_bytecode_of_opening_and_closing_spoils_no_later_fork(path: Path) -> None:
    """A note left behind, that a connection is being opened or used, made the children of forks refuse."""
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(["a"], VECTORS[:1])

        def run() -> None:
            inside.close_connections(store)
            store.get(["a"])

        within = (forks.__file__,)
        with AtOpcode(0, interrupt, within) as counted:
            run()
        for nth in places(counted.seen, "opening", 150):
            kept: BaseException | None = None
            trap = AtOpcode(nth, interrupt, within)
            try:
                with trap:
                    run()
            except KeyboardInterrupt as error:
                kept = error
            forks.before()
            try:
                assert inside.fork_of_this_thread().clean, trap.place
                assert open_connections(path) == [], trap.place
            finally:
                forks.in_parent()
            del kept


def test_a_rollback_that_is_interrupted_too_does_not_keep_the_write_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        roll_back = inside.roll_back_of(inside.session(store).catalogue)

        def interrupted(*_: Any) -> None:
            monkeypatch.setattr(*roll_back)
            raise KeyboardInterrupt

        def fails(*_: Any) -> None:
            monkeypatch.setattr(*roll_back[:2], interrupted)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(inside.module("mrlstore.writing.writer").rows, "insert", fails)
            store.upsert(["a"], VECTORS[:1])
        assert store.upsert(["b"], VECTORS[1:2]) == 1
        with mrlstore.open(path, auto_maintain=False) as other:
            assert other.upsert(["c"], VECTORS[2:3]) == 1
            assert sorted(record.id for record in other.scan()) == ["b", "c"]


HOOK = """
import os, sys
store = None
os.register_at_fork(before=lambda: store and store.upsert(["hook"], np.ones((1, 4))))  # runs last
import numpy as np
import mrlstore
path = sys.argv[1]
store = mrlstore.open(path, dim=4, auto_maintain=False)
store.upsert(["base"], np.ones((1, 4)))
acknowledged = ["base"]
for turn in range(3):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            store.upsert([f"child{turn}"], np.ones((1, 4)))
            os.write(writing, b"1")
        except mrlstore.StorePoisoned:
            os.write(writing, b"0")
        finally:
            os._exit(0)
    store.upsert([f"parent{turn}"], np.ones((1, 4)))
    os.waitpid(pid, 0)
    acknowledged += [f"parent{turn}"] + [f"child{turn}"] * int(os.read(reading, 1))
    store.upsert([f"later{turn}"], np.ones((1, 4)))
    acknowledged.append(f"later{turn}")
print([id for id in acknowledged if id not in store], store.verify().ok)
"""


def test_a_hook_that_uses_the_store_after_the_library_s_own_loses_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOOK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[] True\n", done.stderr


def test_a_use_of_another_thread_that_lasts_is_not_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an exception has left open is closed only where nobody is inside."""
    monkeypatch.setattr(forks, "WAIT_S", 0.05)
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(["a"], VECTORS[:1])
        there, over = threading.Event(), threading.Event()
        found: list[Any] = []

        def read() -> None:
            with inside.session(store).catalogue.read() as connection:
                there.set()
                assert over.wait(60)
                found.extend(connection.execute("SELECT count(*) FROM rows"))

        thread = threading.Thread(target=read)
        thread.start()
        assert there.wait(60)
        forks.before()
        assert not inside.fork_of_this_thread().clean
        forks.in_parent()
        over.set()
        thread.join(60)
        assert found == [(1,)]
