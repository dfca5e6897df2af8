"""What the children of these tests do."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

import mrlstore
from tests.children import Pipe
from tests.oracle import cosines, nested_vectors, stored_row

DIM, PREFIX, ROWS = 16, 8, 2400
IDS = [f"r{i}" for i in range(ROWS)]
QUERY = nested_vectors(1, DIM, seed=77)[0]


def vectors_of(turn: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Every turn writes other vectors, so that an answer tells which turn it was computed from."""
    return nested_vectors(ROWS, DIM, seed=turn % 4)


def scores_of(turn: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What numpy says of each row at that turn."""
    return cosines(QUERY, np.stack([stored_row(row) for row in vectors_of(turn)]))


def write_turns(pipe: Pipe, path: str, turns: int, maintain: bool) -> None:
    """Replace every row, turn after turn, each in one batch; optimize now and then."""
    with mrlstore.open(path, auto_maintain=maintain) as store:
        pipe.send("open")
        pipe.receive()
        for turn in range(1, turns + 1):
            store.upsert(IDS, vectors_of(turn), [{"turn": turn}] * ROWS)
            if turn % 3 == 0:
                store.optimize()
        store.optimize()
        pipe.send(turns)


def read_turns(pipe: Pipe, path: str, turns: int, mode: Any) -> None:
    """Ask in every way until the last turn is seen; each answer must be of one turn, and none go back."""
    expected = [scores_of(turn) for turn in range(4)]
    place = {name: i for i, name in enumerate(IDS)}
    answers = last = 0

    def one(turns_seen: set[int], what: str) -> int:
        assert len(turns_seen) == 1, f"{what}: an answer of several generations {turns_seen}"
        (turn,) = turns_seen
        assert turn >= last, f"{what}: turn {turn} after turn {last}"
        return turn

    with mrlstore.open(path, mode=mode, auto_maintain=False) as store:
        pipe.send("open")
        while last < turns:
            for options in ({"exact": True}, {}, {"where": {"turn": {"$gte": 0}}}):
                found = store.query(QUERY, k=50, **options)
                assert len(found) == 50, (options, len(found))
                last = one({(hit.metadata or {})["turn"] for hit in found}, f"query {options}")
                truth = expected[last % 4]
                wrong = [hit.id for hit in found if abs(hit.score - truth[place[hit.id]]) > 1e-5]
                assert not wrong, f"query {options}: scores of another turn than the metadata's: {wrong}"
                if "exact" in options:
                    best = np.sort(truth)[::-1][:50]
                    assert np.allclose(found.scores, best, atol=1e-5)
            found_rows = store.get(IDS[::40], include=("metadata",))
            assert len(found_rows) == len(IDS[::40])
            last = one({(record.metadata or {})["turn"] for record in found_rows}, "get")
            assert len(store) == ROWS
            if answers % 10 == 0:
                scanned = [record.id for record in store.scan()]
                assert scanned == sorted(IDS), "a scan leaves out no row that is there all the time"
            answers += 1
    pipe.send(answers)


def write_share(pipe: Pipe, path: str, writer: int, batches: int) -> None:
    """Own ids in small and large batches, deletions among them, and an optimize now and then."""
    with mrlstore.open(path, auto_maintain=writer % 2 == 0) as store:
        pipe.send("open")
        pipe.receive()
        for batch in range(batches):
            size = 4200 if batch == batches // 2 else 150
            ids = [f"w{writer}-{batch}-{i}" for i in range(size)]
            rows = nested_vectors(size, DIM, seed=writer * 1000 + batch)
            assert store.upsert(ids, rows, [{"writer": writer, "batch": batch}] * size) == size
            assert store.count({"writer": writer, "batch": batch}) == size, "own writes are read at once"
            assert store.delete(ids[:50]) == 50
            if batch % 4 == 3:
                store.optimize()
        pipe.send("done")


def contend(pipe: Pipe, path: str, rounds: int) -> None:
    """Raise one shared counter row by reading and rewriting it under `on_conflict="error"`."""
    won = 0
    with mrlstore.open(path, auto_maintain=False) as store:
        pipe.send("open")
        pipe.receive()
        for number in range(rounds):
            try:
                store.upsert([f"ticket{number}"], np.ones((1, DIM)), on_conflict="error")
            except mrlstore.InvalidInput:
                continue
            won += 1
    pipe.send(won)


def hold_snapshot(pipe: Pipe, path: str) -> None:
    """Keep a half-read scan and an answered query over many changes of another process."""
    with mrlstore.open(path, mode="r") as store:
        before = store.query(QUERY, k=20, exact=True).ids
        scan = store.scan(include=("metadata", "vector"))
        first = [next(scan) for _ in range(10)]
        pipe.send(before)
        pipe.receive()
        rest = list(scan)
        turns = {(record.metadata or {})["turn"] for record in [*first, *rest]}
        pipe.send((turns, [record.id for record in [*first, *rest]]))
        pipe.send([(hit.metadata or {})["turn"] for hit in store.query(QUERY, k=20, exact=True)])


def _in_fork(work: Any) -> int:
    """Run `work` in a forked child of this one and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _wait(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def preload_and_fork(pipe: Pipe, path: str, maintain: bool) -> None:
    """As `gunicorn --preload` does: open and use the store, then fork workers that all use it."""
    store = mrlstore.open(path, auto_maintain=maintain)
    before = store.query(QUERY, k=10, exact=True).ids
    rows = nested_vectors(200, DIM, seed=5)

    def worker(number: int) -> None:
        assert store.query(QUERY, k=10, exact=True).ids == before
        for batch in range(5):
            ids = [f"fork{number}-{batch}-{i}" for i in range(40)]
            store.upsert(ids, rows[:40], [{"worker": number}] * 40)
            assert store.count({"worker": number}) == 40 * (batch + 1)
        assert store.delete([f"fork{number}-0-{i}" for i in range(40)]) == 40
        if number == 1:
            store.optimize()
        store.close()

    workers = [_in_fork(lambda number=number: worker(number)) for number in range(3)]
    store.upsert(["parent"], rows[:1], [{"worker": "parent"}])
    codes = _wait(workers)
    assert store.count({"worker": {"$in": [0, 1, 2]}}) == 3 * 160
    store.upsert(["after"], rows[:1])
    assert len(store.query(QUERY, k=10, exact=True)) == 10
    store.close()
    pipe.send(codes)


def fork_under_threads(pipe: Pipe, path: str, forks: int) -> None:
    """Fork while other threads query and write: the child must not inherit a mutex that is held."""
    store = mrlstore.open(path, auto_maintain=True)
    rows = nested_vectors(50, DIM, seed=6)
    stop = threading.Event()
    wrong: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                assert len(store.query(QUERY, k=5)) == 5
        except BaseException as error:
            wrong.append(error)

    def write() -> None:
        try:
            turn = 0
            while not stop.is_set():
                store.upsert([f"t{turn % 100}"], rows[:1])
                turn += 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask), threading.Thread(target=ask), threading.Thread(target=write)]
    for thread in threads:
        thread.start()

    def grandchild(number: int) -> None:
        assert len(store.query(QUERY, k=5)) == 5
        store.upsert([f"child{number}"], rows[:1])
        assert f"child{number}" in store

    codes = []
    for number in range(forks):
        codes += _wait([_in_fork(lambda number=number: grandchild(number))])
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong
    assert all(f"child{number}" in store for number in range(forks))
    store.close()
    pipe.send(codes)


def fork_and_exit(pipe: Pipe, path: str) -> None:
    """A forked child that touches nothing and ends must not disturb its parent."""
    store = mrlstore.open(path)
    codes = _wait([_in_fork(lambda: None) for _ in range(3)])
    store.upsert(["after"], np.ones((1, DIM)))
    assert "after" in store
    assert len(store.query(QUERY, k=5)) == 5

    def closing() -> None:
        store.close()

    codes += _wait([_in_fork(closing)])
    store.upsert(["after closing"], np.ones((1, DIM)))
    store.close()
    pipe.send(codes)


def create_at_once(pipe: Pipe, path: str, number: int) -> None:
    """Open a path that does not exist, at the same moment as others."""
    pipe.send("ready")
    pipe.receive()
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"by{number}"], np.ones((1, DIM)), [{"by": number}])
        pipe.send(store.stats().path)
