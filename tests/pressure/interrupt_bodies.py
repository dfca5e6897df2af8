"""Interrupts by a timer while a store is written, read and maintained: nobody controls where they arrive."""

from __future__ import annotations

import collections
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import mrlstore
from tests.children import Pipe
from tests.oracle import nested_vectors

DIM, ROWS = 8, 200
VECTORS = nested_vectors(ROWS, DIM)

Rows = dict[str, int]  # id -> n of its metadata


class Planned(NamedTuple):
    """A call, and the rows that the store has once it is done."""

    name: str
    run: Callable[[], object]
    after: Rows


class Timer:
    """Raises KeyboardInterrupt about `after_s` from the beginning of the block, if that still lasts."""

    def __init__(self, after_s: float) -> None:
        self._after_s, self._armed = max(1e-6, after_s), False
        signal.signal(signal.SIGALRM, self._handle)

    def __enter__(self) -> None:
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._after_s)

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt


class Bench:
    """The store under interrupts, another handle of it, and the rows that both must have."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder, self._rng, self._number = folder, rng, 0
        self._path = folder / "store.mrl"
        self.store = mrlstore.open(self._path, dim=DIM, auto_maintain=False)
        self.other = mrlstore.open(self._path, auto_maintain=False)
        self.rows: Rows = {}

    def plan(self) -> Planned:
        """The next call, drawn at random."""
        self._number += 1
        kinds = [self._upsert, self._update, self._delete, self._read] * 3 + [self._maintain]
        return self._rng.choice(kinds)()

    def _upsert(self) -> Planned:
        new = {f"r{self._rng.randrange(ROWS)}": self._number for _ in range(self._rng.randrange(1, 20))}
        vectors, metadatas = VECTORS[[int(id[1:]) for id in new]], [{"n": n} for n in new.values()]
        return Planned("upsert", lambda: self.store.upsert(list(new), vectors, metadatas), self.rows | new)

    def _update(self) -> Planned:
        new = dict.fromkeys((id for id in self.rows if self._rng.random() < 0.1), self._number)
        metadatas = [{"n": n} for n in new.values()]
        return Planned("update", lambda: self.store.update(list(new), metadatas), self.rows | new)

    def _delete(self) -> Planned:
        low = self._rng.randrange(self._number)
        where = {"n": {"$gte": low, "$lt": low + 5}}
        after = {id: n for id, n in self.rows.items() if not low <= n < low + 5}
        return Planned("delete", lambda: self.store.delete(where=where), after)

    def _read(self) -> Planned:
        where = {"n": {"$gte": self._rng.randrange(self._number)}}
        reads: dict[str, Callable[[], object]] = {
            "query": lambda: self.store.query(VECTORS[0], k=5, where=where),
            "query_batch": lambda: self.store.query_batch(VECTORS[:3], k=5),
            "get": lambda: self.store.get(["r1", "r2"]),
            "scan": lambda: list(self.store.scan(where)),
        }
        name = self._rng.choice(list(reads))
        return Planned(name, reads[name], self.rows)

    def _maintain(self) -> Planned:
        calls: dict[str, Callable[[], object]] = {
            "optimize": self.store.optimize,
            "verify": self.store.verify,
            "backup": self._backup,
            "open": self._open,
        }
        name = self._rng.choice(list(calls))
        return Planned(name, calls[name], self.rows)

    def _backup(self) -> None:
        target = self._folder / "backup.mrl"
        shutil.rmtree(target, ignore_errors=True)
        self.store.backup(target)

    def _open(self) -> None:
        with mrlstore.open(self._path, auto_maintain=False) as opened:
            opened.count({"n": 1})

    def look(self, store: Any) -> Rows:
        """All rows, found in three ways that must agree."""
        found = {record.id: record.metadata["n"] for record in store.scan()}
        hits = store.query(VECTORS[0], k=ROWS, exact=True)
        assert {hit.id: hit.metadata["n"] for hit in hits} == found
        low = self._rng.randrange(self._number)
        by_filter = store.query(VECTORS[0], k=ROWS, exact=True, where={"n": {"$gte": low}}, include=())
        assert sorted(by_filter.ids) == sorted(id for id, n in found.items() if n >= low)
        return found

    def check(self, allowed: list[Rows]) -> None:
        """All or nothing was done, both handles see it, and both may write."""
        found = self.look(self.store)
        assert found in allowed, "done in part"
        assert self.look(self.other) == found, "the other handle sees something else"
        self.other.upsert(["r0"], VECTORS[:1], [{"n": self._number}])
        self.rows = found | {"r0": self._number}


def free(pipe: Pipe, folder: str, seconds: float, seed: int) -> None:
    """Interrupt calls at any time; sends (calls, calls that were interrupted, what went wrong)."""
    rng = random.Random(seed)
    bench = Bench(Path(folder), rng)
    lasts: dict[str, float] = collections.defaultdict(lambda: 0.01)  # seconds, for each kind of call
    kept: list[BaseException] = []  # as an interactive interpreter keeps the last exception, with its frames
    calls = interrupted = 0
    wrong: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        planned, begun = bench.plan(), time.monotonic()
        calls += 1
        try:
            allowed = [planned.after]
            try:
                with Timer(rng.random() * lasts[planned.name]):
                    planned.run()
                lasts[planned.name] = 1.2 * (time.monotonic() - begun)
            except KeyboardInterrupt as error:
                kept[:] = [error]
                interrupted += 1
                lasts[planned.name] *= 1.1
                allowed.append(bench.rows)
            bench.check(allowed)
        except BaseException:
            wrong.append(f"call {calls}, {planned.name}: {traceback.format_exc()}")
    wrong += [problem.what for problem in bench.store.verify().problems]
    pipe.send((calls, interrupted, wrong))
