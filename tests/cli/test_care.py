"""mrlstore stats, info, optimize, verify, repair and backup."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import numpy as np

import mrlstore

from .conftest import Run


def test_stats(filled: Path, run: Run) -> None:
    found = run("stats", filled, "--json").json
    assert (found["rows"], found["dim"], found["damaged_parts"]) == (20, 8, 0)
    shown = run("stats", filled)
    assert shown.code == 0
    assert "some.mrl" in shown.out
    assert "20" in shown.out


def test_stats_of_an_empty_store(tmp_path: Path, run: Run) -> None:
    run("create", tmp_path / "s.mrl")
    assert run("stats", tmp_path / "s.mrl").code == 0
    assert run("info", tmp_path / "s.mrl").code == 0


def test_info(filled: Path, run: Run) -> None:
    found = run("info", filled, "--json").json
    assert found["settings"]["dim"] == 8
    assert found["namespaces"] == {"": 20}
    assert found["software"]["mrlstore"] == mrlstore.__version__
    assert "20 rows" in run("info", filled).out
    assert "mrlstore" in run("info").out


def test_optimize_puts_rows_into_a_graph(tmp_path: Path, run: Run) -> None:
    store = tmp_path / "s.mrl"
    vectors = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32)
    with mrlstore.open(store, auto_maintain=False) as opened:
        opened.upsert([str(n) for n in range(3000)], vectors)
    done = run("optimize", store, "--json")
    assert done.code == 0
    assert done.json["after"]["indexed_rows"] == 3000
    shown = run("optimize", store)
    assert shown.code == 0
    assert "3,000" in shown.out


def test_verify_says_that_all_is_well(filled: Path, run: Run) -> None:
    done = run("verify", filled)
    assert done.code == 0
    assert "is sound" in done.out
    assert run("verify", filled, "--json").json["ok"] is True


def test_verify_finds_damage(filled: Path, run: Run) -> None:
    assert run("optimize", filled).code == 0
    vectors = next(filled.rglob("vectors.npy"))
    content = bytearray(vectors.read_bytes())
    content[-5] ^= 0x10
    vectors.write_bytes(content)
    done = run("verify", filled)
    assert done.code == 5
    assert vectors.parent.name in done.out
    assert run("verify", filled, "--json").json["problems"]


def test_repair_mends_a_damaged_graph(tmp_path: Path, run: Run) -> None:
    store = tmp_path / "s.mrl"
    vectors = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32)
    with mrlstore.open(store, auto_maintain=False) as opened:
        opened.upsert([str(n) for n in range(3000)], vectors)
        opened.optimize()
    codes = next(store.rglob("codes.npy"))
    codes.write_bytes(codes.read_bytes()[:-8] + b"\x55" * 8)
    assert run("verify", store).code == 5
    done = run("repair", store)
    assert done.code == 0
    assert "Mended 1 segment" in done.out
    assert run("verify", store).code == 0
    assert run("query", store, "--id", "17", "-k", 1, "--json").json["hits"][0]["id"] == "17"


def test_damage_is_told_once_and_in_commands(filled: Path, run: Run) -> None:
    """In a process of its own, where nothing has set up logging."""
    assert run("optimize", filled).code == 0
    next(filled.rglob("columns.npy")).unlink()
    assert run("verify", filled).code == 5

    def said(*line: object) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "mrlstore.cli", *map(str, line)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stderr.splitlines()

    assert said("verify", filled) == (5, [])
    code, warning = said("count", filled, "--where", '{"even": true}')
    assert (code, len(warning)) == (0, 1)
    assert warning[0].startswith("mrlstore: warning: ")
    assert warning[0].endswith(f"slower: run mrlstore repair {filled}")
    assert said("repair", filled) == (0, [])


def test_repair_tells_the_vectors_that_are_lost(filled: Path, run: Run) -> None:
    assert run("optimize", filled).code == 0
    vectors = next(filled.rglob("vectors.npy"))
    vectors.write_bytes(vectors.read_bytes()[:-2] + b"\x55\x55")
    assert run("verify", filled).code == 5
    done = run("repair", filled)
    assert "1 row has lost the vector, and kept metadata and document. Upsert these ids" in done.out
    assert "lost the vector of row-" in done.out
    assert "set aside" in done.out
    assert run("count", filled).out == "20\n"


def test_repair_tells_many_lost_vectors_in_short(filled: Path, run: Run) -> None:
    with mrlstore.open(filled, auto_maintain=False) as opened:
        opened.upsert([f"more-{n}" for n in range(30)], np.ones((30, opened.dim)))
    assert run("optimize", filled).code == 0
    shutil.rmtree(next(filled.rglob("vectors.npy")).parent)
    found = run("verify", filled)
    assert "the vectors of 50 rows: the folder is missing" in found.out
    assert f"run mrlstore repair {filled}" in found.out and "get, scan and count work" in found.out
    done = run("repair", filled)
    assert "50 rows have lost the vector" in done.out
    assert "and 30 more; --json lists all of them" in done.out
    again = run("repair", filled)
    assert (again.code, "no segment had to be mended" in again.out) == (0, True)


def test_repair_of_a_damaged_catalogue_says_what_to_do(filled: Path, run: Run) -> None:
    connection = apsw.Connection(str(filled / "catalogue.db"))
    connection.execute("UPDATE rows SET crc = crc + 1 WHERE id = (SELECT min(id) FROM rows)")
    connection.execute("UPDATE removed SET crc = crc + 1")
    connection.execute("UPDATE settings SET crc = crc + 1 WHERE name = 'generation'")
    connection.close()
    done = run("repair", filled)
    assert done.code == 5
    assert "restore a backup" in done.out + done.err


def test_backup_is_a_whole_store(filled: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "copy.mrl"
    done = run("backup", filled, copy)
    assert (done.code, done.err) == (0, "")
    assert "20 rows" in done.out
    assert run("count", copy).out == "20\n"
    assert run("verify", copy).code == 0
    assert run("backup", filled, copy).code == 4
