"""Too little of something: disk, memory, descriptors, permission, time. Data survive, errors have types."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.children import Child, children
from tests.pressure import bodies
from tests.pressure.bodies import ids, rows
from tests.scale import figure

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_limit_on_file_sizes_is_a_full_disk(path: Path) -> None:
    with children(Child(bodies.limited_file_size, str(path))) as (child,):
        full, seen, before, after, sound = child.receive()
        child.finish()
    assert set(full) <= {"StorageFull", "StorageError", "StorePoisoned"} and "StorageFull" in full
    assert seen in (200, -1)  # -1: poisoned, and says so
    assert before == (200, ["r7"])
    assert (after, sound) == (5200, True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    with children(Child(bodies.full_disk, str(small_disk))) as (child,):
        words, optimized, alive, stored, found, sound = child.receive()
        child.finish()
    assert words == "StorageFull"
    assert optimized in ("StorageFull", "ok") and alive == "ok"
    assert stored == found > 0
    assert sound


def test_a_mount_point_may_be_a_store(small_disk: Path) -> None:
    """Nothing can be renamed over a mount point."""
    with mrlstore.open(small_disk, auto_maintain=False) as store:
        store.upsert(["a"], [[1.0, 2.0]])
    with mrlstore.open(small_disk, mode="r") as store:
        assert "a" in store


def test_a_full_disk_can_be_read(small_disk: Path) -> None:
    """SQLite wants 32 KB for itself before it reads a row of a store that nobody has open."""
    filled(small_disk / "s.mrl")
    with children(Child(bodies.filled_disk, str(small_disk))) as (child,):
        seen, writing, count, sound = child.receive()
        child.finish()
    assert seen == (3000, ["r5"], True)
    assert writing == "StorageFull"
    assert (count, sound) == (3001, True)


@pytest.mark.parametrize(
    "spare_mib", [pytest.param(2, marks=pytest.mark.torture), 12, pytest.param(40, marks=pytest.mark.torture)]
)
def test_optimize_without_memory(path: Path, spare_mib: int) -> None:
    with children(Child(bodies.little_memory, str(path), spare_mib)) as (child,):
        words, count, found, sound = child.receive()
        child.finish()
    assert words in ("MemoryError", "StorageError", "ok")
    assert spare_mib > 2 or words != "ok"
    assert (count, found, sound) == (20_000, ["r9"], True)


def test_no_descriptors_left(path: Path) -> None:
    with children(Child(bodies.no_descriptors, str(path))) as (child,):
        outcomes, found, sound = child.receive()
        child.finish()
    assert "StorageError" in outcomes and set(outcomes) <= {"StorageError", "StoreLocked", "ok"}
    assert (found, sound) == (["r5"], True)


def filled(path: Path) -> None:
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(ids(3000), rows(3000))
        store.optimize()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        path = Path(open_to_all) / "s.mrl"
        filled(path)
        with children(Child(bodies.read_only, str(path), NOBODY)) as (child,):
            seen, upserting, writing = child.receive()
            child.finish()
    assert seen == (3000, ["r5"], True)
    assert (upserting, writing) == ("InvalidInput", "StorageError")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_who_may_only_read_sees_what_others_write_later() -> None:
    """Nobody writes when it opens the store, so it starts without the log; later there is one."""
    import tempfile

    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        path = Path(open_to_all) / "s.mrl"
        filled(path)
        with children(Child(bodies.read_only_again, str(path), NOBODY)) as (child,):
            assert child.receive() == (3000, ["r5"])
            with mrlstore.open(path, auto_maintain=False) as writer:
                writer.upsert(ids(2, "new"), rows(2, seed=9))
                child.send("look")
                assert child.receive() == (3002, ["new0"])
                writer.delete(ids(100))
                writer.optimize()
                child.send("look")
                assert child.receive() == (2902, ["new0"])
            child.send("look")
            assert child.receive() == (2902, ["new0"])
            child.finish()


def test_a_file_system_that_may_only_be_read(small_disk: Path) -> None:
    filled(small_disk / "s.mrl")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with children(Child(bodies.read_only, str(small_disk / "s.mrl"), 0)) as (child,):
        seen, upserting, writing = child.receive()
        child.finish()
    assert seen == (3000, ["r5"], True)
    assert (upserting, writing) == ("InvalidInput", "StorageError")


def test_a_clock_that_jumps_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [2_000_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with mrlstore.open(path) as store:
        for turn in range(6):
            now[0] -= 86_400.0
            store.upsert(ids(500, f"{turn}-"), rows(500, seed=turn))
            assert store.query(rows(500, seed=turn)[3], k=1).ids == [f"{turn}-3"]
        store.optimize()
        assert len(store) == 3000 and store.verify().ok


def test_thousands_of_tiny_upserts_stay_small(path: Path) -> None:
    count = figure(10_000, 1_500)
    vectors = rows(100)
    with mrlstore.open(path) as store:
        for turn in range(count):
            store.upsert([f"r{turn % 100}"], vectors[turn % 100 : turn % 100 + 1], [{"turn": turn}])
        assert len(store) == 100
        assert {(record.metadata or {})["turn"] for record in store.scan()} == set(range(count - 100, count))
        store.optimize()
        stats = store.stats()
        assert stats.bytes_on_disk < 2_000_000
        assert stats.dead_rows == 0
        assert store.query(vectors[42], k=1).ids == ["r42"]


def test_many_namespaces(path: Path) -> None:
    count, each = figure(1_000, 120), 30
    vectors = rows(each)
    with mrlstore.open(path, auto_maintain=False) as store:
        for number in range(count):
            store.upsert(ids(each), vectors * (number + 1), namespace=f"n{number}")
            if number == count // 2:
                store.optimize()
        for settled in (False, True):
            if settled:
                store.optimize()
            assert store.namespaces() == {f"n{number}": each for number in range(count)}
            for number in (0, count // 2, count - 1):
                found = store.query(vectors[7], k=1, namespace=f"n{number}", include=("vector",))
                assert found.ids == ["r7"]
                assert found[0].vector == pytest.approx(vectors[7] * (number + 1), rel=2e-3, abs=1e-3)
        store.clear("n0")
        assert store.count(namespace=None) == (count - 1) * each
        assert len(store.query(vectors[7], namespace="n0")) == 0


def test_rows_at_their_limits(path: Path) -> None:
    limits = mrlstore.LIMITS
    deep: Any = 1
    for _ in range(limits.metadata_depth - 1):
        deep = {"d": deep}
    wide = {"text": "x" * (limits.metadata_bytes - len('{"text":""}'))}
    longest = "é" * (limits.document_bytes // 2)
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["i" * limits.id_bytes, "deep"], rows(2), [wide, {"d": deep}], [longest, None])
        store.optimize()
        found = store.get(["i" * limits.id_bytes, "deep"])
        assert found[0].metadata == wide and found[0].document == longest
        assert found[1].metadata == {"d": deep}
        assert store.count({"text": wide["text"]}) == 1
        for metadata in ({"text": wide["text"] + "x"}, {"d": {"d": deep}}):
            with pytest.raises(mrlstore.LimitExceeded):
                store.upsert(["more"], rows(1), [metadata])
        with pytest.raises(mrlstore.LimitExceeded):
            store.upsert(["more"], rows(1), documents=[longest + "x"])
        assert len(store) == 2


EXIT = """
import sys, time, numpy, mrlstore
store = mrlstore.open(sys.argv[1])
rows = numpy.random.default_rng(1).standard_normal((12000, 64)).astype("float32")
for start in range(0, 12000, 3000):
    store.upsert([f"r{i}" for i in range(start, start + 3000)], rows[start:start + 3000])
print("acknowledged", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("round", range(figure(10, 2)))
def test_the_interpreter_ends_during_background_work(path: Path, round: int) -> None:
    """The thread is flushing or indexing when the main thread runs out; nothing closes the store."""
    command = [sys.executable, "-c", EXIT, str(path), str(0.3 * round)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "acknowledged", "")
    with mrlstore.open(path, auto_maintain=False) as store:
        assert len(store) == 12_000
        store.optimize()
        assert store.verify().ok


def test_an_interrupt_in_optimize_leaves_everything_as_it_was(path: Path) -> None:
    with children(Child(bodies.interrupted, str(path))) as (child,):
        words, answer, count, flat, sound = child.receive()
        child.finish()
    assert words == "interrupted"
    assert (answer, count, flat, sound) == (["r9"], 20_001, 0, True)
