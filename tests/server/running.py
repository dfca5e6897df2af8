"""A server in processes of its own, on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class RunningServer:
    """A server that was started, its address, and where its log goes."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[int]:
        """The process ids of those that have said that they serve, the newest last."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.log())]

    def stop(self) -> int:
        """Tell it to stop as a supervisor does, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def running(root: Path, *options: str, port: int | None = None) -> Iterator[RunningServer]:
    """Start `python -m mrlstore.server` on a folder, wait until it is ready, stop it at the end."""
    root.mkdir(parents=True, exist_ok=True)
    port = free_port() if port is None else port
    log = root.with_name(f"{root.name}-{port}.log")
    command = [sys.executable, "-m", "mrlstore.server", str(root), "--port", str(port), *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    server = RunningServer(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait(server)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


def _wait(server: RunningServer) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{server.log()}")
        try:
            with urllib.request.urlopen(f"{server.url}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server was not ready in time:\n{server.log()}")


def free_port() -> int:
    """A port that nobody listens on, just now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
