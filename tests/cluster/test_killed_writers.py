"""Writers are killed, or sleep and wake up when others write: nothing acknowledged is lost or done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from mrlstore import cluster
from mrlstore.object_storage import open_storage
from mrlstore.shared_log import LogObjects
from tests.children import Child, ChildFailed, children
from tests.cluster.clusters import DIM
from tests.cluster.writing_child import REPLACED, ids_of, write_on
from tests.scale import figure

ROUNDS = figure(200, 20)
SHARDS = 2
LONGEST_S = 120.0
FOLDERS = 4  # of copies: some return after others have written


class Writing:
    """One process that writes, and how many of its writes are known to be in."""

    def __init__(self, home: Path, name: str, folder: Path) -> None:
        self.child = Child(write_on, home, folder, name)
        self.name, self.folder = name, folder
        self.acknowledged, self.replaced = 0, False

    def read(self) -> None:
        for message in self.child.heard():
            self.replaced |= message == REPLACED
            self.acknowledged = max(self.acknowledged, int(message) + 1)

    def wait(self, more: int) -> None:
        """Wait until so many further writes are acknowledged, or it is replaced."""
        wanted, deadline = self.acknowledged + more, time.monotonic() + LONGEST_S
        while self.acknowledged < wanted and not self.replaced:
            self.read()
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} acknowledges nothing")
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        assert self.child.process.pid is not None
        os.kill(self.child.process.pid, number)


def test_no_kill_and_no_sleep_loses_an_acknowledged_write(quick_path: Path) -> None:
    home, chance = quick_path / "home", random.Random(figure(0, 1))
    cluster.create(home, dim=DIM, m=4, ef_construction=20, shards=SHARDS)
    all_of_them: list[Writing] = []
    asleep: list[Writing] = []
    with cluster.connect(
        home, folder=quick_path / "reader", mode="r", poll_s=0, auto_maintain=False
    ) as reader:
        try:
            for number in range(ROUNDS):
                used = {one.folder for one in asleep}
                free = [path for n in range(FOLDERS) if (path := quick_path / f"disk{n}") not in used]
                writing = Writing(home, f"w{number}", chance.choice(free))
                all_of_them.append(writing)
                writing.wait(chance.randint(1, 5))
                time.sleep(chance.uniform(0, 0.02))
                if chance.random() < 0.5 or len(asleep) == FOLDERS - 1:
                    writing.signal(signal.SIGKILL)
                    writing.child.join()
                else:
                    writing.signal(signal.SIGSTOP)
                    asleep.append(writing)
                writing.read()
                if asleep and asleep[0] is not writing and chance.random() < 0.5:
                    woken = asleep.pop(0)
                    woken.signal(signal.SIGCONT)
                    assert not woken.child.join()
                    woken.read()
                    assert woken.replaced, "who wakes up after another has begun writes nothing"
                _check(reader, writing)
        finally:
            with children(*(one.child for one in all_of_them)):
                pass
        for one in all_of_them:
            _check(reader, one)
    assert sum(one.acknowledged for one in all_of_them) >= ROUNDS
    _check_once(home)


def _check(reader: cluster.ShardedStore, writing: Writing) -> None:
    """Everything that was acknowledged is there, with the right values, and found by its vector."""
    for number in range(writing.acknowledged):
        found = reader.get(ids_of(writing.name, number))
        assert [(row.metadata or {})["number"] for row in found] == [number] * len(ids_of("", 0))


def _check_once(home: Path) -> None:
    """No operation stands in the log twice."""
    storage = open_storage(home)
    for shard in range(SHARDS):
        log, epoch, done = LogObjects(storage, f"shards/{shard:04}"), 0, Counter[tuple[str, int]]()
        for place in log.places(0):
            entry = log.read(place.number)
            assert entry is not None
            if entry.epoch >= epoch:
                epoch = entry.epoch
                done.update((operation.client, operation.number) for operation in entry.operations)
        assert set(done.values()) == {1}
