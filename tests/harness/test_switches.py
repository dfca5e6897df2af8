"""Each rule and checksum switched off turns its test red: the suite is able to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.switches import SWITCHES

CHEAP = ("rule 2, the watcher", "rule 9, syncs of files", "crc of catalogue rows")
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "name", [name if name in CHEAP else pytest.param(name, marks=pytest.mark.torture) for name in SWITCHES]
)
def test_a_rule_that_is_switched_off_turns_its_test_red(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MRLSTORE_TEST_SWITCH": name, "MRLSTORE_TORTURE": "0"}
    for variable in (
        "PYTEST_ADDOPTS",
        "PYTEST_XDIST_WORKER",
        "PYTEST_XDIST_WORKER_COUNT",
        "PYTEST_CURRENT_TEST",
    ):
        environment.pop(variable, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.harness.switches", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, "--basetemp", str(tmp_path / "inner"), SWITCHES[name].red],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 1, (
        f"pytest ended with {ran.returncode}: {ran.stdout[-3000:]}{ran.stderr[-1000:]}"
    )
    assert "failed" in ran.stdout.splitlines()[-1], ran.stdout[-2000:]
