"""An exception between any two bytecodes of each public call: nothing is lost, half done, locked or leaked.

Each call is run once to count its bytecodes, then again and again with an exception in front of each of them
in turn (under `make torture`; otherwise of a sample). After each, all views are compared: the rows found in
several ways, by this handle and by another, and both must be able to write. The exception is kept, as an
interactive interpreter keeps the last one, with all its frames.
"""

from __future__ import annotations

import gc
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mrlstore
from tests import inside
from tests.pressure.opcodes import AtOpcode, Counted, counted, interrupt, lack_memory
from tests.pressure.public_calls import CARE, READS, VECTORS, WRITES, Bench, Care, Rows, glance, look
from tests.scale import FULL, figure, shares

# Python itself drops what is raised in a finalizer, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FRESH = ("query filtered", "query hybrid", "query_batch", "get by filter", "scan in order", "facets", "stats")
RAISED: dict[str, Callable[[], None]] = {"interrupt": interrupt, "no memory": lack_memory}
LOOK_EVERY = figure(50, 3)  # trials between two looks at all rows in every way
MOST_FAILURES = 10
SHARES = shares(20)  # of the bytecodes of a call


class Trials:
    """Tries a call with an exception at each place; collects what goes wrong, each time with a new store."""

    def __init__(self, folder: Path, act: Callable[[], None]) -> None:
        self._folder, self._act, self._stores = folder, act, 0
        self.tried = self.done = 0
        self.wrong: list[str] = []
        self._kept: list[BaseException] = []  # the last one
        self.begin()

    def begin(self) -> None:
        """Make a store."""
        self._stores += 1
        folder = self._folder / str(self._stores)
        folder.mkdir()
        self.bench = Bench(folder)

    def run(self, call: Callable[[Bench], object], judge: Callable[[object], object], nth: int) -> None:
        """Make a call that fails at its nth bytecode, then judge what it answered; None where it was cut."""
        trap, answered = AtOpcode(nth, self._act), None
        self.tried += 1
        try:
            try:
                with trap:
                    answered = call(self.bench)
                self.done += bool(trap.place)  # the exception went to a finalizer, or the work was done
            except (KeyboardInterrupt, MemoryError) as error:
                self._kept[:] = [error]
            judge(answered)
            assert not inside.uses_of_sqlite()
        except BaseException as error:
            self.wrong.append(f"{nth}, {trap.place}: {type(error).__name__}: {error}")
            if len(self.wrong) == MOST_FAILURES:
                self.finish("the rest was not tried")
            self.begin()

    def finish(self, name: str, count: Counted | None = None) -> None:
        """Nothing went wrong, and nothing is left of what was interrupted."""
        self._kept.clear()
        if count is not None:
            print(f"{name}: {count.seen} bytecodes, {self.tried} tried, {self.done} went on to the end")
        assert not self.wrong, f"{name}: {self.wrong}"
        assert self.bench.store.verify().ok
        self.bench.close()


@pytest.fixture(params=SHARES, ids=lambda number: f"share{number:02}")
def share(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(params=RAISED if FULL else ["interrupt"])
def trials(request: pytest.FixtureRequest, quick_path: Path) -> Iterator[Trials]:
    threads = threading.active_count()
    made = Trials(quick_path, RAISED[request.param])
    yield made
    made.bench.close()
    del made
    gc.collect()
    assert threading.active_count() <= threads


def both_write(bench: Bench) -> None:
    bench.other.upsert(["probe"], VECTORS[5:6], namespace="c")
    bench.store.upsert(["probe"], VECTORS[6:7], namespace="c")
    bench.other.delete(["probe"], namespace="c")


def both_see(bench: Bench, looking: Callable[[mrlstore.Store], Rows] = look) -> Rows:
    found = looking(bench.store)
    assert looking(bench.other) == found
    return found


def test_every_public_call_is_tried() -> None:
    names = {name for name, _ in inspect.getmembers(mrlstore.Store) if not name.startswith("_")}
    twins = {name for name in names if name[0] == "a" and name[1:] in names}
    assert names - twins == {name.split()[0] for name in (*READS, *WRITES, *CARE)} - {"open"}


def read_at_each_bytecode(trials: Trials, name: str, share: int, *, fresh: bool, sample: int) -> None:
    read, bench = READS[name], trials.bench
    before, expected = look(bench.store), read(bench)

    def begin() -> None:
        """The handle is a new one, or has been asked the same before and has all that it keeps for that."""
        if fresh:
            trials.bench.reopen()
        else:
            assert read(trials.bench) == read(trials.bench) == expected

    def judge(answer: object) -> None:
        assert answer is None or answer == expected
        assert read(trials.bench) == expected
        both_write(trials.bench)
        if trials.tried % LOOK_EVERY == 0:
            assert both_see(trials.bench) == before

    begin()
    count = counted(lambda: read(bench))
    for nth in count.places(name, sample)[share :: len(SHARES)]:
        begin()
        trials.run(read, judge, nth)
    trials.finish(name, count)


@pytest.mark.parametrize("name", READS)
def test_a_read_is_cut_at_every_bytecode(trials: Trials, name: str, share: int) -> None:
    read_at_each_bytecode(trials, name, share, fresh=False, sample=2 if name == "tier_report" else 8)


@pytest.mark.parametrize("name", FRESH)
def test_a_read_of_a_fresh_handle_is_cut_at_every_bytecode(trials: Trials, name: str, share: int) -> None:
    """It has its connections and maps to open first."""
    read_at_each_bytecode(trials, name, share, fresh=True, sample=8)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_cut_at_every_bytecode(trials: Trials, name: str, share: int) -> None:
    run, back = WRITES[name]
    before, others = look(trials.bench.store), look(trials.bench.store, "a")
    count = counted(lambda: run(trials.bench))
    after = both_see(trials.bench)
    back(trials.bench)
    assert both_see(trials.bench) == before
    assert name == "upsert skipping" or after != before

    def judge(_: object) -> None:
        whole = trials.tried % LOOK_EVERY == 0
        assert both_see(trials.bench, look if whole else glance) in (before, after)
        assert not whole or look(trials.bench.store, "a") == others
        both_write(trials.bench)
        back(trials.bench)
        assert not whole or look(trials.bench.other) == before

    for nth in count.places(name, 16)[share :: len(SHARES)]:
        trials.run(run, judge, nth)
    trials.finish(name, count)


@pytest.mark.parametrize("name", CARE)
def test_maintenance_is_cut_at_every_bytecode(trials: Trials, name: str, share: int) -> None:
    call: Care = CARE[name]
    before = look(trials.bench.store)
    call.begin(trials.bench)
    call.run(trials.bench)
    call.judge(trials.bench)
    call.begin(trials.bench)
    count = counted(lambda: call.run(trials.bench))

    def judge(_: object) -> None:
        call.judge(trials.bench)
        if name == "close":
            trials.bench.reopen()
        assert both_see(trials.bench, glance) == before
        both_write(trials.bench)

    for nth in count.places(name, 4)[share :: len(SHARES)]:
        call.begin(trials.bench)
        trials.run(call.run, judge, nth)
    trials.bench.other.optimize(timeout_s=5)
    parts = list((trials.bench.path / "parts").iterdir())
    assert len(parts) == 3 * trials.bench.other.stats().segments  # nothing that nobody uses
    trials.finish(name, count)


def test_descriptors_and_threads_do_not_grow_under_interrupts(trials: Trials) -> None:
    def held() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are counted in /proc")
    call = CARE["open"]
    count = counted(lambda: call.run(trials.bench))
    before = held()
    for nth in count.places("descriptors", 20):
        trials.run(call.run, lambda _: call.judge(trials.bench), nth)
    trials.finish("open", count)
    assert held() <= before
