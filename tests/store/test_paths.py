"""Paths to stores: names of every length, and what is no path to a folder here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import mrlstore
from mrlstore.cli import main
from mrlstore.exchange.migrate import migrate
from mrlstore.system.names import beside


@pytest.mark.parametrize("length", [200, 218, 219, 230, 254, 255])
@pytest.mark.parametrize("letter", ["a", "ä"])
def test_names_of_every_length(
    length: int, letter: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = (letter * length).encode()[:length].decode(errors="ignore")
    place = Path(name)
    try:
        with mrlstore.open(place, auto_maintain=False) as store:
            store.upsert(["a"], [[1.0, 2.0, 0.0]])
            store.backup(Path("b" + name[1:] if letter == "a" else "öb" + name[2:]))
    except mrlstore.InvalidInput as error:
        assert "bytes in all" in str(error)  # the whole path is too long for SQLite
        return
    np.save("rows.npy", np.eye(3, dtype=np.float32))
    assert migrate(place, "rows.npy").ok
    with mrlstore.open(place, mode="r") as store:
        assert len(store) == 4


def test_names_that_are_cut_stay_different() -> None:
    first, second = Path("x" * 254 + "1"), Path("x" * 254 + "2")
    suffix = ".migration.json"
    names = {beside(path, suffix).name for path in (first, second)}
    assert len(names) == 2 and all(len(os.fsencode(name)) <= 255 and name.endswith(suffix) for name in names)
    assert beside(Path("a/papers.mrl"), suffix) == Path("a/papers.mrl.migration.json")


WRONG = ["~", "~/papers.mrl", "~someone/x", ":memory:", "s3://bucket/papers.mrl", "file:///tmp/x", "s3:/b",
         "https://host/x", "gs://x"]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_path_to_a_folder_here(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (wrong, Path(wrong)):
        for mode in ("a", "x", "r"):
            with pytest.raises(mrlstore.InvalidInput, match="path"):
                mrlstore.open(path, mode=mode)
    assert main(["create", wrong]) == 2
    assert "path" in capsys.readouterr().err
    with mrlstore.open("here.mrl", auto_maintain=False) as store, pytest.raises(mrlstore.InvalidInput):
        store.backup(wrong)
    assert [entry.name for entry in tmp_path.iterdir()] == ["here.mrl"]


def test_such_names_are_there_for_those_who_mean_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("./~", "./:memory:", "a~b", "c:d"):
        mrlstore.open(name, auto_maintain=False).close()
    assert sorted(os.listdir(tmp_path)) == [":memory:", "a~b", "c:d", "~"]


def test_an_empty_store_is_true(tmp_path: Path) -> None:
    with mrlstore.open(tmp_path / "s.mrl") as store:
        assert len(store) == 0 and bool(store) and (store or None) is store
