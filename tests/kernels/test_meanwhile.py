"""Searches by numpy while no machine code is ready: the same answers, and nobody waits for a compiler."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.index.group import Group
from mrlstore.kernels import code_cache, load, meanwhile, plain, unit_rows
from mrlstore.kernels.load import kernels
from mrlstore.kernels.meanwhile import Meanwhile
from tests.nested import nested


@pytest.mark.parametrize("wrong", [None, 0, 3])
def test_normalise_is_that_of_the_kernel(wrong: int | None) -> None:
    rows = nested(5, 40)
    if wrong is not None:
        rows[wrong] = 0
    ours, theirs = rows.copy(), rows.copy()
    norms, expected = np.zeros(5), np.zeros(5)
    assert plain.normalise(ours, 16, norms) == unit_rows.normalise(theirs, 16, expected) == (wrong is None)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(norms, expected, atol=1e-6)


def test_halves_have_the_bits_of_the_kernel() -> None:
    rows = nested(5, 40)
    lengths = np.linalg.norm(rows, axis=1).astype(np.float32)
    ours, theirs = np.zeros((6, 40), np.uint16), np.zeros((6, 40), np.uint16)
    address = rows.__array_interface__["data"][0]
    plain.unit_halves(address, lengths, ours)
    kernels().unit_halves(address, lengths, theirs)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dim", [40, 16])
@pytest.mark.parametrize("share", [None, 0.3, 0.0])
@pytest.mark.parametrize("block", [plain.BLOCK, 300])
def test_exact_is_that_of_the_kernel(
    dim: int, share: float | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "BLOCK", block)
    rng = np.random.default_rng(1)
    rows = nested(900, 40).astype(np.float16)
    rows[100:110] = rows[5]  # equal scores, which go by key
    rows[200] = np.nan
    inverse = (1 / np.linalg.norm(rows.astype(np.float32), axis=1)).astype(np.float32)
    group = Group(rows, inverse, rng.permutation(900), None)
    allowed = None if share is None else (rng.random(900) < share).astype(np.uint8)
    address = 0 if allowed is None else allowed.__array_interface__["data"][0]
    query = rows[5, :dim].astype(np.float32)
    query /= np.linalg.norm(query)
    found: list[Any] = []
    for exact in (plain.exact, kernels().exact):
        numbers, scores = np.full(12, -1), np.full(12, -9, np.float32)
        found.append((exact(group.table, query, dim, address, 12, numbers, scores), numbers, scores))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][2], found[1][2], atol=1e-6)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    """No machine code lies ready, and the child that compiles ends when it is told to."""
    made = Compiler()
    monkeypatch.setattr(code_cache, "is_full", lambda: False)
    monkeypatch.setattr(meanwhile, "compile_in_child", made.compile)
    ready, before = kernels(), list(load.loaded)
    load.loaded[:] = [Meanwhile(lambda: ready, load.become)]
    yield made
    made.end.set()
    load.loaded[:] = before


class Compiler:
    """Stands for the child."""

    def __init__(self) -> None:
        self.end, self.error = threading.Event(), ""

    def compile(self, folder: Path) -> None:
        assert folder.is_dir()
        assert self.end.wait(60)
        if self.error:
            raise subprocess.SubprocessError(self.error)


def ended(condition: Callable[[], bool]) -> None:
    """Wait for the thread that waits for the child."""
    for thread in threading.enumerate():
        if thread.name == "mrlstore-kernels":
            thread.join(60)
    assert condition()


def indexed(path: Path) -> mrlstore.Store:
    """A store with a graph."""
    store = mrlstore.open(path, auto_maintain=False)
    rows = nested(3_000, 64)
    store.upsert([str(i) for i in range(3_000)], rows, [{"n": i} for i in range(3_000)])
    store.optimize()
    return store


def test_queries_are_answered_by_numpy_until_kernels_are_compiled(
    path: Path, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = load.loaded[:]
    load.loaded[:] = [compiled[0].load()]  # to build the store with
    query = nested(1, 64, seed=9)[0]
    with caplog.at_level(logging.WARNING, "mrlstore"), indexed(path) as store:
        expected = store.query(query, k=7, exact=True)
        load.loaded[:] = compiled
        store.upsert(["fresh"], query[None])  # a new snapshot, whose searchers are made now
        found = store.query(query, k=8)
        assert found.ids == ["fresh", *expected.ids]
        assert {segment.path for segment in found.plan.segments} == {"exact"}
        some = store.query(query, k=3, where={"n": {"$lt": 50}})
        assert len(some.ids) == 3 and all(int(one) < 50 for one in some.ids)
        assert not kernels().compiled
        compiler.end.set()
        ended(lambda: kernels().compiled)
        assert "walk" in {segment.path for segment in store.query(query, k=8).plan.segments}
    assert [record.message for record in caplog.records].count(meanwhile.COMPILING) <= 1


def test_where_the_compiler_fails_numpy_goes_on(compiler: Compiler, caplog: pytest.LogCaptureFixture) -> None:
    compiler.error = "no space left"
    with caplog.at_level(logging.WARNING, "mrlstore"):
        compiler.end.set()
        ended(lambda: not kernels().compiled)
    assert "no space left" in caplog.text
    assert kernels().search_walk.signature.text, "an index build compiles it here"


def test_a_forked_child_looks_for_machine_code_itself(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not kernels().compiled
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    monkeypatch.setattr(load, "chosen", lambda: load.loaded[0].load())
    assert kernels().compiled


def test_builds_wait_for_compiled_kernels(compiler: Compiler) -> None:
    waiting = kernels()
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(waiting.insert_rows))
    thread.start()
    assert not taken
    compiler.end.set()
    thread.join(60)
    assert taken == [kernels().insert_rows]


@pytest.mark.torture
def test_a_child_fills_the_cache(tmp_path: Path) -> None:
    """With a real compiler, from an empty cache, as where no library fits."""
    program = """
import numpy as np
from mrlstore.kernels import library, load
library.load = lambda name=None: None
first = load.kernels()
assert not first.compiled
units, norms = np.array([[3, 4]], np.float32), np.empty(1)
assert first.normalise(units, 1, norms) and abs(norms[0] - 0.6) < 1e-6
load.warm()
assert load.kernels().compiled
"""
    environment = {**os.environ, "MRLSTORE_CACHE_DIR": str(tmp_path)}
    environment.pop("MRLSTORE_KERNELS", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("full-*"))
