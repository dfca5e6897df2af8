"""mrlstore ship and mrlstore restore."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mrlstore

from .conftest import Run


def test_ship_once_list_and_restore(filled: Path, tmp_path: Path, run: Run) -> None:
    home = tmp_path / "home"
    shipped = run("ship", filled, home, "--once")
    assert shipped.code == 0 and "1 snapshot" in shipped.out
    again = run("ship", filled, home, "--once", "--json").json
    assert again["epoch"] == 2 and again["behind_s"] == 0
    listed = run("restore", home, "--list", "--json").json
    assert [each["rows"] for each in listed] == [20, 20]
    assert listed[0]["name"] in run("restore", home, "--list").out
    restored = run("restore", home, tmp_path / "r.mrl")
    assert restored.code == 0 and "20 rows" in restored.out
    assert run("restore", home, tmp_path / "old.mrl", "--at", listed[1]["name"], "--json").json["rows"] == 20
    for name in ("r.mrl", "old.mrl"):
        with mrlstore.open(tmp_path / name, mode="r") as store:
            assert store.count() == 20 and store.verify().ok


def test_a_backup_to_a_url(filled: Path, tmp_path: Path, run: Run) -> None:
    url = (tmp_path / "home").as_uri()
    assert f"Backed up 20 rows to {url}" in run("backup", filled, url).out
    assert run("backup", filled, url, "--json").json["rows"] == 20, "a second one, of what has changed"
    assert run("restore", url, tmp_path / "r.mrl", "--json").json["rows"] == 20
    assert run("backup", filled, tmp_path / "b.mrl", "--option", "region=x").code == 2


def test_exit_codes(filled: Path, tmp_path: Path, run: Run) -> None:
    assert run("restore", tmp_path / "nothing", tmp_path / "r.mrl").code == 3
    assert run("restore", tmp_path / "nothing").code == 2
    assert run("ship", filled, tmp_path / "home", "--once").code == 0
    assert run("restore", tmp_path / "home", filled).code == 4
    assert run("ship", filled, "ftp://host/x", "--once").code == 2
    assert run("ship", filled, tmp_path / "home", "--once", "--option", "region").code == 2
    assert run("ship", filled, tmp_path / "home", "--once", "--option", "region=x").code == 2
    assert run("ship", tmp_path / "nothing.mrl", tmp_path / "home", "--once").code == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_a_last_snapshot(filled: Path, tmp_path: Path, number: int) -> None:
    home = tmp_path / "home"
    command = [
        sys.executable,
        "-m",
        "mrlstore.cli",
        "ship",
        str(filled),
        str(home),
        "--every",
        "3600",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(home.glob("snapshots/*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        with mrlstore.open(filled) as store:
            generation = store.upsert(["late"], None).generation
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert json.loads(out)["generation"] == generation
