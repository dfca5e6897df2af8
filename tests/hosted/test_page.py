"""The pages "Leaving ... without touching the code", run as printed on each version of the clients."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosted.test_hosted import ROOT, SDKS
from tests.server.running import RunningServer, running

PRINTED = "http://127.0.0.1:5080"  # here a port that is free
PAGES = {
    sdk: (ROOT / "docs" / "integrations" / f"{name}-server.md").read_text(encoding="utf-8")
    for sdk in SDKS
    for name in ["pinecone" if sdk.startswith("python") else sdk]
    if name in ("pinecone", "qdrant", "chroma")
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("page") / "stores") as started:
        yield started


@pytest.mark.parametrize("sdk", PAGES)
def test_the_page_runs_as_printed(server: RunningServer, sdk: str, tmp_path: Path) -> None:
    page = PAGES[sdk]
    assert "$ mrlstore serve stores/\n" in page and PRINTED in page
    page = page.replace(PRINTED, server.url)
    exported = dict(re.findall(r"^\$ export (\w+)=(\S+)$", page, re.MULTILINE))
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], **exported}
    command = [str(ROOT / ".venv" / f"hosted-{sdk}" / "bin" / "python"), str(tmp_path / "app.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
