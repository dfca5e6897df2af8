"""Servers of object storage over HTTP: S3 by moto, Azure by Azurite, and a stand-in for GCS."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tests.s3 import azurite, gcs_stand_in

pytest.importorskip("moto.server")
pytest.importorskip("obstore")

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
_RETRIES = {
    "max_retries": 6,
    "backoff": {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(milliseconds=100)},
    "retry_timeout": timedelta(seconds=30),
}


@dataclass(frozen=True)
class BucketServer:
    """A server, which other ports may lead to."""

    port: int
    new_bucket: Callable[[], str]  # makes one, and gives its URL
    reached: Callable[[int], dict[str, Any]]  # what `options=` takes, to reach it at a port

    def options(self, port: int | None = None) -> dict[str, Any]:
        return {**self.reached(port or self.port), "retry_config": _RETRIES}


@contextmanager
def moto() -> Iterator[BucketServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def new_bucket() -> str:
        name = f"b{uuid.uuid4().hex}"
        url, headers = f"http://127.0.0.1:{port}/{name}", {"Authorization": _SIGNED}
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30).close()
        return f"s3://{name}"

    def reached(at: int) -> dict[str, Any]:
        return {
            "endpoint": f"http://127.0.0.1:{at}",
            "access_key_id": "test",
            "secret_access_key": "a-secret",
            "region": "us-east-1",
            "client_options": {"allow_http": True, "timeout": "20s"},
        }

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
        yield BucketServer(port, new_bucket, reached)
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session", params=["s3", "azure", "gcs"])
def server(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    if request.param == "s3":
        with moto() as found:
            yield found
        return
    if request.param == "gcs":
        with gcs_stand_in.gcs_stand_in() as google:
            yield BucketServer(google.port, google.new_bucket, gcs_stand_in.options)
        return
    command = azurite.program()
    if command is None:
        pytest.skip("azurite-blob is not installed: npm install azurite")
    with azurite.azurite(command, tmp_path_factory.mktemp("azurite")) as port:
        yield BucketServer(port, lambda: f"az://{azurite.new_container(port)}", azurite.options)
