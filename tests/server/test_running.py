"""Servers in processes of their own: workers on one folder, killed and stopped, and slow clients."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.server.running import RunningServer, running

DIM = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers, with short limits for slow clients."""
    options = ("--workers", "2", "--header-s", "1", "--timeout-s", "2", "--max-body-mb", "1", "--access-log")
    with running(tmp_path_factory.mktemp("served") / "stores", *options) as started:
        yield started


def call(server: RunningServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request over a connection of its own, which any worker may take."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def rows(*ids: str) -> dict[str, Any]:
    return {"vectors": [{"id": id, "values": [1.0] * DIM} for id in ids]}


def test_what_one_worker_wrote_every_worker_reads(server: RunningServer) -> None:
    assert call(server, "POST", "/indexes", {"name": "shared", "dimension": DIM})[0] == 201

    def write_and_read(n: int) -> None:
        assert call(server, "POST", "/i/shared/vectors/upsert", rows(f"row-{n}"))[0] == 200
        status, found = call(server, "GET", f"/i/shared/vectors/fetch?ids=row-{n}")
        assert (status, list(found["vectors"])) == (200, [f"row-{n}"])

    def workers() -> set[str]:
        return {line.split()[3] for line in server.log().splitlines() if "POST /i/shared" in line}

    with ThreadPoolExecutor(4) as pool:  # so that one worker alone is not always the first to accept
        for first in range(0, 3_000, 30):
            list(pool.map(write_and_read, range(first, first + 30)))
            if len(workers()) == 2:
                break
    assert len(workers()) == 2


def test_two_servers_on_one_folder(server: RunningServer) -> None:
    with running(root_of(server)) as other:
        assert call(server, "POST", "/indexes", {"name": "both", "dimension": DIM})[0] == 201
        assert call(other, "POST", "/i/both/vectors/upsert", rows("a", "b"))[0] == 200
        assert call(server, "POST", "/i/both/describe_index_stats", {})[1]["totalVectorCount"] == 2
        assert call(other, "DELETE", "/indexes/both")[0] == 202
        for each in (server, other):
            assert call(each, "POST", "/i/both/vectors/upsert", rows("c"))[0] == 404
        assert call(server, "POST", "/indexes", {"name": "both", "dimension": 2})[0] == 201
        assert call(other, "GET", "/indexes/both")[1]["dimension"] == 2


def test_a_client_that_sends_no_headers_is_let_go(server: RunningServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-")
    assert call(server, "GET", "/health")[0] == 200  # the others are served meanwhile
    for connection in slow:
        connection.settimeout(20)
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        connection.close()


def test_a_client_that_sends_its_body_slowly_is_let_go(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /i/x/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        connection.settimeout(30)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 504")


def test_a_thousand_idle_connections_keep_nobody_out(server: RunningServer) -> None:
    idle = []
    for _ in range(1_000):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle.append(connection)
    assert all(connection.recv(1_000).startswith(b"HTTP/1.1 200") for connection in idle)
    assert call(server, "GET", "/ready")[0] == 200
    for connection in idle:
        connection.close()


def test_a_gigabyte_is_refused_unread(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /i/x/vectors/upsert HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        )
        connection.settimeout(30)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413")


def test_workers_that_are_killed_lose_nothing_and_come_back(server: RunningServer) -> None:
    assert call(server, "POST", "/indexes", {"name": "papers", "dimension": DIM})[0] == 201
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        n = 0
        while not stop.is_set():
            id = f"{writer}-{n}"
            # A connection of the worker that is killed breaks: that row is not acknowledged.
            with suppress(OSError, http.client.HTTPException):
                if call(server, "POST", "/i/papers/vectors/upsert", rows(id))[0] == 200:
                    acknowledged.append(id)
            n += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    known = set(server.workers())
    wait_for(lambda: len(acknowledged) > 10)
    os.kill(max(known), signal.SIGKILL)
    wait_for(lambda: set(server.workers()) > known)
    stop.set()
    for thread in threads:
        thread.join()
    assert call(server, "GET", "/ready")[0] == 200
    with mrlstore.open(root_of(server) / "papers.mrl", mode="r") as store:
        assert len(store.get(acknowledged, include=())) == len(acknowledged)
        assert store.verify().ok


def test_a_server_that_is_told_to_stop_finishes_what_runs(tmp_path: Path) -> None:
    with running(tmp_path / "stores") as server:
        assert call(server, "POST", "/indexes", {"name": "papers", "dimension": DIM})[0] == 201
        answered: list[int] = []

        def write() -> None:
            body = json.dumps(rows(*(f"row-{n}" for n in range(2_000)))).encode()
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.putrequest("POST", "/i/papers/vectors/upsert")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body[:1_000])
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.send(body[1_000:])
            answered.append(connection.getresponse().status)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert answered == [200]
        assert server.process.wait(timeout=60) == 0
    with mrlstore.open(tmp_path / "stores" / "papers.mrl", mode="r") as store:
        assert store.count() == 2_000


def test_a_port_that_is_taken_is_said(server: RunningServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mrlstore.server", str(tmp_path / "x"), "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "address already in use" in done.stderr


def test_the_command_serves_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    def serve(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mrlstore.cli", "serve", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    open_to_all = serve(str(tmp_path / "stores"), "--host", "0.0.0.0")
    assert open_to_all.returncode == 2 and "needs keys" in open_to_all.stderr
    assert open_to_all.stderr.count("\n") == 1 and not (tmp_path / "stores").exists()
    without_root = serve()
    assert without_root.returncode == 2 and "MRLSTORE_ROOT" in without_root.stderr


def root_of(server: RunningServer) -> Path:
    arguments = server.process.args
    assert isinstance(arguments, list)
    return Path(arguments[3])


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
