"""What children do under pressure; each reports in plain data and leaves judging to the test."""

from __future__ import annotations

import os
import resource
import signal
import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore.kernels import load
from tests.children import Pipe
from tests.nested import nested

DIM = 32


def rows(count: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Vectors, float32 [count, DIM]."""
    return nested(count, DIM, seed=seed)


def ids(count: int, prefix: str = "r") -> list[str]:
    """Ids, all different."""
    return [f"{prefix}{i}" for i in range(count)]


def attempt(work: Any) -> str:
    """The name of the error that `work` raises, or "ok"."""
    try:
        work()
    except (mrlstore.MrlStoreError, MemoryError) as error:
        return type(error).__name__
    return "ok"


def limited_file_size(pipe: Pipe, path: str) -> None:
    """Write with a limit on the size of every file, then without."""
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(ids(200), rows(200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    full = [
        attempt(lambda: store.upsert(ids(2000, "tail"), rows(2000))),
        attempt(lambda: store.upsert(ids(5000, "big"), rows(5000))),
        attempt(store.optimize),
    ]
    seen = len(store) if attempt(lambda: len(store)) == "ok" else -1
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.close()
    with mrlstore.open(path, auto_maintain=False) as again:
        before = (len(again), again.query(rows(200)[7], k=1).ids)
        again.upsert(ids(5000, "big"), rows(5000))
        again.optimize()
        pipe.send((full, seen, before, len(again), again.verify().ok))


def full_disk(pipe: Pipe, folder: str) -> None:
    """Fill a small file system to the brim."""
    store = mrlstore.open(Path(folder) / "s.mrl", auto_maintain=False)
    stored = 0
    words = "ok"
    while words == "ok" and stored < 500_000:
        words = attempt(partial(store.upsert, ids(5000, f"{stored}-"), rows(5000)))
        stored += 5000 if words == "ok" else 0
    optimized = attempt(store.optimize)
    alive = attempt(lambda: store.query(rows(10)[3], k=1))
    store.close()
    with mrlstore.open(Path(folder) / "s.mrl", auto_maintain=False) as again:
        pipe.send((words, optimized, alive, stored, len(again), again.verify().ok))


def filled_disk(pipe: Pipe, folder: str) -> None:
    """Open a store on a disk that has not a byte left."""
    path = Path(folder) / "s.mrl"
    fill = os.open(Path(folder) / "fill", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fill, bytes(4096))
    except OSError:
        os.close(fill)
    with mrlstore.open(path, mode="r") as store:
        seen = (len(store), store.query(rows(3000)[5], k=1).ids, store.verify().ok)
    writing = attempt(lambda: mrlstore.open(path, auto_maintain=False))
    os.unlink(Path(folder) / "fill")
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["x"], rows(1))
        pipe.send((seen, writing, len(store), store.verify().ok))


def little_memory(pipe: Pipe, path: str, spare_mib: int) -> None:
    """Optimize with hardly any address space left, then with plenty."""
    with mrlstore.open(path + ".first", auto_maintain=False) as first:
        first.upsert(ids(3000), rows(3000))
        first.optimize()  # compiles: LLVM ends the process where it has no memory, and nothing can be done
    store = mrlstore.open(path, auto_maintain=False, threads=1)
    store.upsert(ids(20_000), rows(20_000))
    store.query(rows(5)[0], k=1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + spare_mib * 2**20, hard))
    words = attempt(store.optimize)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    store.close()
    with mrlstore.open(path, auto_maintain=False) as again:
        again.optimize()
        pipe.send((words, len(again), again.query(rows(20_000)[9], k=1).ids, again.verify().ok))


def no_descriptors(pipe: Pipe, path: str) -> None:
    """Work with every descriptor taken, then with some given back."""
    with mrlstore.open(path, auto_maintain=False) as first:
        first.upsert(ids(3000), rows(3000))
        first.optimize()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    opening = attempt(lambda: mrlstore.open(path, auto_maintain=False))
    for descriptor in taken[-8:]:  # enough for the catalogue, not for the parts
        os.close(descriptor)
    outcomes = {opening}
    store: mrlstore.Store | None = None
    for descriptor in taken[:-8]:
        if store is None:
            try:
                store = mrlstore.open(path, auto_maintain=False)
            except mrlstore.MrlStoreError as error:
                outcomes.add(type(error).__name__)
        if store is not None:
            outcomes.add(attempt(partial(store.query, rows(3000)[5], k=1)))
            outcomes.add(attempt(partial(store.upsert, ["new"], rows(1))))
        os.close(descriptor)
    assert store is not None
    pipe.send((sorted(outcomes), store.query(rows(3000)[5], k=1).ids, store.verify().ok))


def become(user: int) -> None:
    """Drop root's rights."""
    load.warm()  # another user may not even read this interpreter's files
    for name in ("random", "shlex", "shutil", "uuid"):  # which the library imports at their first use
        import_module(name)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def read_only_again(pipe: Pipe, path: str, user: int) -> None:
    """Tell what is seen, again and again, of a store that only others may write to."""
    asked = (rows(3000)[5], *[rows(2, seed=9)[0]] * 3)
    become(user)
    with mrlstore.open(path, mode="r") as store:
        for number, vector in enumerate(asked):
            if number:
                pipe.receive()
            pipe.send((len(store), store.query(vector, k=1).ids))


def read_only(pipe: Pipe, path: str, user: int) -> None:
    """Read a store as a user who may not write to it."""
    vectors = rows(3000)
    if user:
        become(user)
    with mrlstore.open(path, mode="r") as store:
        seen = (len(store), store.query(vectors[5], k=1).ids, store.verify().ok)
        upserting = attempt(lambda: store.upsert(["x"], vectors[:1]))

    def write() -> None:
        with mrlstore.open(path, auto_maintain=False) as writer:
            writer.upsert(["x"], vectors[:1])

    pipe.send((seen, upserting, attempt(write)))


def interrupted(pipe: Pipe, path: str) -> None:
    """SIGINT in the midst of building a graph."""
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(ids(20_000), rows(20_000))

    def strike(progress: mrlstore.Progress) -> None:
        if progress.phase == "index":
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        store.optimize(progress=strike)
        words = "finished"
    except KeyboardInterrupt:
        words = "interrupted"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer = store.query(rows(20_000)[9], k=1, exact=True).ids
    store.upsert(["after"], rows(1))
    store.optimize()
    pipe.send((words, answer, len(store), store.stats().flat_segments, store.verify().ok))
    store.close()
