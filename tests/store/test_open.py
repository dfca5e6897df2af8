"""Opening and creating: modes, dimensions, paths that are no store."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore import CorruptStore, InvalidInput, StoreExists, StoreNotFound
from mrlstore.embedders import LocalEmbedder
from tests.children import Child, Pipe, children
from tests.oracle import Oracle, assert_same_rows
from tests.pressure.test_interrupts import Interrupt


def test_creates_and_opens_again(path: Path, opened: Any) -> None:
    with opened() as store:
        store.upsert(["a"], np.eye(4, dtype=np.float32)[:1], [{"x": 1}], ["doc"])
    again = opened()
    assert len(again) == 1
    assert again.get(["a"])[0].metadata == {"x": 1}
    assert path.is_dir()


def test_dim_comes_from_the_first_write(opened: Any) -> None:
    store = opened()
    assert store.stats().dim is None
    store.upsert(["a"], np.ones((1, 1000), dtype=np.float32))
    assert (store.stats().dim, store.stats().prefix_dim) == (1000, 768)
    other = opened()
    assert (other.stats().dim, other.stats().prefix_dim) == (1000, 768)


def test_prefix_is_the_whole_of_a_short_vector(opened: Any) -> None:
    store = opened(dim=6)
    assert (store.stats().dim, store.stats().prefix_dim) == (6, 6)


def test_dim_given_at_creation_is_kept(path: Path, opened: Any) -> None:
    opened(dim=12, prefix_dim=5).close()
    store = opened()
    assert (store.stats().dim, store.stats().prefix_dim) == (12, 5)


def test_another_dim_than_the_stores_is_refused(opened: Any) -> None:
    opened(dim=12).close()
    with pytest.raises(InvalidInput, match=r"(?s)12.*13|13.*12"):
        opened(dim=13)
    assert opened(dim=12).stats().dim == 12


def test_another_dim_than_the_first_writes_is_refused(opened: Any) -> None:
    with opened() as store:
        store.upsert(["a"], np.ones((1, 7), dtype=np.float32))
    with pytest.raises(InvalidInput, match="7"):
        opened(dim=8)


@pytest.mark.parametrize("dim", [2, 3, 8192])
def test_dims_at_the_limits(opened: Any, dim: int) -> None:
    store = opened(dim=dim)
    rows = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)
    store.upsert(["a", "b", "c"], rows)
    assert store.query(rows[1], k=1).ids == ["b"]


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"dim": 1}, "dim"),
        ({"dim": 0}, "dim"),
        ({"dim": -3}, "dim"),
        ({"dim": 8193}, "dim"),
        ({"dim": 2.5}, "dim"),
        ({"dim": "768"}, "dim"),
        ({"dim": True}, "dim"),
        ({"dim": 8, "prefix_dim": 9}, "prefix_dim"),
        ({"dim": 8, "prefix_dim": 0}, "prefix_dim"),
        ({"dim": 8, "prefix_dim": -1}, "prefix_dim"),
        ({"dim": 8, "prefix_dim": 2.0}, "prefix_dim"),
        ({"mode": "w"}, "mode"),
        ({"mode": ""}, "mode"),
        ({"mode": None}, "mode"),
        ({"m": 1}, "m"),
        ({"m": -1}, "m"),
        ({"m": "16"}, "m"),
        ({"ef_construction": 0}, "ef_construction"),
        ({"ef_construction": "200"}, "ef_construction"),
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"embedder": "gemini"}, "embedder.*got a str"),
        ({"embedder": LocalEmbedder}, "embedder.*got the class LocalEmbedder"),
        ({"embedder": lambda text: [1.0]}, "embedder.*got a function"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_created(
    path: Path, options: dict[str, Any], culprit: str
) -> None:
    with pytest.raises(InvalidInput, match=culprit):
        mrlstore.open(path, **options)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_two_modes_never_create(path: Path, mode: Literal["r", "r+"]) -> None:
    with pytest.raises(StoreNotFound, match=path.name):
        mrlstore.open(path, mode=mode)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(StoreNotFound, match=path.name):
        mrlstore.open(path, mode=mode)
    assert list(path.iterdir()) == []
    mrlstore.open(path, dim=4).close()
    with mrlstore.open(path, mode="r+") as store:
        store.upsert(["a"], [[1, 2, 3, 4]])
        assert store.count() == 1


def test_store_not_found_is_a_file_not_found_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mrlstore.open(path, mode="r")


def test_read_mode_reads(opened: Any, path: Path) -> None:
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)))
    reader = opened(mode="r")
    assert reader.query(np.ones(4)).ids == ["a"]
    store.upsert(["b"], np.ones((1, 4)))
    assert len(reader) == 2


def test_a_close_that_was_interrupted_is_done_by_the_next(path: Path) -> None:
    for nth in range(1, 40):
        store = mrlstore.open(path, dim=4, auto_maintain=False)
        store.upsert(["a"], np.ones((1, 4)))
        with suppress(KeyboardInterrupt), Interrupt(nth):
            store.close()
        store.close()
        assert [found for found in apsw.connections() if found.filename.startswith(str(path))] == [], nth


@pytest.mark.parametrize("verb", ["upsert", "update", "delete", "clear", "optimize"])
def test_read_mode_refuses_every_write(opened: Any, verb: str) -> None:
    store = opened(dim=4)
    oracle = Oracle()
    for target in (store, oracle):
        target.upsert(["a"], np.ones((1, 4)), [{"x": 1}])
    reader = opened(mode="r")
    arguments: dict[str, tuple[Any, ...]] = {
        "upsert": (["b"], np.ones((1, 4))),
        "update": (["a"], [{"x": 2}]),
        "delete": (["a"],),
        "clear": (),
        "optimize": (),
    }
    with pytest.raises(InvalidInput, match="read|mode"):
        getattr(reader, verb)(*arguments[verb])
    assert_same_rows(store, oracle)


def test_exclusive_mode_must_create(opened: Any, path: Path) -> None:
    opened(mode="x", dim=4).close()
    with pytest.raises(StoreExists, match=path.name):
        mrlstore.open(path, mode="x")
    with pytest.raises(FileExistsError):
        mrlstore.open(path, mode="x")


@pytest.mark.parametrize("mode", ["a", "x", "r"])
def test_a_file_is_not_a_store(path: Path, mode: Any) -> None:
    path.write_bytes(b"not a folder")
    with pytest.raises(mrlstore.MrlStoreError, match=path.name):
        mrlstore.open(path, mode=mode)
    assert path.read_bytes() == b"not a folder"
    with pytest.raises(mrlstore.InvalidInput, match=rf"{path.name} is a file"):
        mrlstore.open(path / "below", mode=mode)


@pytest.mark.parametrize("mode", ["a", "x", "r"])
def test_a_folder_of_other_things_is_never_made_a_store(path: Path, mode: Any) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises((CorruptStore, StoreExists), match=path.name):
        mrlstore.open(path, mode=mode)
    assert [entry.name for entry in path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_becomes_a_store(opened: Any, path: Path) -> None:
    path.mkdir()
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)))
    assert len(store) == 1


def test_a_missing_parent_folder_is_told_or_made(tmp_path: Path) -> None:
    deep = tmp_path / "no" / "such" / "place.mrl"
    try:
        store = mrlstore.open(deep, dim=4)
    except (mrlstore.MrlStoreError, FileNotFoundError) as error:
        assert "such" in str(error)
        assert not (tmp_path / "no").exists()
    else:
        store.close()
        assert deep.is_dir()


@pytest.mark.parametrize("bad", [None, 3, 2.5, [], b"\xff"])
def test_a_path_must_be_a_path(bad: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InvalidInput, TypeError), match="path"):
        mrlstore.open(bad)
    assert list(tmp_path.iterdir()) == []


def test_a_string_and_a_path_are_alike(tmp_path: Path, opened: Any) -> None:
    with opened(str(tmp_path / "s.mrl"), dim=3) as store:
        store.upsert(["a"], np.ones((1, 3)))
    with opened(tmp_path / "s.mrl") as store:
        assert len(store) == 1


def test_a_relative_path_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with mrlstore.open("relative.mrl", dim=4, auto_maintain=False) as store:
        os.chdir("elsewhere")
        store.upsert([f"r{i}" for i in range(5000)], np.random.default_rng(0).normal(size=(5000, 4)))
        store.optimize()
        assert len(store) == 5000
        assert len(store.query(np.ones(4), k=5)) == 5
    assert (tmp_path / "relative.mrl" / "catalogue.db").is_file()


def test_a_symbolic_link_leads_to_the_same_store(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)))
    link = tmp_path / "link.mrl"
    link.symlink_to(tmp_path / "store.mrl")
    with mrlstore.open(link) as other:
        other.upsert(["b"], np.ones((1, 4)))
    assert len(store) == 2


def test_odd_but_lawful_names_of_folders(tmp_path: Path, opened: Any) -> None:
    for name in ("with space", "percent%41?x=1#y", "ünïcode ☃", "quote'\"", ":memory:", "-dash"):
        with opened(tmp_path / name, dim=4) as store:
            store.upsert(["a"], np.ones((1, 4)))
        assert (tmp_path / name / "catalogue.db").is_file(), name


def test_file_modes_follow_the_umask(tmp_path: Path, opened: Any) -> None:
    before = os.umask(0o077)
    try:
        with opened(dim=4) as store:
            store.upsert([f"r{i}" for i in range(5000)], np.random.default_rng(0).normal(size=(5000, 4)))
            for place in [tmp_path / "store.mrl", *(tmp_path / "store.mrl").rglob("*")]:
                assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0, place
    finally:
        os.umask(before)


def test_context_manager_closes(opened: Any) -> None:
    with opened(dim=4) as store:
        store.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(mrlstore.StoreClosed):
        len(store)


def test_context_manager_lets_errors_pass(opened: Any) -> None:
    with pytest.raises(KeyError, match="mine"), opened(dim=4) as store:
        raise KeyError("mine")
    with pytest.raises(mrlstore.StoreClosed):
        store.count()


def test_closing_twice_is_no_error(opened: Any) -> None:
    store = opened(dim=4)
    store.close()
    store.close()


CLOSED_CALLS: dict[str, tuple[Any, ...]] = {
    "upsert": (["a"], np.ones((1, 4))),
    "update": (["a"], [{"x": 1}]),
    "delete": (["a"],),
    "clear": (),
    "namespaces": (),
    "get": (["a"],),
    "count": (),
    "query": (np.ones(4),),
    "query_batch": (np.ones((2, 4)),),
    "stats": (),
    "optimize": (),
    "verify": (),
    "warm": (),
    "__len__": (),
    "__contains__": ("a",),
}


@pytest.mark.parametrize("verb", CLOSED_CALLS)
def test_a_closed_store_refuses(opened: Any, verb: str) -> None:
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)))
    store.close()
    with pytest.raises(mrlstore.StoreClosed):
        getattr(store, verb)(*CLOSED_CALLS[verb])


def test_a_closed_store_refuses_to_scan_and_back_up(opened: Any, tmp_path: Path) -> None:
    store = opened(dim=4)
    store.close()
    with pytest.raises(mrlstore.StoreClosed):
        list(store.scan())
    with pytest.raises(mrlstore.StoreClosed):
        store.backup(tmp_path / "copy.mrl")
    assert not (tmp_path / "copy.mrl").exists()


@pytest.mark.parametrize("other", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_store_is_neither_pickled_nor_copied(opened: Any, other: Any) -> None:
    store = opened(dim=4)
    store.upsert(["a"], np.ones((1, 4)))
    with pytest.raises(TypeError, match="give its path"):
        other(store)
    assert pickle.loads(pickle.dumps(store.query(np.ones(4)))).ids == ["a"]


def test_two_stores_do_not_mix(tmp_path: Path, opened: Any) -> None:
    first, second = opened(tmp_path / "1.mrl", dim=4), opened(tmp_path / "2.mrl", dim=4)
    first.upsert(["a"], np.ones((1, 4)))
    assert (len(first), len(second)) == (1, 0)


def test_closing_folds_the_log_into_the_database(path: Path) -> None:
    store = mrlstore.open(path, dim=4, auto_maintain=False)
    store.upsert(["a"], np.ones((1, 4)))
    assert (path / "catalogue.db-wal").exists()
    store.close()
    assert sorted(entry.name for entry in path.iterdir()) == ["LOCK", "catalogue.db", "parts"]


def test_an_empty_folder_keeps_its_mode_and_owner(path: Path, opened: Any) -> None:
    path.mkdir()
    os.chmod(path, 0o2700)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
        os.chmod(path, 0o2700)
    before = path.stat()
    opened(dim=4).upsert(["a"], np.ones((1, 4)))
    now = path.stat()
    assert (now.st_ino, now.st_mode, now.st_uid, now.st_gid) == (
        before.st_ino,
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    for entry in path.rglob("*"):  # setgid: the files belong to the folder's group
        assert entry.stat().st_gid == before.st_gid, entry


def test_the_current_folder_may_become_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with mrlstore.open(".", dim=4, auto_maintain=False) as store:
        store.upsert(["a"], np.ones((1, 4)))
    assert os.path.samefile(os.getcwd(), tmp_path / "here")
    with mrlstore.open(tmp_path / "here", mode="r") as store:
        assert "a" in store


def _open_as_another_user(pipe: Pipe, path: str) -> None:
    os.setgid(34)
    os.setuid(12)
    with mrlstore.open(path, dim=4, auto_maintain=False) as store:
        store.upsert(["a"], np.ones((1, 4)))
    pipe.send("done")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user of fewer rights")
def test_a_store_needs_no_right_to_the_folder_above() -> None:
    above = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (above / "s.mrl").mkdir()
        os.chmod(above, 0o755)
        os.chown(above / "s.mrl", 12, 34)
        with children(Child(_open_as_another_user, str(above / "s.mrl"))) as (child,):
            assert child.receive() == "done"
            child.finish()
        with mrlstore.open(above / "s.mrl", mode="r") as store:
            assert "a" in store
    finally:
        shutil.rmtree(above)


def _open_at_once(pipe: Pipe, path: str, name: str) -> None:
    pipe.send("ready")
    pipe.receive()
    with mrlstore.open(path, dim=4, auto_maintain=False) as store:
        store.upsert([name], np.ones((1, 4)))
    pipe.send("done")


@pytest.mark.parametrize("there", [False, True])
def test_processes_that_open_one_folder_at_once_share_one_store(tmp_path: Path, there: bool) -> None:
    for turn in range(3):
        path = tmp_path / f"{turn}.mrl"
        if there:
            path.mkdir()
        names = [f"p{i}" for i in range(4)]
        with children(*(Child(_open_at_once, str(path), name) for name in names)) as started:
            for verb in ("receive", "send", "receive"):
                for child in started:
                    child.send("go") if verb == "send" else child.receive()
            for child in started:
                child.finish()
        with mrlstore.open(path, mode="r") as store:
            assert sorted(record.id for record in store.scan()) == names
        assert not list(path.glob(".tmp-*"))
