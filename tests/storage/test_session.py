"""A session: keys that nobody else has, and everything let go of at its end."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import IdExists, InvalidInput
from tests import inside
from tests.oracle import nested_vectors
from tests.pressure.opcodes import AtOpcode, interrupt

DIM = 16
VECTORS = nested_vectors(3_000, DIM)
linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def maps(path: Path) -> int:
    """How many files of a store are mapped."""
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.fixture
def indexed(path: Path) -> Path:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(3_000)], VECTORS, [{"n": i} for i in range(3_000)])
        store.optimize()
        store.upsert(["tail"], VECTORS[:1], [{"n": -1}])
    return path


def ask(store: Any) -> None:
    store.query(VECTORS[1], where={"n": {"$gt": 5}})
    store.query(VECTORS[1], include=())
    store.get(["r1"], include=("vector",))


@linux
def test_an_open_store_holds_no_descriptor_for_its_parts(indexed: Path) -> None:
    ask(mrlstore.open(indexed, auto_maintain=False))
    gc.collect()
    before = descriptors()
    stores = [mrlstore.open(indexed, auto_maintain=False) for _ in range(20)]
    for store in stores:
        ask(store)
    assert maps(indexed) > 20 * 15, "the parts are mapped"
    assert descriptors() - before <= 20 * 6, "docs/operations.md says how many there are"
    for store in stores:
        store.close()


@linux
def test_a_closed_store_holds_nothing_though_the_object_lives(indexed: Path) -> None:
    before = descriptors()
    store = mrlstore.open(indexed, auto_maintain=False)
    ask(store)
    result = store.query(VECTORS[1])
    assert maps(indexed) > 15
    store.close()
    gc.collect()
    assert maps(indexed) == 0
    assert descriptors() <= before
    assert len(result) == 10 and repr(store).endswith("(closed)>")


def test_parsed_metadata_goes_with_the_store(path: Path) -> None:
    """What a filter over the tail parses is kept for the next one, and no longer than the store is open."""

    class Marked(dict[str, Any]):
        """A dict that can be referred to weakly."""

    def marked(text: str | None) -> Any:
        made.append(weakref.ref(value := Marked(n=1)))
        return value

    made: list[weakref.ref[Marked]] = []
    tail = inside.module("mrlstore.storage.tail")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "metadata_of", marked)
        store = mrlstore.open(path, dim=DIM, auto_maintain=False)
        store.upsert([f"r{i}" for i in range(50)], VECTORS[:50], [{"n": i} for i in range(50)])
        for _ in range(3):
            assert len(store.query(VECTORS[0], k=100, where={"n": 1}, exact=True, include=())) == 50
    assert len(made) == 50, "each is parsed once"
    assert all(ref() is not None for ref in made)
    store.close()
    gc.collect()
    assert not any(ref() is not None for ref in made)


def test_parsed_metadata_is_bounded_by_bytes(path: Path) -> None:
    with mrlstore.open(path, dim=2, auto_maintain=False) as store:
        texts = [{"n": i, "text": "x" * 60_000} for i in range(300)]
        store.upsert([f"r{i}" for i in range(300)], np.ones((300, 2)), texts)
        assert len(store.query([1.0, 1.0], k=300, where={"n": {"$gte": 0}}, include=())) == 300
        parsed = inside.session(store).snapshots.latest().tail.buffer.parsed
        assert 0 < len(parsed) < 300
        assert parsed.nbytes <= 64 * 1024 * 1024


def test_a_refused_first_batch_leaves_no_dim(path: Path) -> None:
    with mrlstore.open(path, auto_maintain=False) as store, mrlstore.open(path, auto_maintain=False) as other:
        store.upsert(["a"], None)
        with pytest.raises(IdExists):
            store.upsert(["a", "b"], np.ones((2, 5)), on_conflict="error")
        assert (store.dim, store.settings.dim) == (None, None)
        assert store.upsert(["b"], np.ones((1, 7))) == 1
        assert (store.dim, store.settings.dim) == (7, 7)
        with pytest.raises(InvalidInput):
            store.upsert(["c"], np.ones((1, 5)))
        with pytest.raises(InvalidInput):
            other.upsert(["c"], np.ones((1, 5)))


@pytest.fixture
def keys(path: Path) -> Iterator[Any]:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        yield inside.session(store)


def test_threads_take_different_keys(keys: Any) -> None:
    taken: list[int] = []

    def work() -> None:
        for count in (1, 3, 1, 7, 5_000, 2) * 20:
            first = keys.take_keys(count)
            taken.extend(range(first, first + count))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(set(taken)) == 4 * 20 * 5_014


@pytest.mark.parametrize("by", ["an exception", "a handler"])
def test_keys_are_taken_once_whatever_comes_between(keys: Any, by: str) -> None:
    """At each bytecode an exception is raised, or a signal handler takes keys itself."""
    taken: set[int] = set()

    def take(count: int = 3) -> None:
        first = keys.take_keys(count)
        fresh = set(range(first, first + count))
        assert not fresh & taken
        taken.update(fresh)

    def act() -> None:
        take()
        if by == "an exception":
            interrupt()

    take()
    with AtOpcode(0, interrupt) as counted:
        take()
    for nth in range(1, counted.seen + 1):
        for _ in range(3):
            try:
                with AtOpcode(nth, act):
                    take()
            except KeyboardInterrupt:
                assert by == "an exception"
        take()
