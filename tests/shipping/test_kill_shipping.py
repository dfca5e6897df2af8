"""SIGKILL of processes that ship, at random moments: what `now` has acknowledged is there, and whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest

import mrlstore
from mrlstore.shipping import restore
from tests.children import Child, ChildFailed, children
from tests.scale import figure
from tests.shipping.ship_bodies import ship


def test_killed_shippers_leave_a_whole_copy_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    path, home, target = tmp_path / "s.mrl", tmp_path / "home", tmp_path / "restored.mrl"
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert(["first"], None)
    rng, acknowledged, states = random.Random(11), 0, dict[int, int]()
    for _ in range(figure(200, 8)):
        child = Child(ship, str(path), str(home))
        with children(child):
            assert child.receive() == "ships"
            messages = [child.receive() for _ in range(rng.randrange(12))]
            child.pipe.poll(rng.random() * 0.05)
            child.kill()
            messages += child.heard()
        for kind, generation, number in messages:
            if kind == "shipped":
                acknowledged = max(acknowledged, generation)
            else:
                states[generation] = number
        if acknowledged:
            assert restore(home, target).generation >= acknowledged
            with mrlstore.open(target, mode="r") as restored:
                assert restored.verify().ok
                numbers = {row.metadata["n"] for row in restored.scan(prefix="r") if row.metadata}
                newest = max(numbers)
                assert numbers == set(range(min(numbers), newest + 1)), (
                    "every batch up to the newest is there"
                )
                if (last := restored.get([f"c{newest % 7}"])) and last[0].metadata:
                    assert last[0].metadata["n"] == newest, "a batch is there whole"
                assert newest >= max((n for g, n in states.items() if g <= acknowledged), default=0)
            shutil.rmtree(target)
    with mrlstore.open(path) as store, store.ship(home, every_s=3600) as shipping:
        assert shipping.now().error is None
        assert restore(home, target).generation == store.generation
    assert acknowledged


def test_a_shipper_that_was_stopped_and_goes_on_replaces_nothing(tmp_path: Path) -> None:
    """SIGSTOP at a random moment, another process ships to the same place, SIGCONT."""
    path, home, target = tmp_path / "s.mrl", tmp_path / "home", tmp_path / "restored.mrl"
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert(["first"], None)
    rng = random.Random(13)
    for _ in range(figure(40, 2)):
        child = Child(ship, str(path), str(home))
        with children(child), mrlstore.open(path, mode="r") as store:
            for _ in range(1 + rng.randrange(12)):
                child.receive()
            child.pipe.poll(rng.random() * 0.05)
            pid = child.process.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            with store.ship(home, every_s=3600) as shipping:
                generation = shipping.now().generation
                os.kill(pid, signal.SIGCONT)
                with pytest.raises(ChildFailed, match="later; this process has stopped"):
                    while True:
                        child.receive()
                assert shipping.now().generation == store.generation >= generation
            assert restore(home, target).generation == store.generation
            with mrlstore.open(target, mode="r") as restored:
                assert restored.verify().ok
                assert [row.id for row in restored.scan()] == [row.id for row in store.scan()]
        shutil.rmtree(target)
