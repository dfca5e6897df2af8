"""Each rule, checksum and sync switched off turns its test red: the suite is able to fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import Child, Pipe, children
from tests.harness.switches import NUMBERED, SWITCHES

ROOT = Path(__file__).parent.parent.parent
OUTER = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST")


def switched_off(pipe: Pipe, name: str, folder: str) -> None:
    """Run a switch's test in this process, forked for it; tell pytest's code and what it printed."""
    os.environ["MRLSTORE_TORTURE"] = "0"
    for variable in OUTER:
        os.environ.pop(variable, None)
    os.chdir(ROOT)
    said = Path(folder) / "said"
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    SWITCHES[name].off()
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", f"{folder}/inner"]
    code = int(pytest.main([*options, SWITCHES[name].red]))
    pipe.send((code, said.read_text()))


def in_an_environment(name: str, folder: str) -> tuple[int, str]:
    """The same in a process of its own, whose children know of the switch."""
    environment = {**os.environ, "MRLSTORE_TEST_SWITCH": name, "MRLSTORE_TORTURE": "0"}
    for variable in OUTER:
        environment.pop(variable, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.harness.switches", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, "--basetemp", f"{folder}/inner", SWITCHES[name].red],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "name",
    [
        name if number % 3 == 0 else pytest.param(name, marks=pytest.mark.torture)
        for number, name in enumerate(SWITCHES)
    ],
)
def test_a_rule_that_is_switched_off_turns_its_test_red(name: str, tmp_path: Path) -> None:
    if SWITCHES[name].children:
        code, said = in_an_environment(name, str(tmp_path))
    else:
        with children(Child(switched_off, name, str(tmp_path))) as (child,):
            code, said = child.receive()
            child.finish()
    assert code == 1, f"pytest ended with {code}: {said[-3000:]}"
    assert re.search(r"^\d+ failed", said.splitlines()[-1]), said[-2000:]


def test_every_numbered_rule_has_a_switch() -> None:
    numbers = {int(found[1]) for name in NUMBERED if (found := re.match(r"rule (\d+)", name))}
    assert numbers == set(range(1, 16))
