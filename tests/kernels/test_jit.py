"""Where kernels are cached, and what happens where they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

from mrlstore.kernels import code_cache, jit, rerank, two_stage, unit_rows

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
        dispatcher: Any = one.ready()
        assert dispatcher.signatures == [(numba.int64,)]
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
        "from mrlstore.kernels import code_cache\n"
        "code_cache.cache_folders = lambda: [__import__('pathlib').Path('/dev/null/none')]\n" + SMALL
    )
    assert child(environment, code) == "fine"


def test_the_key_holds_the_sources():
    folders = code_cache.cache_folders()
    assert all(code_cache.source_key() in folder.name for folder in folders)
    assert len(code_cache.source_key()) == 16


def test_numbas_own_cache_setting_is_left_alone(tmp_path):
    ours, global_one = tmp_path / "ours", tmp_path / "global"
    assert child({"MRLSTORE_CACHE_DIR": str(ours), "NUMBA_CACHE_DIR": str(global_one)}) == "fine"
    assert list(ours.rglob("*.nbi")) and not global_one.exists()


def test_import_compiles_nothing():
    code = (
        "from mrlstore.kernels import two_stage, rerank, links\n"
        "kernels = (two_stage.search_walk, two_stage.search_scan, rerank.exact, links.refine)\n"
        "assert all(k._run is None for k in kernels)\n"
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


FORKING = """
import os, signal, sys, threading, time
from mrlstore.kernels import jit

compiling, codes = threading.Event(), []

def slowly(function, signature):
    compiling.set()
    if threading.current_thread() is not threading.main_thread():
        time.sleep(1)
    elif sys.argv[1] == "handler" and not codes:
        codes.append(None)
        os.kill(os.getpid(), signal.SIGUSR1)
    return lambda block: None

jit._compile = slowly
first, second = jit.kernel("void()")(lambda: None), jit.kernel("void()")(lambda: None)

def fork():
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends the child if it waits for ever
        assert jit.kernel("void()")(lambda: None)() is first() is None
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if sys.argv[1] == "thread":
    other = threading.Thread(target=first)
    other.start()
    compiling.wait()
    sys.exit(fork())
signal.signal(signal.SIGUSR1, lambda *_: codes.append(fork()))
second()
sys.exit(codes[-1])
"""


@pytest.mark.parametrize("where", ["thread", "handler"])
def test_a_fork_while_a_kernel_is_compiled(where):
    """By another thread, or by the thread itself, whose signal handler forks."""
    assert subprocess.run([sys.executable, "-c", FORKING, where], timeout=60).returncode == 0


PLANTED = """
import pathlib, pickle, sys

class Planted:
    def __reduce__(self):
        return open, (sys.argv[2], "w")

for file in pathlib.Path(sys.argv[1]).rglob("*.nbi"):
    file.write_bytes(pickle.dumps(Planted()))
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that a process has filled."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    assert child({"MRLSTORE_CACHE_DIR": str(folder)}) == "fine"
    return folder


def planted(filled: Path, folder: Path) -> Path:
    """A cache whose files make a file `run` beside it when they are read; the folder of the kernels in it."""
    shutil.copytree(filled, folder)
    subprocess.run([sys.executable, "-c", PLANTED, str(folder), str(folder.parent / "run")], check=True)
    return next(folder.glob("kernels-*"))


def test_a_cache_of_our_own_is_read(tmp_path, filled):
    planted(filled, tmp_path / "cache")
    assert child({"MRLSTORE_CACHE_DIR": str(tmp_path / "cache")}) == "fine"
    assert (tmp_path / "run").exists(), "or the test below shows nothing"


@pytest.mark.parametrize("who", ["group", "everybody", "link", "file link", "exchangeable"])
def test_a_cache_that_others_may_write_is_not_read(tmp_path, filled, who):
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    folder = planted(filled, cache)
    if who == "group":
        folder.chmod(0o770)
    elif who == "everybody":
        folder.chmod(0o707)
    elif who == "link":
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
    elif who == "file link":
        file = next(folder.glob("*.nbi"))
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
    else:
        cache.chmod(0o777)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    assert child({"MRLSTORE_CACHE_DIR": str(cache), **home}) == "fine"
    assert not (tmp_path / "run").exists()
    assert {path: path.read_bytes() for path in before} == before, "nor is it written"
    assert list((tmp_path / "home").rglob("*.nbi")), "the next folder is taken"
