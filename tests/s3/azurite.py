"""Azurite, Microsoft's emulator of Azure's blobs, in a process of its own; it comes from npm."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCOUNT = "devstoreaccount1"  # both are the emulator's, and known to everybody
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
ROOT = Path(__file__).parents[2]


def program() -> str | None:
    """Where azurite-blob is: in .venv/azurite, as `make test-s3` installs it, or on the path."""
    own = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    return str(own) if own.exists() else shutil.which("azurite-blob")


@contextmanager
def azurite(command: str, folder: Path) -> Iterator[int]:
    """Run it; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]
    server = subprocess.Popen([command, *options, "--skipApiVersionCheck", "--disableTelemetry"])
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def new_container(port: int) -> str:
    """Make a container; a request of one's own, since obstore makes none."""
    name = f"c{uuid.uuid4().hex}"
    date = email.utils.formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{ACCOUNT}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {ACCOUNT}:{signature}",
        },
    )
    urllib.request.urlopen(request, timeout=30).close()
    return name


def options(port: int) -> dict[str, Any]:
    return {
        "account_name": ACCOUNT,
        "account_key": KEY,
        "endpoint": f"http://127.0.0.1:{port}/{ACCOUNT}",
        "client_options": {"allow_http": True},
    }
