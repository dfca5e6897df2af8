"""Kernels compiled ahead of time, for each level that this processor has, and at their first use."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.kernels import build, levels, library
from mrlstore.kernels.jit import kernel
from tests.shared import Shared

ROOT = Path(__file__).parents[2]
# How the system calls the features that LLVM has other names for.
IN_CPUINFO = {
    "sse3": "pni", "bmi": "bmi1", "sahf": "lahf_lm", "lzcnt": "abm", "avx512vnni": "avx512_vnni",
    "sse4.1": "sse4_1", "sse4.2": "sse4_2",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not levels.levels(), reason="for this processor nothing is compiled ahead")


@pytest.fixture(scope="module", autouse=True)
def _libraries(shared: Shared) -> None:
    """All libraries that this processor can run, as `make test` has built them before."""
    shared.value("libraries", lambda: build.build(build.supported_here()))


@functools.cache
def here() -> list[str]:
    """The names of the levels that this processor has."""
    return [level.name for level in build.supported_here()]


def run(kind: str, *command: str) -> None:
    """Run a module in a process whose kernels are of a kind: a level, or "numba" for the best of them."""
    best = next(level for level in levels.levels() if level.name == here()[0])
    environment = {**os.environ, "MRLSTORE_KERNELS": kind}
    if kind == "numba":
        environment = build.environment_for(best, MRLSTORE_KERNELS="numba")
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def answers(kind: str, shared: Shared) -> dict[str, Any]:
    """What the kernels of a kind answer, see tests.kernels.answers."""

    def ask() -> dict[str, Any]:
        path = ROOT / "build" / f"answers-{kind}-{os.getpid()}.npz"
        path.parent.mkdir(exist_ok=True)
        run(kind, "tests.kernels.answers", str(path))
        with np.load(path) as found:
            arrays = dict(found)
        path.unlink()
        return arrays

    found: dict[str, Any] = shared.value(f"answers-{kind}", ask)
    return found


def test_ahead_of_time_and_at_first_use_give_the_same_bits(shared: Shared) -> None:
    ahead, now = answers(here()[0], shared), answers("numba", shared)
    assert ahead.keys() == now.keys() and len(ahead) > 20
    for name in ahead:
        np.testing.assert_array_equal(ahead[name], now[name], err_msg=name)


@pytest.mark.parametrize("level", [one.name for one in levels.levels()])
def test_levels_agree(level: str, shared: Shared) -> None:
    if level not in here():
        pytest.skip("this processor does not have it")
    best, other = answers(here()[0], shared), answers(level, shared)
    for name in ("exact", "exact on the prefix", "scan", "walk"):
        scores, others = best[f"{name} scores"], other[f"{name} scores"]
        np.testing.assert_allclose(others, scores, rtol=0, atol=1e-6, err_msg=name)
        moved = best[f"{name} rows"] != other[f"{name} rows"]
        gaps = np.minimum(np.abs(np.diff(scores, prepend=np.inf)), np.abs(np.diff(scores, append=-np.inf)))
        assert (gaps[moved] <= 2e-6).all(), f"{name}: only rows with equal scores change places"
    np.testing.assert_array_equal(best["halves"], other["halves"])


@pytest.mark.parametrize("number", [0, -1], ids=["the best level", "the baseline"])
def test_the_tests_of_kernels_pass(number: int) -> None:
    """Those that have kernels of their own, in a process that takes them from a library."""
    level = here()[number]
    bits = "tests/kernels/test_scan.py"
    files = ["tests/kernels/test_dot.py", "tests/kernels/test_topk.py", "tests/kernels/test_texts.py"]
    files += [f"{bits}::test_numbers_that_are_not_below", f"{bits}::test_places_of_bytes_that_are_not_zero"]
    run(level, "pytest", "-q", "-x", *files)


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["numba", *(one.name for one in levels.levels())])
def test_all_tests_of_kernels_pass(kind: str) -> None:
    """Also those of searches and of the graph, for each kind of kernels."""
    if kind not in ("numba", *here()):
        pytest.skip("this processor does not have it")
    ignored = ["--ignore", "tests/kernels/test_levels.py", "--ignore", "tests/kernels/test_jit.py"]
    files = ["tests/kernels", "tests/test_group_search.py", "tests/test_index.py", "tests/test_fast_path.py"]
    run(kind, "pytest", "-q", "-x", *ignored, *files)


@pytest.mark.skipif(levels.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="Linux, x86")
def test_the_processor_says_what_the_system_says() -> None:
    found = library.manifest()
    assert found is not None
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).partition(":")[2].split())
    expected = {name for name in levels.FEATURES if IN_CPUINFO.get(name, name) in flags}
    assert levels.features_of(library.processor(found)) == expected


@pytest.mark.parametrize(
    ("words", "best"),
    [
        ([0, 0, 0, 0, 0], "baseline"),
        ([2**32 - 1] * 4 + [0], "baseline"),
        ([2**32 - 1] * 4 + [0b110], "v3"),
        ([2**32 - 1] * 4 + [0b11100110], "v4-vnni"),
        ([2**32 - 1, 2**32 - 1, 0, 2**32 - 1, 0b11100110], "v4"),
        ([2**32 - 1, 0, 2**32 - 1, 2**32 - 1, 0b11100110], "baseline"),
    ],
)  # fmt: skip
def test_a_level_needs_all_its_features_and_registers_that_are_saved(
    words: list[int], best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "machine", lambda: "x86_64")
    assert [level.name for level in levels.supported(lambda: words)][0] == best
    assert levels.supported(lambda: words)[-1].name == "baseline"


@kernel("float64(float64)")
def needs_a_library(number: Any) -> Any:
    return np.sin(number)


@kernel("int64(int64[::1], int64)")
def raises(numbers: Any, at: Any) -> Any:
    if at > numbers.size:
        raise IndexError("beyond the end")
    return numbers[at]


@pytest.mark.parametrize(("one", "why"), [(needs_a_library, "sin"), (raises, "exception")])
def test_what_needs_more_than_the_processor_is_not_built(tmp_path: Path, one: Any, why: str) -> None:
    from mrlstore.kernels.objects import object_code

    with pytest.raises((build.CannotBuild, ValueError), match=why):
        (tmp_path / "one.o").write_bytes(object_code({"one": one}, "test_", processor=False))
        build.link(tmp_path / "one.o", tmp_path / "one.so")


@pytest.mark.parametrize("what", ["other sources", "another kind", "cut short", "no JSON", "gone"])
def test_what_does_not_fit_is_not_loaded(tmp_path: Path, what: str) -> None:
    for file in library.FOLDER.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert library.load(folder=tmp_path) is not None
    manifest = tmp_path / library.MANIFEST
    if what == "other sources":
        manifest.write_text(manifest.read_text().replace(library.source_digest(), "0" * 64))
    elif what == "another kind":
        manifest.write_text(manifest.read_text().replace(levels.machine(), "sparc"))
    elif what == "no JSON":
        manifest.write_text("{")
    else:
        for file in tmp_path.glob("*.so"):
            if what == "gone":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[:-100])
    assert library.load(folder=tmp_path) is None


def test_the_libraries_need_nothing_but_memory_moves() -> None:
    for file in library.FOLDER.glob("*.so"):
        listed = subprocess.run(["nm", "-D", "-u", file], capture_output=True, text=True, check=True).stdout
        assert {line.split()[-1] for line in listed.splitlines()} <= build.FROM_C
