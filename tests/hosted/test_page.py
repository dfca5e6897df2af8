"""The page "Leaving Pinecone without touching the code", run as printed on each version of the SDK."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosted.test_hosted import ROOT, SDKS
from tests.server.running import RunningServer, running

PAGE = (ROOT / "docs" / "integrations" / "pinecone-server.md").read_text(encoding="utf-8")
PYTHON = [sdk for sdk in SDKS if sdk.startswith("python")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    assert "$ mrlstore serve stores/\n" in PAGE
    with running(tmp_path_factory.mktemp("page") / "stores") as started:
        yield started


@pytest.mark.parametrize("sdk", PYTHON)
def test_the_page_runs_as_printed(server: RunningServer, sdk: str, tmp_path: Path) -> None:
    exported = dict(re.findall(r"^\$ export (\w+)=(\S+)$", PAGE, re.MULTILINE))
    assert exported.pop("PINECONE_CONTROLLER_HOST") == "http://127.0.0.1:5080"  # here a port that is free
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "PINECONE_CONTROLLER_HOST": server.url, **exported}
    command = [str(ROOT / ".venv" / f"hosted-{sdk}" / "bin" / "python"), str(tmp_path / "app.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
