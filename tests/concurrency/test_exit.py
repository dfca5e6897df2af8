"""The interpreter ends while daemon threads use a store: they are kept out, and none is cut off inside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mrlstore
from tests.oracle import nested_vectors
from tests.scale import figure

PRELUDE = """
import atexit, sys, threading, time
import numpy as np
import apsw
sys.path.insert(0, sys.argv[2])
{before}
import mrlstore
path = sys.argv[1]
rows = np.random.default_rng(0).normal(size=(1500, 16)).astype(np.float32)
"""

LOOPS = """
def last():  # called after the library's own hook
    time.sleep(0.05)  # threads that are outside go on meanwhile
    print(len(inside.uses_of_sqlite()), len(apsw.connections()))

atexit.register(last)
"""

THREADS = """
from mrlstore.system import forks
from tests import inside

forks.WAIT_S, forks.EXIT_S = 60.0, 60.0  # a busy machine may take longer than usual
store = mrlstore.open(path, auto_maintain=False)

def loop(work):
    def run():
        while True:
            try:
                work()
            except BaseException as error:
                print(repr(error), file=sys.stderr)
    threading.Thread(target=run, daemon=True).start()

loop(lambda: store.query(rows[3], k=5))
loop(lambda: store.query(rows[3], k=5, include=("metadata",)))
loop(lambda: list(store.scan()))
loop(lambda: store.upsert(["w"], rows[:1], [{{"n": 1}}]))
loop(lambda: store.upsert([str(i) for i in range(1500)], rows))
loop(lambda: store.optimize(timeout_s=60))
time.sleep({lasts})
"""


def run(path: Path, source: str) -> str:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", source, str(path), root],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def filled(path: Path) -> None:
    with mrlstore.open(path, dim=16, auto_maintain=False) as store:
        store.upsert([str(i) for i in range(300)], nested_vectors(300, 16))


def test_no_daemon_thread_is_inside_sqlite_when_the_interpreter_ends(path: Path) -> None:
    filled(path)
    for turn in range(figure(100, 1)):
        source = PRELUDE.format(before=LOOPS) + THREADS.format(lasts=0.3 + turn % 7 / 10)
        assert run(path, source) == "0 0\n"
        with mrlstore.open(path, auto_maintain=False) as store:
            assert store.verify().ok


def test_a_store_may_be_used_and_optimized_by_hooks_of_exit(path: Path) -> None:
    """Python's own pools of threads refuse work by then."""
    filled(path)
    source = (
        PRELUDE.format(before="")
        + """
store = mrlstore.open(path, auto_maintain=False)

def hook():
    more = np.random.default_rng(0).normal(size=(5000, 16)).astype(np.float32)
    store.upsert([str(i) for i in range(5000)], more)
    store.optimize()
    print(len(store), store.query_batch(more[:300], k=1).ids[7])

atexit.register(hook)
"""
    )
    assert run(path, source) == "5000 ['7']\n"


def test_a_hook_that_waits_for_a_thread_does_not_hang(path: Path) -> None:
    """Registered before the library was imported, it is called after the gate was closed."""
    filled(path)
    waits = """
stop = threading.Event()

def work():
    stop.wait()
    store.upsert(["late"], rows[:1])
    print("done")

thread = threading.Thread(target=work, daemon=True)

def hook():
    stop.set()
    thread.join(60)

atexit.register(hook)
"""
    source = PRELUDE.format(before=waits) + "store = mrlstore.open(path)\nthread.start()\n"
    assert run(path, source) == "done\n"
    with mrlstore.open(path) as store:
        assert "late" in store
