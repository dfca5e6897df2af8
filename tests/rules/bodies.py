"""What children of the rule tests do: things that cannot be undone in the test's own process."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from tests.children import Pipe
from tests.oracle import nested_vectors
from tests.seam import RecordingFiles, with_sqlite


def opened_names(pipe: Pipe, folder: str) -> None:
    """Use every verb under an audit hook and tell which of SQLite's files Python code opened."""
    opened: list[str] = []

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and ".tmp-" in str(arguments[0]):
            return  # a new store's catalogue comes to its place, and nobody has it open
        if event in ("open", "os.link", "shutil.copyfile", "os.rename", "os.truncate"):
            opened.extend(str(argument) for argument in arguments[:2])

    sys.addaudithook(audit)
    path = Path(folder) / "store.mrl"
    with mrlstore.open(path, dim=8) as store:
        store.upsert([f"r{i}" for i in range(5000)], nested_vectors(5000, 8), [{"n": i} for i in range(5000)])
        store.upsert(["a", "b"], nested_vectors(2, 8))
        store.update(["a"], [{"x": 1}])
        store.delete(["b"])
        store.optimize()
        store.query(np.ones(8))
        store.query(np.ones(8), where={"n": {"$lt": 10}}, exact=True)
        list(store.scan())
        store.stats()
        store.verify()
        store.backup(Path(folder) / "copy.mrl")
        store.warm()
    with mrlstore.open(path, mode="r") as store:
        store.get(["a"])
        store.verify()
    mrlstore.open(path, mode="a").close()
    pipe.send([name for name in opened if "catalogue.db" in name])


def fork_while_indexing(pipe: Pipe, path: str) -> None:
    """Fork while this process holds LOCK and locks on new parts; the child uses the store, closes, ends."""
    store = mrlstore.open(path, auto_maintain=False)
    said: dict[str, Any] = {}

    def inside(step: Any) -> None:
        if said:
            return
        said["held before"] = _is_locked(Path(path) / "LOCK")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert len(store.query(np.ones(8), k=3)) == 3
                store.upsert(["by the child"], np.ones((1, 8)))
                store.close()
                code = 0
            finally:
                os._exit(code)
        said["child"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said["held after"] = _is_locked(Path(path) / "LOCK")

    store.optimize(progress=inside)
    said["free at last"] = not _is_locked(Path(path) / "LOCK")
    said["rows"] = len(store)
    store.close()
    pipe.send(said)


def _is_locked(path: Path) -> bool:
    """A flock belongs to an open file, so a second open in this same process may ask."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def fork_beside_a_writer(pipe: Pipe, path: str, forks: int) -> None:
    """Fork while another thread is inside a write transaction, held open until the fork is over or waits."""
    from mrlstore.api.opening import open_store

    files = with_sqlite(RecordingFiles())
    store = open_store(path, auto_maintain=False, files=files)
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: Path) -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(
                0.2
            )  # a fork that waits for the transaction gets it; one that does not is in the midst

    files.before["sqlite write"] = hold
    codes = []
    for number in range(forks):
        inside.clear()
        go_on.clear()
        writer = threading.Thread(target=lambda n=number: store.upsert([f"thread{n}"], np.ones((1, 8))))
        writer.start()
        assert inside.wait(60)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                files.before.clear()
                signal.alarm(20)  # ends a child that waits for ever
                store.upsert([f"child{number}"], np.ones((1, 8)))
                assert f"child{number}" in store
                code = 0
            finally:
                os._exit(code)
        go_on.set()
        writer.join(60)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if codes[-1] != 0:
            break
    names = [f"{who}{number}" for number in range(forks) for who in ("thread", "child")]
    missing = [name for name in names if name not in store]
    store.close()
    pipe.send((codes, missing))


def write_and_wait(pipe: Pipe, path: str) -> None:
    """Write a large batch, stopping where its part is complete and not yet committed."""
    from mrlstore.api.opening import open_store

    files = RecordingFiles()
    store = open_store(path, auto_maintain=False, files=files)
    paused: list[bool] = []

    def pause(folder: Path) -> None:
        if folder.name == "parts" and not paused:
            paused.append(True)
            pipe.send("written")
            pipe.receive()

    files.before["sync_dir"] = pause
    store.upsert([f"w{i}" for i in range(5000)], nested_vectors(5000, 8, seed=8))
    store.close()
    pipe.send("committed")
