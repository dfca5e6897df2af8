"""Where kernels are cached, and what happens where they cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrlstore.kernels import jit, rerank, two_stage, unit_rows

SMALL = """
import numpy as np
from mrlstore.kernels import unit_rows
units, norms = np.array([[3, 4]], np.float32), np.empty(1)
assert unit_rows.normalise(units, 1, norms)
assert abs(norms[0] - 0.6) < 1e-6 and abs(units[0, 1] - 0.8) < 1e-6
print("fine")
"""


def child(environment, code=SMALL):
    clean = {k: v for k, v in os.environ.items() if k not in ("MRLSTORE_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_one_signature_each_and_none_can_be_added():
    for one in (
        two_stage.search_walk,
        two_stage.search_scan,
        rerank.rerank,
        rerank.exact,
        unit_rows.normalise,
    ):
        assert len(one.ready().signatures) == 1
        with pytest.raises(TypeError):
            one("no", "such", "arguments")


def test_a_second_process_takes_kernels_from_the_cache(tmp_path):
    assert child({"MRLSTORE_CACHE_DIR": str(tmp_path)}) == "fine"
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert len(files) == 2
    code = SMALL + "print(sum(unit_rows.normalise.ready().stats.cache_hits.values()))"
    assert child({"MRLSTORE_CACHE_DIR": str(tmp_path)}, code) == "1"
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}


def test_a_damaged_cache_is_compiled_over(tmp_path):
    assert child({"MRLSTORE_CACHE_DIR": str(tmp_path)}) == "fine"
    for path in tmp_path.rglob("*.nb*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert child({"MRLSTORE_CACHE_DIR": str(tmp_path)}) == "fine"


def test_works_where_nothing_can_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file, where a folder would have to be")
    environment = {"MRLSTORE_CACHE_DIR": str(blocked), "XDG_CACHE_HOME": str(blocked), "HOME": str(blocked)}
    code = (
        "from mrlstore.kernels import jit\n"
        "jit.cache_folders = lambda: [__import__('pathlib').Path('/dev/null/none')]\n" + SMALL
    )
    assert child(environment, code) == "fine"


def test_the_key_holds_the_sources():
    folders = jit.cache_folders()
    assert all(jit.source_key() in folder.name for folder in folders)
    assert len(jit.source_key()) == 16


def test_numbas_own_cache_setting_is_left_alone(tmp_path):
    ours, global_one = tmp_path / "ours", tmp_path / "global"
    assert child({"MRLSTORE_CACHE_DIR": str(ours), "NUMBA_CACHE_DIR": str(global_one)}) == "fine"
    assert list(ours.rglob("*.nbi")) and not global_one.exists()


def test_import_compiles_nothing():
    code = (
        "from mrlstore.kernels import two_stage, rerank, links\n"
        "kernels = (two_stage.search_walk, two_stage.search_scan, rerank.exact, links.refine)\n"
        "assert all(k._ready is None for k in kernels)\n"
        "print('fine')"
    )
    assert child({}, code) == "fine"


def test_import_of_the_searched_unit_brings_no_numba():
    code = (
        "import sys, mrlstore.search.group_search, mrlstore.index.build, mrlstore.index.codes\n"
        "assert not {'numba', 'hnswlib'} & set(sys.modules)\n"
        "print('fine')"
    )
    assert child({}, code) == "fine"
    assert Path(jit.__file__).parent.name == "kernels"
