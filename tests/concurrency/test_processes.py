"""Several processes on one store: readers see one generation, writers lose nothing, forks work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.children import Child, children
from tests.concurrency import bodies
from tests.scale import figure
from tests.shared import Shared


def build_turned(path: Path) -> None:
    with mrlstore.open(path, dim=bodies.DIM, prefix_dim=bodies.PREFIX, auto_maintain=False) as store:
        store.upsert(bodies.IDS, bodies.vectors_of(0), [{"turn": 0}] * bodies.ROWS)
        store.optimize()


@pytest.fixture
def turned(path: Path, shared: Shared) -> Path:
    """A store at turn 0, indexed."""
    return shared.store("turned.mrl", path, build_turned)


def check(path: Path) -> None:
    with mrlstore.open(path, mode="r") as store:
        report = store.verify()
    assert report.ok, report.problems


@pytest.mark.parametrize("maintain", [False, True])
def test_readers_see_one_generation_while_a_writer_writes_and_optimizes(turned: Path, maintain: bool) -> None:
    turns = figure(120, 8)
    modes = ["r", "a", "r", "a"][: figure(4, 2)]
    writer = Child(bodies.write_turns, str(turned), turns, maintain)
    readers = [Child(bodies.read_turns, str(turned), turns, mode) for mode in modes]
    with children(writer, *readers):
        for child in (writer, *readers):
            assert child.receive() == "open"
        writer.send("go")
        assert writer.receive(figure(3600, 300)) == turns
        for reader in readers:
            assert reader.receive(figure(3600, 300)) >= 1
            reader.finish()
        writer.finish()
    check(turned)


def test_two_writers_with_optimize_in_both_lose_nothing(path: Path) -> None:
    batches = figure(60, 6)
    mrlstore.open(path, dim=bodies.DIM, prefix_dim=bodies.PREFIX, auto_maintain=False).close()
    writers = [Child(bodies.write_share, str(path), number, batches) for number in range(2)]
    with children(*writers):
        for writer in writers:
            assert writer.receive() == "open"
        for writer in writers:
            writer.send("go")
        for writer in writers:
            assert writer.receive(figure(3600, 300)) == "done"
            writer.finish()
    expected = {
        f"w{number}-{batch}-{i}"
        for number in range(2)
        for batch in range(batches)
        for i in range(50, 4200 if batch == batches // 2 else 150)
    }
    with mrlstore.open(path, auto_maintain=False) as store:
        assert {record.id for record in store.scan(include=())} == expected
        assert len(store) == len(expected)
        found = store.query(bodies.QUERY, k=10_000, exact=True)
        assert set(found.ids) <= expected
        assert len(found) == min(10_000, len(expected))
        store.optimize()
        assert {record.id for record in store.scan(include=())} == expected
    check(path)


def test_of_two_writers_exactly_one_makes_each_new_id(path: Path) -> None:
    mrlstore.open(path, dim=bodies.DIM, auto_maintain=False).close()
    rounds = figure(2000, 100)
    writers = [Child(bodies.contend, str(path), rounds) for _ in range(2)]
    with children(*writers):
        for writer in writers:
            assert writer.receive() == "open"
        for writer in writers:
            writer.send("go")
        won = [writer.receive() for writer in writers]
    assert sum(won) == rounds
    with mrlstore.open(path, mode="r") as store:
        assert len(store) == rounds


def test_a_reader_that_holds_an_old_snapshot(turned: Path) -> None:
    reader = Child(bodies.hold_snapshot, str(turned))
    with children(reader):
        reader.receive()
        with mrlstore.open(turned, auto_maintain=False) as store:
            for turn in range(1, 4):
                store.upsert(bodies.IDS, bodies.vectors_of(turn), [{"turn": turn}] * bodies.ROWS)
                store.optimize()
        reader.send("go on")
        turns, ids = reader.receive()
        assert ids == sorted(bodies.IDS), "each row once, none left out"
        assert turns <= {0, 3}, "rows of a generation that was never asked for"
        assert set(reader.receive()) == {3}
        reader.finish()
    check(turned)


@pytest.mark.parametrize("maintain", [False, True])
def test_fork_after_opening_as_gunicorn_preload(turned: Path, maintain: bool) -> None:
    child = Child(bodies.preload_and_fork, str(turned), maintain)
    with children(child):
        assert child.receive() == [0, 0, 0]
        child.finish()
    with mrlstore.open(turned, mode="r") as store:
        assert len(store) == bodies.ROWS + 3 * 160 + 2
    check(turned)


def test_fork_while_threads_query_and_write(turned: Path) -> None:
    forks = figure(100, 8)
    child = Child(bodies.fork_under_threads, str(turned), forks)
    with children(child):
        assert child.receive(figure(1200, 200)) == [0] * forks
        child.finish()
    check(turned)


def test_forked_children_that_end_or_close_do_not_disturb_the_parent(turned: Path) -> None:
    child = Child(bodies.fork_and_exit, str(turned))
    with children(child):
        assert child.receive() == [0, 0, 0, 0]
        child.finish()
    with mrlstore.open(turned, mode="r") as store:
        assert "after" in store
        assert "after closing" in store
    check(turned)


def test_processes_that_create_the_same_store_at_once_share_it(tmp_path: Path) -> None:
    for turn in range(figure(50, 3)):
        path = tmp_path / f"{turn}.mrl"
        makers: list[Any] = [Child(bodies.create_at_once, str(path), number) for number in range(4)]
        with children(*makers):
            for maker in makers:
                assert maker.receive() == "ready"
            for maker in makers:
                maker.send("go")
            for maker in makers:
                maker.receive()
                maker.finish()
        with mrlstore.open(path, mode="r") as store:
            assert sorted(record.id for record in store.scan()) == [f"by{number}" for number in range(4)]
        leftovers = [entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".mrl")]
        assert leftovers == [], "temporary folders of the losers"


def test_a_writer_sees_another_processs_rows_at_its_next_call(turned: Path) -> None:
    with mrlstore.open(turned, auto_maintain=False) as mine:
        assert mine.count({"turn": 1}) == 0
        writer = Child(bodies.write_turns, str(turned), 1, False)
        with children(writer):
            writer.receive()
            writer.send("go")
            assert writer.receive() == 1
            assert mine.count({"turn": 1}) == bodies.ROWS
            assert {(hit.metadata or {})["turn"] for hit in mine.query(bodies.QUERY, k=20)} == {1}
            assert len(mine) == bodies.ROWS
            writer.finish()
