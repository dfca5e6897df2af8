"""The setting `graph`: what stands on disk, what older releases see of it, and what is refused."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.catalogue import settings
from mrlstore.maintenance import policy, steps
from mrlstore.system.job import UNWATCHED
from tests import inside
from tests.graphs.conftest import DIM, ROWS
from tests.nested import nested


def put(path: Path, name: str, value: Any) -> None:
    with mrlstore.open(path, auto_maintain=False) as store, inside.session(store).catalogue.write() as write:
        settings.put(write.connection, name, value)


def drop(path: Path, name: str) -> None:
    with mrlstore.open(path, auto_maintain=False) as store, inside.session(store).catalogue.write() as write:
        write.connection.execute("DELETE FROM settings WHERE name = ?", (name,))


def test_a_store_without_the_setting_is_one_by_mrlstore(filled: Path) -> None:
    drop(filled, "graph")  # as before there was a choice
    with mrlstore.open(filled, auto_maintain=False, graph="mrlstore") as store:
        assert store.settings.graph == store.stats().graph == "mrlstore"
        part = inside.session(store).snapshots.latest().segments[0]
        del part.segment.index.info["graph"]
        assert not policy.has_outdated_index(part, steps.index_settings(inside.session(store)))
        assert policy.has_outdated_index(part, policy.IndexSettings(store.prefix_dim, "hnswlib"))
        assert store.verify().rows_by_graph == {"mrlstore": ROWS}


def test_settings_that_a_release_does_not_know_are_left_alone(filled: Path) -> None:
    """Why `graph` needed no new format version: releases before it ignore it, as this one does others."""
    put(filled, "a setting of the future", "x")
    with mrlstore.open(filled, auto_maintain=False) as store:
        assert store.query(nested(ROWS, DIM)[3], 1, include=()).ids == ["3"]
        store.upsert(["one more"], nested(1, DIM, seed=5))
        store.optimize()
        assert not steps.next_step(inside.session(store), UNWATCHED)
        assert store.verify().ok
        with inside.session(store).catalogue.read() as connection:
            assert settings.get(connection, "a setting of the future") == "x"


def test_what_is_not_known_is_refused(filled: Path, tmp_path: Path) -> None:
    for wrong in ("vamana", "", 3):
        with pytest.raises(mrlstore.InvalidInput, match="graph"):
            mrlstore.open(tmp_path / "new.mrl", graph=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "new.mrl").exists()
    with (
        mrlstore.open(filled, auto_maintain=False) as store,
        pytest.raises(mrlstore.InvalidInput, match="graph"),
    ):
        store.set_graph("faiss")  # type: ignore[arg-type]
    with mrlstore.open(filled, mode="r") as reader, pytest.raises(mrlstore.InvalidInput, match="mode"):
        reader.set_graph("mrlstore")
    put(filled, "graph", "vamana")
    with pytest.raises(mrlstore.CorruptStore, match="'graph' is 'vamana'"):
        mrlstore.open(filled)


def test_a_changed_setting_in_the_catalogue_is_found(filled: Path) -> None:
    with (
        mrlstore.open(filled, auto_maintain=False) as store,
        inside.session(store).catalogue.write() as write,
    ):
        write.connection.execute("UPDATE settings SET value = 'hnswlib' WHERE name = 'graph'")
    with pytest.raises(mrlstore.CorruptStore, match="'graph' does not match its crc"):
        mrlstore.open(filled)


@pytest.mark.usefixtures("without_hnswlib")
def test_without_hnswlib_nothing_is_begun(filled: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"pip install 'mrlstore\[hnswlib\]'"):
        mrlstore.open(tmp_path / "new.mrl", graph="hnswlib")
    assert not (tmp_path / "new.mrl").exists()
    with mrlstore.open(filled, auto_maintain=False) as store:
        with pytest.raises(ImportError, match=r"pip install 'mrlstore\[hnswlib\]'"):
            store.set_graph("hnswlib")
        assert store.stats().graph == "mrlstore"


@pytest.mark.usefixtures("without_hnswlib")
def test_background_work_says_what_is_missing(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(filled, "graph", "hnswlib")
    with caplog.at_level(logging.WARNING, "mrlstore"), mrlstore.open(filled) as store:
        store.upsert(["one"], nested(1, DIM, seed=5))
        deadline = time.monotonic() + 20
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        failed = caplog.text
        store.upsert(["two"], nested(1, DIM, seed=6))  # wakes it again
        time.sleep(1.5)
        assert caplog.text == failed  # it is tried again, and said once
    (first, *_) = caplog.records
    assert "pip install 'mrlstore[hnswlib]'" in first.getMessage()
    assert first.levelname == "WARNING"
    assert not first.exc_info


def test_the_command_line(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mrlstore.cli import main

    assert main(["create", str(tmp_path / "new.mrl"), "--graph", "mrlstore", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["graph"] == "mrlstore"
    assert main(["set-graph", str(filled), "mrlstore", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["before"], done["graph"]) == ("mrlstore", "mrlstore")
    assert main(["set-graph", str(filled), "mrlstore"]) == 0
    assert "are built by mrlstore (before: mrlstore)" in capsys.readouterr().out
    assert main(["set-graph", str(filled), "faiss"]) == 2
    put(filled, "graph", "hnswlib")
    capsys.readouterr()
    assert main(["stats", str(filled)]) == 0
    assert f"hnswlib, {ROWS:,} rows by mrlstore" in capsys.readouterr().out
    with mrlstore.open(filled, mode="r") as store:
        assert asdict(store.settings)["graph"] == "hnswlib"
