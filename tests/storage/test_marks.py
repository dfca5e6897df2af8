"""The mark and the last operations of clients: of one moment with the rows, bounded, absent in old stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.catalogue import marks
from mrlstore.catalogue.marks import NO_MARK, ClientOperation, Mark
from mrlstore.writing import resolved_writes
from tests import inside
from tests.golden.test_golden import VERSIONS, unpack
from tests.oracle import nested_vectors

OLDER = [version for version in VERSIONS if int(version[1:]) < marks.FIRST_WITH_MARKS]


def mark_of(store: mrlstore.Store) -> Mark:
    mark = inside.session(store).snapshots.latest().mark
    assert isinstance(mark, Mark)
    return mark


def last(store: mrlstore.Store, client: str) -> ClientOperation | None:
    with inside.session(store).catalogue.read() as connection:
        return marks.last_operation(connection, client)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with mrlstore.open(tmp_path / "s.mrl", dim=8, auto_maintain=False) as store:
        yield store


def test_a_store_without_a_log_has_no_mark(store: mrlstore.Store) -> None:
    store.upsert(["a"], nested_vectors(1, 8))
    assert mark_of(store) == NO_MARK
    assert last(store, "client") is None


def test_the_mark_moves_with_the_rows_and_only_forward(store: mrlstore.Store, tmp_path: Path) -> None:
    session = inside.session(store)
    resolved_writes.apply(session, [], Mark(1, 5), [ClientOperation("client", 3, "7")])
    assert mark_of(store) == (1, 5) and last(store, "client") == ("client", 3, "7")
    for mark in (Mark(1, 5), Mark(1, 4), Mark(0, 6)):
        write = resolved_writes.RemoveRows("", None)
        with pytest.raises(mrlstore.InvalidInput, match="does not lie behind"):
            resolved_writes.apply(session, [write], mark, [ClientOperation("client", 4, "8")])
    assert mark_of(store) == (1, 5) and last(store, "client") == ("client", 3, "7")
    resolved_writes.apply(session, [], Mark(2, 6), [ClientOperation("client", 4, "8")])
    store.upsert(["a"], nested_vectors(1, 8))
    store.optimize()
    store.backup(tmp_path / "copy.mrl")
    for path in (tmp_path / "s.mrl", tmp_path / "copy.mrl"):
        with mrlstore.open(path, mode="r") as other:
            assert mark_of(other) == (2, 6) and last(other, "client") == ("client", 4, "8")


def test_the_last_operations_are_bounded(store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST_CLIENTS", 3)
    session = inside.session(store)
    for place in range(1, 8):
        resolved_writes.apply(session, [], Mark(1, place), [ClientOperation(f"client {place}", place, "x")])
    kept = [place for place in range(1, 8) if last(store, f"client {place}") is not None]
    assert kept == [5, 6, 7]
    with session.catalogue.read() as connection:
        assert marks.forgotten(connection) == 4
    with pytest.raises(mrlstore.InvalidInput, match="longer than 4096 bytes"):
        resolved_writes.apply(session, [], Mark(1, 8), [ClientOperation("client", 1, "x" * 5000)])


@pytest.mark.parametrize("version", OLDER)
def test_an_older_store_gains_a_mark_when_it_is_opened_for_writing(tmp_path: Path, version: str) -> None:
    path = unpack(version, tmp_path)
    with mrlstore.open(path, mode="r") as store:
        assert mark_of(store) == NO_MARK and store.verify().ok
        with mrlstore.open(path, auto_maintain=False) as writer:
            resolved_writes.apply(inside.session(writer), [], Mark(3, 9), [ClientOperation("client", 1, "x")])
        assert mark_of(store) == (3, 9), "a handle that was open before sees it, too"
        assert store.verify().ok
