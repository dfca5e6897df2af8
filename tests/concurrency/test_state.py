"""Whether anybody has committed: by the header of the wal-index where it is mapped, by SQLite where not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore import CorruptStore, StorageError
from mrlstore.api.opening import open_store
from mrlstore.catalogue import wal_index
from mrlstore.system.files import Files
from tests import inside
from tests.children import Child, Pipe, children

ELSEWHERE = """
import sys, numpy as np, mrlstore
with mrlstore.open(sys.argv[1], auto_maintain=False) as store:
    store.upsert([sys.argv[2]], np.ones((1, 4), np.float32))
"""
mapped = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no list of mappings here")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with mrlstore.open(tmp_path / "a store.mrl", dim=4, auto_maintain=False) as opened:
        opened.upsert(["first"], np.ones((1, 4), np.float32))
        yield opened


def statements(store: Any) -> list[str]:
    """What the watching connection is asked from now on."""
    asked: list[str] = []
    with inside.session(store).catalogue.connections.watcher() as connection:
        connection.set_exec_trace(lambda cursor, sql, bindings: asked.append(sql) or True)
    return asked


@mapped
def test_sqlite_is_asked_only_after_a_commit(store: Any) -> None:
    state = inside.session(store).catalogue.state
    before, asked = state(), statements(store)
    for _ in range(50):
        assert state() == before
    assert not asked
    store.upsert(["second"], np.ones((1, 4), np.float32))
    assert state() != before
    assert len(asked) == 1
    assert state() == state()
    assert len(asked) == 1


@pytest.mark.parametrize("known", [True, False])
def test_commits_of_others_are_seen_at_once(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(inside.WAL_MAPS, tmp_path / "absent")
    with mrlstore.open(store.path, mode="r") as reader:
        assert (inside.wal_headers(reader) is not None) <= known
        for number in range(3):
            subprocess.run([sys.executable, "-c", ELSEWHERE, str(store.path), str(number)], check=True)
            assert str(number) in reader.query(np.ones(4), k=10).ids
        store.delete(["0"])  # another handle in the same process
        assert "0" not in reader.query(np.ones(4), k=10).ids
        store.clear()
        assert reader.query(np.ones(4), k=10).ids == []


@mapped
def test_a_rollback_is_no_commit(store: Any) -> None:
    state, catalogue = inside.session(store).catalogue.state, inside.session(store).catalogue
    before = state()
    with pytest.raises(RuntimeError), catalogue.write() as write:
        write.connection.execute("UPDATE rows SET metadata = NULL")
        raise RuntimeError
    assert state() == before


@mapped
def test_the_mapping_is_found_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ctypes.create_string_buffer(b"x" * wal_index.HEADERS)
    start = ctypes.addressof(content)
    catalogue, maps = tmp_path / "with space" / "catalogue.db", tmp_path / "maps"
    monkeypatch.setattr(inside.WAL_MAPS, maps)

    def line(offset: str = "00000000", name: str = f"{catalogue}-shm", at: int = start) -> str:
        return f"{at:x}-{at + 32768:x} rw-s {offset} fe:00 1234    {name}\n"

    def found(*lines: str) -> bool:
        maps.write_text("7f00-7f01 rw-p 00000000 00:00 0\n" + "".join(lines))
        return wal_index.headers(catalogue) is not None

    assert found(line())
    assert bytes(wal_index.headers(catalogue)) == b"x" * wal_index.HEADERS
    assert found(line("00008000", at=start + 32768), line())
    assert not found()
    assert not found(line("00008000"))
    assert not found(line(name=f"{catalogue}-shm (deleted)"))
    assert not found(line(), line(at=start + 65536))
    maps.unlink()
    assert wal_index.headers(catalogue) is None


class Unwritable(Files):
    """What a user sees who may not write to the store's folder."""

    def writable(self, path: Path) -> bool:
        return False


def test_a_reader_waits_while_the_log_comes_or_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without write permission it cannot make -shm, which is missing for a moment beside the log."""
    with mrlstore.open(path, dim=4) as store:
        store.upsert(["a"], np.ones((1, 4)))
    connect, refusals = inside.connect, [apsw.ReadOnlyError("log without -shm")] * 3

    def refused_at_first(*arguments: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return connect(*arguments, **options)

    monkeypatch.setattr(inside.CONNECT, refused_at_first)
    with open_store(path, mode="r", files=Unwritable()) as store:
        assert "a" in store
    assert not refusals


def updated(pipe: Pipe, path: str, n: int) -> None:
    """Open the store as a writer and close it."""
    with mrlstore.open(path, auto_maintain=False) as writer:
        writer.update(["a"], [{"n": n}])


def write_elsewhere(path: Path, n: int) -> None:
    with children(Child(updated, str(path), n)) as (child,):
        child.finish()


@pytest.fixture
def overtakable(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A reader that can neither make nor map -shm, so it takes catalogue.db for one that never changes."""
    with mrlstore.open(path, dim=4, auto_maintain=False) as store:
        store.upsert(["a"], np.ones((1, 4)), [{"n": 0}], ["too long for the mirror of the tail " * 200])

    def refused(files: Files, path: Path, name: str, flags: int) -> Any:
        if flags & apsw.SQLITE_OPEN_READONLY and not flags & apsw.SQLITE_OPEN_URI:
            raise apsw.CantOpenError("no -shm")
        return inside.open_sqlite(files, path, name, flags)

    monkeypatch.setattr(inside.OPEN_SQLITE, refused)
    with open_store(path, mode="r", files=Unwritable()) as reader:
        yield reader


CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "get": ("by_id", lambda store: [record.metadata["n"] for record in store.get(["a"])]),
    "query": (
        "by_key",
        lambda store: [
            hit.metadata["n"] for hit in store.query(np.ones(4), include=("metadata", "document"))
        ],
    ),
    "scan": ("by_key", lambda store: [record.metadata["n"] for record in store.scan()]),
}


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("met", [None, CorruptStore("catalogue.db", "half of it"), apsw.CorruptError("torn")])
def test_what_was_read_while_a_writer_came_and_left_is_read_again(
    overtakable: Any, path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, met: Exception | None
) -> None:
    """Nobody waits for a reader without the log: it may read pages of two generations, or torn ones."""
    name, call = CALLS[verb]
    assert call(overtakable) == [0]
    rows = inside.module("mrlstore.catalogue.rows")
    real, turns = getattr(rows, name), [1]

    def overtaken(*arguments: Any, **options: Any) -> Any:
        found = list(real(*arguments, **options))
        if turns:
            turn = turns.pop()
            write_elsewhere(path, turn)
            if met is not None:
                raise met
        return iter(found)

    monkeypatch.setattr(rows, name, overtaken)
    assert call(overtakable) == [1]
    assert not turns


def test_a_store_that_a_writer_closes_while_it_is_opened_is_opened_again(
    overtakable: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = inside.module("mrlstore.catalogue.settings")
    real, turns = settings.load, [1]

    def torn(*arguments: Any) -> Any:
        if turns:
            turns.pop()
            write_elsewhere(path, 1)
            raise CorruptStore(path, "half of it")
        return real(*arguments)

    monkeypatch.setattr(settings, "load", torn)
    with open_store(path, mode="r", files=Unwritable()) as reader:
        assert reader.get(["a"])[0].metadata == {"n": 1}


def test_a_log_that_goes_while_it_is_read_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mrlstore.open(path, dim=4, auto_maintain=False) as store:
        store.upsert(["a"], np.ones((1, 4)))
        with open_store(path, mode="r", files=Unwritable()) as reader:
            rows = inside.module("mrlstore.catalogue.rows")
            real, errors = rows.by_id, [apsw.ReadOnlyError("no -shm any more"), apsw.CantOpenError("no log")]

            def gone(*arguments: Any) -> Any:
                if errors:
                    raise errors.pop()
                return real(*arguments)

            monkeypatch.setattr(rows, "by_id", gone)
            assert [record.id for record in reader.get(["a"])] == ["a"]


def test_a_reader_that_is_always_overtaken_is_told_so(
    overtakable: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrlstore.catalogue.connection.AGAIN_S", 0.05)
    rows = inside.module("mrlstore.catalogue.rows")
    real = rows.by_id

    def overtaken(*arguments: Any) -> Any:
        write_elsewhere(path, 1)
        return real(*arguments)

    monkeypatch.setattr(rows, "by_id", overtaken)
    with pytest.raises(StorageError, match="another process changed the store while it was read; call again"):
        overtakable.get(["a"])
