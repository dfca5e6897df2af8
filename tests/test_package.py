"""Wheel and sdist as hatchling builds them: what is inside, and that the wheel alone does its work.

`make package` does the same with `build` and pip, and installs the dependencies into an empty environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mrlstore
from mrlstore.kernels.levels import levels

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    for target in ("wheel", "sdist"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def platform() -> str:
    """The platform that the wheel's name says."""
    return f"manylinux_2_17_{os.uname().machine}" if levels() else "any"


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name == f"mrlstore-{mrlstore.__version__}-py3-none-{platform()}.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"mrlstore-{mrlstore.__version__}.dist-info/METADATA").decode()
        entries = wheel.read(f"mrlstore-{mrlstore.__version__}.dist-info/entry_points.txt").decode()
    assert "mrlstore/py.typed" in names
    code = {name for name in names if name.startswith("mrlstore/kernels/machine_code/")}
    libraries = {f"mrlstore/kernels/machine_code/{level.name}.so" for level in levels()}
    assert code == ({*libraries, "mrlstore/kernels/machine_code/manifest.json"} if libraries else set())
    modules = {
        f"mrlstore/{file.relative_to(ROOT / 'mrlstore')}" for file in (ROOT / "mrlstore").rglob("*.py")
    }
    assert modules <= names
    console = {
        f"mrlstore/{file.relative_to(ROOT / 'mrlstore')}"
        for file in (ROOT / "mrlstore" / "server" / "console" / "static").rglob("*")
        if file.is_file()
    }
    assert len(console) > 5 and console <= names
    assert {name.split("/")[0] for name in names} == {
        "mrlstore",
        f"mrlstore-{mrlstore.__version__}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc"))]
    assert "mrlstore = mrlstore.cli:main" in entries
    needed = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert sorted(line.split()[1].split(">")[0] for line in needed) == ["apsw", "numba", "numpy"]


def test_the_sdist_has_what_tests_and_docs_need_and_no_caches(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "mkdocs.yml",
        "tools/make-venv.sh", "mrlstore/py.typed", "tests/conftest.py", "docs/examples/service/app.py",
    ):  # fmt: skip
        assert wanted in names, wanted
    strangers = ("__pycache__", ".venv", "site/", "build/", ".hypothesis", ".mypy_cache", ".pytest_cache")
    assert not [name for name in names if any(stranger in name for stranger in strangers)]


def test_the_wheel_alone_does_its_work(built: Path, tmp_path: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path / "installed")
    program = """
import sys
absent = ("click", "rich", "sklearn", "scipy", "pandas", "pyarrow", "pytest", "opentelemetry")
for name in absent if sys.argv[2] == "any" else (*absent, "numba", "llvmlite"):
    sys.modules[name] = None  # as where they are not installed
sys.path.insert(0, sys.argv[1])
import numpy as np
import mrlstore
from mrlstore.cli import main
assert mrlstore.__file__.startswith(sys.argv[1])
assert main(["--version"]) == 0
rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
with mrlstore.open("papers.mrl") as store:
    store.upsert([f"paper-{n}" for n in range(300)], rows)
    store.optimize()
    assert store.query(rows[7], k=1).ids == ["paper-7"]
    assert store.verify().ok
assert main(["stats", "papers.mrl"]) == 1
"""
    command = [sys.executable, "-I", "-W", "error", "-c", program, str(tmp_path / "installed"), platform()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"mrlstore {mrlstore.__version__}\n"
    assert done.stderr == "mrlstore: the command line needs click and rich: pip install 'mrlstore[cli]'\n"


CONTAINER = """
import sys
import time

for name in ("numba", "llvmlite"):
    sys.modules[name] = None  # importing them fails
sys.path.insert(0, sys.argv[1])
import numpy as np
import mrlstore

assert mrlstore.__file__.startswith(sys.argv[1])
rows = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
with mrlstore.open(sys.argv[2]) as store:
    store.upsert(["first", "second"], rows)
    assert store.query(rows[1], k=1).ids == ["second"]
print(f"the first answer took {time.process_time():.2f} s of processor time")
"""


@pytest.mark.skipif(not levels(), reason="for this processor nothing is compiled ahead of time")
def test_a_container_gets_its_first_answer_without_numba(built: Path, tmp_path: Path) -> None:
    """The package is read-only, there is no home and no cache folder."""
    (path,) = built.glob("*.whl")
    installed, data = tmp_path / "installed", tmp_path / "papers.mrl"
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(installed)
    for file in (*installed.rglob("*"), installed):
        file.chmod(0o555 if file.is_dir() else 0o444)
    before = sorted(installed.rglob("*"))
    command = [
        sys.executable,
        "-I",
        "-B",
        "-W",
        "error",
        "-c",
        CONTAINER,
        str(installed),
        str(data / "papers.mrl"),
    ]
    done = subprocess.run(command, cwd="/", env={"HOME": "/nonexistent"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing was compiled, and nothing is wrong"
    assert sorted(installed.rglob("*")) == before, "nothing is written into the package"
