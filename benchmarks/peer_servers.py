"""The servers that benchmarks.server_peers compares, each started as its documentation says."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.server.running import free_port, running

ROOT = Path(__file__).parents[1]


@dataclass
class PeerServer:
    """A server that runs, its port and its first process."""

    port: int
    pid: int

    def processor_s(self) -> float:
        """Processor seconds of all its processes so far."""
        first = psutil.Process(self.pid)
        total = 0.0
        for each in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
        return total


@contextlib.contextmanager
def _mrlstore(folder: Path, workers: int) -> Iterator[PeerServer]:
    with running(folder, "--workers", str(workers)) as server:
        yield PeerServer(server.port, server.process.pid)


@contextlib.contextmanager
def _chroma(folder: Path, workers: int) -> Iterator[PeerServer]:
    port = free_port()
    program = ROOT / ".venv" / "hosted-chroma" / "bin" / "chroma"
    with _started([program, "run", "--path", folder, "--port", str(port)], port) as server:
        yield server


@contextlib.contextmanager
def _milvus(folder: Path, workers: int) -> Iterator[PeerServer]:
    port = free_port()
    program = ROOT / ".venv" / "milvus" / "bin" / "milvus-lite"
    command = [program, "server", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
    with _started(command, port) as server:
        yield server


SERVERS: dict[str, Callable[[Path, int], AbstractContextManager[PeerServer]]] = {
    "mrlstore": _mrlstore, "chroma": _chroma, "milvus": _milvus
}  # fmt: skip


@contextlib.contextmanager
def _started(command: list[str | Path], port: int) -> Iterator[PeerServer]:
    """A server of somebody else, from when it takes connections until it is told to stop."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                break
            time.sleep(0.1)
        yield PeerServer(port, server.pid)
    finally:
        server.terminate()
        server.wait(120)
