"""A real S3 server over HTTP: moto's, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("obstore")

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True)
class S3Server:
    port: int

    def options(self, port: int | None = None) -> dict[str, Any]:
        """What `options=` takes, to reach it directly or through a proxy at a port."""
        return {
            "endpoint": f"http://127.0.0.1:{port or self.port}",
            "access_key_id": "test",
            "secret_access_key": "a-secret",
            "region": "us-east-1",
            "client_options": {"allow_http": True, "timeout": "20s"},
            "retry_config": RETRIES,
        }

    def bucket(self) -> str:
        """A new bucket."""
        name = f"b{uuid.uuid4().hex}"
        url = f"http://127.0.0.1:{self.port}/{name}"
        headers = {"Authorization": _SIGNED}
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30).close()
        return name


def _retries() -> dict[str, Any]:
    from datetime import timedelta

    backoff = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(milliseconds=100)}
    return {"max_retries": 6, "backoff": backoff, "retry_timeout": timedelta(seconds=30)}


RETRIES = _retries()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.1)
        yield S3Server(port)
    finally:
        server.kill()
        server.wait()
