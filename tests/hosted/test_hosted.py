"""Unmodified clients of hosted databases against a server of two workers: `make test-hosted`.

MRLSTORE_HOSTED names the environments, which the Makefile makes: python5 to python10 and node4 to node9 have
Pinecone's SDK; qdrant, qdrant9 (version 1.9) and chroma the clients of these; langchain and llamaindex the
packages by which these frameworks use them. Without it nothing runs here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrlstore.server.api_keys import add_key
from tests.server.running import RunningServer, running

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
URLS = {"qdrant": "{}/qdrant", "qdrant9": "{}", "chroma": "{}", "langchain": "{}", "llamaindex": "{}"}
SDKS = os.environ.get("MRLSTORE_HOSTED", "").split()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    folder = tmp_path_factory.mktemp("hosted")
    key, _ = add_key(folder / "keys.json", "admin")
    with running(folder / "stores", "--workers", "2", "--api-keys", str(folder / "keys.json")) as started:
        yield started, key


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_of_all_calls(server: tuple[RunningServer, str], sdk: str) -> None:
    started, key = server
    place = ROOT / ".venv" / f"hosted-{sdk}"
    python = str(place / "bin" / "python")
    if sdk.startswith("node"):
        command = ["node", str(HERE / "app.mjs"), str(place), sdk]
    elif sdk in URLS:
        command = [python, str(HERE / f"{sdk}_app.py"), URLS[sdk].format(started.url), sdk]
    else:
        command = [python, str(HERE / "app.py"), sdk]
    environment = {
        "PATH": os.environ["PATH"],
        "PINECONE_CONTROLLER_HOST": started.url,
        "PINECONE_API_KEY": key,
        "QDRANT_API_KEY": key,
        "CHROMA_API_KEY": key,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}\n{started.log()[-2000:]}"
    assert done.stdout.count("ok ") >= (14 if sdk in ("llamaindex", "qdrant9") else 15)
