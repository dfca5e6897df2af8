"""An exception between any two bytecodes of a read: what comes after is answered as if nothing had been.

Signal handlers may raise, and memory may end, at places that no review finds. So an exception is raised at
each bytecode of each reading call in turn (`make test`: at some of them), and kept, as `sys.last_value` does.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.search import workspace
from tests.nested import nested
from tests.scale import FULL

DIM, ROWS = 32, 2_600  # enough rows for a graph
VECTORS = nested(ROWS + 2, DIM)
QUERIES = nested(6, DIM, seed=2)
HOMES = (str(Path(mrlstore.__file__).parent), contextlib.__file__)
SECONDS = None if FULL else 2.0  # for each test
HIDDEN = "x" * 300  # a string that columns do not hold: its filter asks the catalogue


class Stop(BaseException):
    """Raised at the `nth` bytecode of the library; 0 only counts."""

    def __init__(self, nth: int) -> None:
        super().__init__(f"at bytecode {nth}")
        self.nth, self.count = nth, 0

    def __enter__(self) -> Stop:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HOMES):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.nth:
                sys.settrace(None)
                raise self
        return self._step


READS: dict[str, Callable[[Any], Any]] = {
    "ids": lambda store: store.query(QUERIES[0], include=()).ids,
    "metadata": lambda store: [hit[:3] for hit in store.query(QUERIES[0])],
    "vectors": lambda store: [
        hit.vector.tobytes() for hit in store.query(QUERIES[0].tolist(), include=("vector",))
    ],
    "filter": lambda store: store.query(QUERIES[1], include=(), where={"n": {"$lt": 2_000}}).ids,
    "hidden filter": lambda store: store.query(QUERIES[1], where={"text": HIDDEN}, exact=True).ids,
    "keywords": lambda store: store.query(keywords="apple", k=5).ids,
    "both": lambda store: store.query(QUERIES[2], keywords="apple pear", k=5).ids,
    "batch": lambda store: store.query_batch(QUERIES, include=()).ids,
    "get": lambda store: store.get(["r1", "waiting"], include=("metadata", "vector"))[1].vector.tobytes(),
    "count": lambda store: store.count({"n": {"$lt": 100}}),
    "scan": lambda store: [record.id for record in store.scan({"n": {"$lt": 20}})],
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bytecodes") / "s.mrl"
    words = ("apple", "pear", "plum", "fig")
    metadata: list[dict[str, Any]] = [{"n": i} for i in range(ROWS)]
    metadata[7]["text"] = HIDDEN
    with mrlstore.open(path, dim=DIM, prefix_dim=16, auto_maintain=False) as store:
        texts = [f"{words[i % 4]} {words[i % 3]}" if i < 40 else None for i in range(ROWS)]
        store.upsert([f"r{i}" for i in range(ROWS)], VECTORS[:ROWS], metadata, texts)
        store.optimize()
        store.upsert(["waiting"], VECTORS[ROWS : ROWS + 1], [{"n": 5_000}])
    return path


def places(count: int) -> Iterator[int]:
    """Numbers of bytecodes: all of them, or as many as there is time for, spread evenly."""
    started, last = time.monotonic(), 1
    order = range(1, count + 1) if SECONDS is None else np.random.default_rng(5).permutation(count) + 1
    for last in order:
        if SECONDS is not None and time.monotonic() - started > SECONDS:
            return
        yield int(last)


def elsewhere(call: Callable[[], Any]) -> Any:
    """What a call gives in another thread, which waits for no lock of this one."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(20.0)
    assert answers, "another thread waits for ever, or failed"
    return answers[0]


def check(store: Any, read: Callable[[Any], Any], expected: Any) -> None:
    """The same call is answered as before, here and in other threads."""
    assert read(store) == expected
    assert elsewhere(lambda: read(store)) == expected
    assert store.get(["r1"])[0].metadata == {"n": 1}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fresh", [False, True], ids=["again", "first"])
@pytest.mark.parametrize("name", READS)
def test_an_exception_at_every_bytecode_of_a_read(path: Path, name: str, fresh: bool) -> None:
    """`first`: of a store that has just been opened, with working memory that has yet to grow."""
    read = READS[name]
    with mrlstore.open(path, mode="r", threads=1) as store:
        expected = read(store)
        read(store)
        with Stop(0) as whole:
            assert read(store) == expected
    kept: list[Stop] = []
    store = mrlstore.open(path, mode="r", threads=1)
    for place in places(whole.count if not fresh else 3 * whole.count):
        if fresh:
            store.close()
            store = mrlstore.open(path, mode="r", threads=1)
            workspace._waiting.clear()
        try:
            with Stop(place):
                read(store)
        except Stop as error:
            kept.append(error)
        check(store, read, expected)
        del kept[:-5]
    store.close()
    interrupted = bool(kept)
    kept.clear()
    gc.collect()  # warnings of files that were left open belong to this test
    assert interrupted, "nothing was interrupted: the test no longer tests"
