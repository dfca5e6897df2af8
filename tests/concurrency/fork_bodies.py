"""A fork at every step of every operation, and forks without any control of timing.

A step is a bytecode of the modules that open, use and close connections, a statement of SQLite's (and places
within long ones), or an operation of the file seam. The process forks while another thread stands at the step
("stuck": it does not go on before the fork is over; "waited": it goes on once the fork waits for it), or the
thread forks there itself ("own"). A thread cannot fork inside SQLite: the library gives it no callbacks.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import apsw
import numpy as np
import numpy.random  # not by a thread: a child would find the import under way for ever

import mrlstore
import mrlstore.api.handle
import mrlstore.catalogue.catalogue
import mrlstore.catalogue.connection
import mrlstore.catalogue.connections
import mrlstore.storage.create
from mrlstore.api.opening import open_store
from mrlstore.system import forks
from tests import inside
from tests.children import Pipe
from tests.seam import VERBS, RecordingFiles, with_sqlite

DIM = 8
STUCK_WAIT_S = 0.02
REFUSED = 3  # exit code of a child that was refused with the typed error, and lost nothing

_WATCHED = {
    module.__file__
    for module in (
        forks,
        mrlstore.api.handle,
        mrlstore.catalogue.catalogue,
        mrlstore.catalogue.connection,
        mrlstore.catalogue.connections,
        mrlstore.storage.create,
    )
}


def rows(count: int = 1) -> Any:
    return np.ones((count, DIM))


@dataclass
class Bench:
    """The store that forks are tried on, and what is needed to go on at a step of an operation."""

    folder: Path
    files: RecordingFiles
    store: mrlstore.Store
    number: int = 0
    acknowledged: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.folder / "store.mrl"

    def fresh(self, name: str) -> Path:
        """A path where nothing is."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path


def _open(bench: Bench) -> None:
    with open_store(bench.path, auto_maintain=False, files=bench.files) as store:
        assert "base" in store


def _create(bench: Bench) -> None:
    path = bench.fresh("created.mrl")
    with open_store(path, dim=DIM, auto_maintain=False, files=bench.files) as store:
        assert store.upsert(["a"], rows()) == 1
        assert "a" in store


def _upsert(bench: Bench) -> None:
    name = f"op{bench.number}"
    assert bench.store.upsert([name], rows()) == 1
    bench.acknowledged.add(name)


def _delete(bench: Bench) -> None:
    assert bench.store.delete(["gone"]) in (0, 1)


def _get(bench: Bench) -> None:
    assert [record.id for record in bench.store.get(["base"])] == ["base"]


def _query(bench: Bench) -> None:
    assert len(bench.store.query(np.ones(DIM), k=3)) == 3


def _scan(bench: Bench) -> None:
    assert sum(1 for _ in bench.store.scan()) >= 3


def _verify(bench: Bench) -> None:
    assert bench.store.verify().ok


def _optimize(bench: Bench) -> None:
    bench.store.optimize()


def _backup(bench: Bench) -> None:
    target = bench.fresh("backup.mrl")
    bench.store.backup(target)


OPERATIONS: dict[str, Callable[[Bench], None]] = {
    "open": _open,
    "create": _create,
    "upsert": _upsert,
    "delete": _delete,
    "get": _get,
    "query": _query,
    "scan": _scan,
    "verify": _verify,
    "optimize": _optimize,
    "backup": _backup,
}
KINDS = [(kind, mode) for kind in ("bytecode", "statement", "file") for mode in ("stuck", "waited")]
KINDS += [("bytecode", "own"), ("file, ours", "own")]


class Steps:
    """Counts the steps of an operation in one thread, and acts at one of them."""

    def __init__(
        self, kind: str, files: RecordingFiles, target: int = 0, act: Callable[[], None] | None = None
    ):
        self._kind, self._files, self._target, self._act = kind, files, target, act
        self._seen: set[tuple[CodeType, int]] = set()
        self._thread = 0
        self.count = 0

    def run(self, operation: Callable[[], None]) -> None:
        """Run the operation in this thread, step by step."""
        self._thread = threading.get_ident()
        if self._kind == "bytecode":
            sys.settrace(self._trace)
        elif self._kind == "statement":
            apsw.connection_hooks.append(self._watch)
            for connection in apsw.connections():
                self._watch(connection)
        else:
            verbs = (
                *VERBS,
                *(f"sqlite {verb}" for verb in ("create", "write", "truncate", "sync", "unlink")),
            )
            self._files.before = dict.fromkeys(verbs, lambda _: self._step())
        try:
            operation()
        finally:
            self.end()

    def end(self) -> None:
        """Count no further steps."""
        sys.settrace(None)
        self._files.before = {}
        if self._watch in apsw.connection_hooks:
            apsw.connection_hooks.remove(self._watch)
        self._thread = 0

    def _step(self) -> None:
        if threading.get_ident() != self._thread:
            return
        self.count += 1
        if self.count == self._target and self._act is not None:
            self._act()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _WATCHED:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and (frame.f_code, frame.f_lasti) not in self._seen:
            self._seen.add((frame.f_code, frame.f_lasti))
            self._step()
        return self._trace

    def _watch(self, connection: apsw.Connection) -> None:
        def statement(*_: Any) -> bool:
            self._step()
            return True

        def within() -> bool:
            self._step()
            return False

        try:
            connection.exec_trace = statement
            connection.set_progress_handler(within, 500, id="steps")
        except apsw.ThreadingViolationError:
            pass


def every_step(pipe: Pipe, folder: str, name: str, kind: str, mode: str, share: float, seed: int) -> None:
    """Fork at a share of the steps of one operation; tells (steps, tried, refused, what went wrong)."""
    files = with_sqlite(RecordingFiles()) if kind == "file" else RecordingFiles()
    forks.WAIT_S = STUCK_WAIT_S if mode == "stuck" else 10.0  # type: ignore[misc]
    store = open_store(Path(folder) / "store.mrl", dim=DIM, auto_maintain=False, files=files)
    store.upsert(["base", "second", "gone"], rows(3))
    bench = Bench(Path(folder), files, store)
    steps = _count(bench, kind, name)
    count = min(steps, max(1, round(steps * share)))
    chosen = sorted(random.Random(seed).sample(range(1, steps + 1), count))
    wrong: list[str] = []
    refused = 0
    for target in chosen:
        bench.number += 1
        bench.store.upsert(["gone"], rows())
        code = (_own if mode == "own" else _beside)(bench, kind, name, target, mode)
        if code == REFUSED and mode == "waited":
            wrong.append(f"step {target}: the child was refused though the fork could wait")
        elif code not in (0, REFUSED, None):
            wrong.append(f"step {target}: exit code {code}")
        refused += code == REFUSED
        missing = [id for id in bench.acknowledged if id not in store]
        if missing:
            wrong.append(f"step {target}: lost {missing}")
            bench.acknowledged -= set(missing)
    report = store.verify()
    wrong += [problem.what for problem in report.problems]
    store.close()
    pipe.send((steps, len(chosen), refused, wrong))


def _count(bench: Bench, kind: str, name: str) -> int:
    for _ in range(2):  # the first has more to load
        steps = Steps(kind, bench.files)
        steps.run(lambda: OPERATIONS[name](bench))
        bench.number += 1
    return steps.count


def _beside(bench: Bench, kind: str, name: str, target: int, mode: str) -> int | None:
    """Fork while another thread stands at the step; the child's exit code, None if it was not reached."""
    there, over = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def act() -> None:
        there.set()
        if mode == "stuck":
            assert over.wait(60)
        else:
            end = time.monotonic() + 0.02
            while not inside.fork_waits() and time.monotonic() < end:
                time.sleep(0.0005)

    steps = Steps(kind, bench.files, target, act)

    def work() -> None:
        try:
            steps.run(lambda: OPERATIONS[name](bench))
        except BaseException as error:
            errors.append(error)
        finally:
            there.set()

    scan = bench.store.scan()
    next(scan)
    thread = threading.Thread(target=work)
    thread.start()
    assert there.wait(60)
    code = None
    if thread.is_alive() or mode == "waited":
        with _child(bench) as child:
            if child.here:
                steps.end()
                child.finish(lambda: _use(bench, child, scan))
            over.set()
            thread.join(60)
        code = child.code
    over.set()
    thread.join(60)
    if thread.is_alive():
        raise AssertionError(f"step {target}: the parent's thread hangs")
    if errors:
        raise errors[0]
    return code


def _own(bench: Bench, kind: str, name: str, target: int, _: str) -> int | None:
    """Fork at the step, in the thread that does the operation; both go on with it."""
    made: list[_Child] = []

    def act() -> None:
        made.append(_Child(bench))
        made[0].fork()

    scan = bench.store.scan()
    next(scan)
    steps = Steps(kind, bench.files, target, act)
    try:
        steps.run(lambda: OPERATIONS[name](bench))
    except BaseException as error:
        if not made or not made[0].here:
            raise
        typed = isinstance(error, mrlstore.MrlStoreError)
        if not typed:
            import traceback

            traceback.print_exc()
        made[0].finish(lambda: _use(bench, made[0], scan), start=REFUSED if typed else 1)
    if not made:
        return None
    if made[0].here:
        made[0].finish(lambda: _use(bench, made[0], scan))
    made[0].wait()
    return made[0].code


class _Child:
    """A forked child that tells the ids that it was acknowledged."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.here = False
        self.code: int | None = None

    def fork(self) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        self.here = self._pid == 0
        os.close(reading if self.here else writing)
        self._pipe = writing if self.here else reading
        if self.here:
            faulthandler.dump_traceback_later(20)
            signal.alarm(30)

    def acknowledged(self, id: str) -> None:
        os.write(self._pipe, id.encode() + b"\n")

    def finish(self, work: Callable[[], int], start: int = 0) -> None:
        """In the child: work and end."""
        code = 1
        try:
            code = start or work()
            if start == REFUSED:
                work()
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)

    def wait(self) -> None:
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read().decode().split()
        self.code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._bench.acknowledged.update(told)


class _child:
    """A forked child, waited for at the end of the block."""

    def __init__(self, bench: Bench) -> None:
        self._child = _Child(bench)

    def __enter__(self) -> _Child:
        self._child.fork()
        return self._child

    def __exit__(self, *_: object) -> None:
        self._child.wait()


def _use(bench: Bench, child: _Child, scan: Iterator[Any]) -> int:
    """In the child: use the store in every way; each works, or is refused with the typed error."""
    code = 0

    def write(store: mrlstore.Store, id: str) -> None:
        store.upsert([id], rows())
        child.acknowledged(id)
        assert id in store

    def anew() -> None:
        with mrlstore.open(bench.path, auto_maintain=False) as store:
            write(store, f"anew{bench.number}")

    uses: list[Callable[[], object]] = [
        lambda: write(bench.store, f"child{bench.number}"),
        lambda: bench.store.get(["base"]),
        lambda: bench.store.query(np.ones(DIM), k=3).ids,
        lambda: list(scan),
        anew,
    ]
    for use in uses:
        try:
            use()
        except mrlstore.StorePoisoned:
            code = REFUSED
    return code


def free(pipe: Pipe, folder: str, kind: str, seconds: float) -> None:
    """Fork beside threads that are not controlled; tells (forks, refused, what went wrong)."""
    path = Path(folder) / "store.mrl"
    store = mrlstore.open(path, dim=DIM, auto_maintain=False)
    store.upsert(["base", "second", "third"], rows(3))
    bench = Bench(Path(folder), RecordingFiles(), store)
    stop, wrong = threading.Event(), []
    refused = 0

    def repeat(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                wrong.append(repr(error))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def opened() -> None:
        with mrlstore.open(path, auto_maintain=False) as other:
            assert "base" in other

    def maintained() -> None:
        store.upsert([f"row{n}" for n in range(2100)], np.random.default_rng().random((2100, DIM)) + 0.1)
        store.optimize()

    works: dict[str, list[Callable[[], object]]] = {
        "open": [opened],
        "write": [lambda: store.upsert(["w"], rows()), lambda: store.upsert(["v"], rows())],
        "read": [store.verify, lambda: list(store.scan()), lambda: store.query(np.ones(DIM), k=3)],
        "maintain": [maintained],
    }
    works["all"] = [work for some in works.values() for work in some]
    threads = [repeat(work) for work in works[kind]]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        bench.number += 1
        scan = store.scan(limit=500)
        next(scan)
        with _child(bench) as child:
            if child.here:
                child.finish(partial(_use, bench, child, scan))
        refused += child.code == REFUSED
        if child.code not in (0, REFUSED):
            wrong.append(f"fork {bench.number}: exit code {child.code}")
        time.sleep(random.random() * 0.01)
    stop.set()
    for thread in threads:
        thread.join(120)
    wrong += [f"lost {id}" for id in bench.acknowledged if id not in store]
    wrong += [problem.what for problem in store.verify().problems]
    store.close()
    pipe.send((bench.number, refused, wrong))
