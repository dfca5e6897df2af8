"""What stores log: events of maintenance and damage, as lines for people and as fields for machines."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests import inside
from tests.conftest import Opened

ROWS = np.random.default_rng(5).standard_normal((3000, 16)).astype(np.float32)


def fill(store: Any, count: int = 300) -> None:
    store.upsert([f"row-{n}" for n in range(count)], ROWS[:count])


def events(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The records by event; each must tell its store and be of our logger."""
    found = {}
    for record in caplog.records:
        if record.name == "mrlstore":
            assert vars(record)["store"] in record.getMessage()
            found[vars(record)["event"]] = record
    return found


def test_maintenance_is_told_step_by_step(
    opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened()
    with caplog.at_level(logging.INFO, "mrlstore"):
        fill(store)
        store.optimize()
        fill(store, 200)
        store.optimize()
        store.backup(tmp_path / "copy.mrl")
        assert store.verify().ok
    found = events(caplog)
    assert set(found) >= {"flushed", "indexed", "merged", "optimized", "backed up", "verified"}
    assert all(record.levelno == logging.INFO for record in found.values())
    assert (found["flushed"].rows, found["indexed"].rows) == (200, 300)
    assert (found["merged"].rows, found["merged"].segments) == (300, 2)
    assert found["verified"].problems == 0
    assert found["merged"].getMessage().startswith(f"{store.path}: merged (segments=2, rows=300, seconds=")


def test_damage_and_its_repair_are_warnings(
    opened: Opened, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened()
    fill(store)
    store.optimize()
    store.close()
    (scales,) = path.glob("parts/*/codes.npy")
    with scales.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\xff" * 50)
    with caplog.at_level(logging.INFO, "mrlstore"), mrlstore.open(path, auto_maintain=False) as again:
        assert not again.verify().ok
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert again.query(ROWS[0], k=1).ids == ["row-0"]
        assert again.repair().ok
    found = events(caplog)
    failed = [record for record in caplog.records if vars(record).get("event") == "verified"][0]
    assert failed.levelno == logging.ERROR and vars(failed)["problems"] >= 1
    assert found["damaged"].levelno == logging.WARNING and found["damaged"].part == scales.parent.name
    assert found["repaired"].levelno == logging.WARNING
    assert (found["repaired"].segments, found["repaired"].lost_rows) == (1, 0)


def test_a_failure_in_the_background_is_told_with_its_store(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mrlstore.maintenance import steps

    def fail(*_: Any) -> bool:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(steps, "next_step", fail)
    with caplog.at_level(logging.INFO, "mrlstore"), mrlstore.open(path) as store:
        fill(store)
        for _ in range(500):
            if caplog.records:
                break
            inside.background_stop(store).wait(0.01)
    record = events(caplog)["maintenance failed"]
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert "no such luck" in record.getMessage()


def test_queries_and_writes_log_nothing(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    store = opened()
    with caplog.at_level(logging.DEBUG, "mrlstore"):
        fill(store)
        store.query(ROWS[0])
        store.delete(["row-1"])
    assert events(caplog) == {}
