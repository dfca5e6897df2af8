"""The files in `deploy/`: what they name is there, and what they start works. No image is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Context

from mrlstore.cli.app import app as program
from mrlstore.server import ServerConfig
from mrlstore.server.api_keys import add_key
from tests.server.running import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "mrlstore.service").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICE = COMPOSE["services"]["mrlstore"]
VARIABLES = {f"MRLSTORE_{each.name.upper()}" for each in fields(ServerConfig)}
COMMANDS = set(program.list_commands(Context(program)))
DRAIN_S = ServerConfig(Path("stores")).drain_s
COMMAND = [sys.executable, "-m", "mrlstore.cli"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found = (line.partition(" ") for line in joined.splitlines() if line)
    return [(name, rest) for name, _, rest in found]


def environment() -> dict[str, str]:
    """What the image sets."""
    (given,) = [rest for name, rest in instructions() if name == "ENV"]
    return dict(pair.split("=", 1) for pair in given.split())


def exec_form(instruction: str) -> list[str]:
    """The words of the last instruction of this name, in its JSON form."""
    rest = [rest for name, rest in instructions() if name == instruction][-1]
    words: list[str] = json.loads(rest[rest.index("[") :])
    return words


def test_the_image_copies_what_is_there_and_what_is_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == kept and all((ROOT / path).exists() for path in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["path"]}
    assert needed <= kept


def test_extras_options_and_commands_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [DOCKERFILE, UNIT, (DEPLOY / "compose.yaml").read_text(), (DEPLOY / "mrlstore.env").read_text()]
    everything = "\n".join(texts)
    named = re.findall(r"\[([a-z,]+)\]\"", everything)
    assert named and all(extra in extras for each in named for extra in each.split(","))
    assert set(re.findall(r"MRLSTORE_[A-Z_]+", everything)) <= VARIABLES
    assert set(re.findall(r"(?:bin/mrlstore|--rm mrlstore) (\w+)", everything)) <= COMMANDS
    assert exec_form("ENTRYPOINT") == ["mrlstore"] and exec_form("CMD")[0] in COMMANDS


def test_the_image_runs_as_nobody_special_with_its_folders_as_volumes() -> None:
    assert [rest for name, rest in instructions() if name == "USER"] == ["mrlstore"]
    volumes = exec_form("VOLUME")
    assert volumes == [each.split(":")[1] for each in SERVICE["volumes"]]
    assert environment()["MRLSTORE_ROOT"] in volumes
    assert str(Path(environment()["MRLSTORE_API_KEYS"]).parent) in volumes
    assert ("EXPOSE", environment()["MRLSTORE_PORT"]) in instructions()
    assert SERVICE["ports"] == [f"127.0.0.1:5080:{environment()['MRLSTORE_PORT']}"]
    assert SERVICE["environment"].keys() <= VARIABLES
    assert (DEPLOY / SERVICE["build"]["context"] / SERVICE["build"]["dockerfile"]).exists()


def test_those_who_stop_it_wait_longer_than_requests_may_run() -> None:
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > DRAIN_S
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(stop) > DRAIN_S


def test_what_the_image_starts_is_healthy_and_stops_cleanly(tmp_path: Path) -> None:
    port, keys = free_port(), tmp_path / "keys.json"
    add_key(keys, "admin")
    given: dict[str, Any] = {**environment(), "MRLSTORE_ROOT": str(tmp_path / "stores")}
    given |= {"MRLSTORE_API_KEYS": str(keys), "MRLSTORE_PORT": str(port), "PATH": os.environ["PATH"]}
    given["PYTHONPATH"] = str(ROOT)
    check = [word.replace("5080", str(port)) for word in exec_form("HEALTHCHECK")]
    check[0] = sys.executable
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen([*COMMAND, *exec_form("CMD")], env=given, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(check, capture_output=True, timeout=30).returncode != 0:
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    command = re.escape("/opt/mrlstore/bin/mrlstore")
    unit, count = re.subn(f"^(ExecStart=){command}", rf"\g<1>{sys.executable}", UNIT, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / "mrlstore.service").write_text(unit, encoding="utf-8")
    verify = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "mrlstore.service")]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
