"""Servers of two workers whose disk is full, whose store is locked, whose index is replaced under load."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

import mrlstore
from tests.server.running import free_port, running

DIM = 256
MOUNTED = 'mount -t tmpfs -o size=12m tmpfs "$1" && shift && exec "$@"'


class Answered(NamedTuple):
    status: int
    content: Any
    retry_after: str | None


def call(port: int, method: str, path: str, body: Any = None) -> Answered:
    """One request over a connection of its own, which any worker may take."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        return Answered(answer.status, json.loads(text) if text else None, answer.getheader("Retry-After"))
    finally:
        connection.close()


def rows(prefix: str, count: int, dim: int = DIM) -> dict[str, Any]:
    chance = random.Random(prefix)
    return {
        "vectors": [
            {"id": f"{prefix}-{at}", "values": [chance.gauss(0, 1) for _ in range(dim)]}
            for at in range(count)
        ]
    }


def count(port: int) -> int:
    answer = call(port, "POST", "/i/papers/describe_index_stats", {})
    assert answer.status == 200, answer
    found: int = answer.content["totalVectorCount"]
    return found


class SmallDisk(NamedTuple):
    """A server on a file system of 12 MB that only its own processes see, and that folder seen from here."""

    port: int
    folder: Path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    unshare = shutil.which("unshare")
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    inside = tmp_path / "disk"
    inside.mkdir()
    tried = [unshare or "unshare", *options, "sh", "-c", MOUNTED, "sh", str(inside), "true"]
    if unshare is None or subprocess.run(tried, capture_output=True, timeout=30).returncode != 0:
        pytest.skip("no file system can be mounted here")
    port = free_port()
    server = [sys.executable, "-m", "mrlstore.server", str(inside / "stores"), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([*tried[:-1], *server, "--workers", "2"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield SmallDisk(port, Path(f"/proc/{process.pid}/root") / inside.relative_to("/"))
    finally:
        process.terminate()
        process.wait(60)


def refused(folder: Path, port: int, path: str, body: dict[str, Any]) -> bool:
    """Whether a write was done before one like it was refused because the disk is full.

    Room may come free behind the file that fills the disk, as the store's log begins again from its start.
    """
    done = False
    for _ in range(20):
        with suppress(OSError), open(folder / "rest", "ab") as file:
            while True:
                file.write(bytes(4_096))
                file.flush()
        answer = call(port, "POST", path, body)
        if answer.status == 507:
            return done
        assert answer.status == 200, answer
        done = True
    raise AssertionError("the disk is never full")


def test_a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room(
    small_disk: SmallDisk,
) -> None:
    port, folder = small_disk
    (folder / "ballast").write_bytes(bytes(4_000_000))
    assert call(port, "POST", "/indexes", {"name": "papers", "dimension": DIM}).status == 201
    stored = 0
    while (answer := call(port, "POST", "/i/papers/vectors/upsert", rows(f"{stored}", 200))).status == 200:
        stored += 200
        assert stored < 20_000
    assert answer.status == 507 and "full" in answer.content["error"]["message"]
    assert stored and count(port) == stored
    for n in range(4):  # of both workers
        stored += 200 * refused(folder, port, "/i/papers/vectors/upsert", rows(f"no-{n}", 200))
        found = call(port, "POST", "/i/papers/query", {"topK": 3, "vector": [1.0] * DIM})
        assert found.status == 200 and len(found.content["matches"]) == 3
        assert not refused(folder, port, "/indexes", {"name": f"other-{n}", "dimension": DIM})
        assert call(port, "GET", f"/indexes/other-{n}").status == 404
    assert count(port) == stored
    for name in ("rest", "ballast"):
        (folder / name).unlink()
    assert call(port, "POST", "/i/papers/vectors/upsert", rows("more", 200)).status == 200
    assert call(port, "POST", "/indexes", {"name": "other-0", "dimension": DIM}).status == 201
    assert count(port) == stored + 200


def test_a_store_that_another_process_keeps_locked_is_read_and_says_busy(tmp_path: Path) -> None:
    root = tmp_path / "stores"
    with running(root, "--workers", "2", "--timeout-s", "3") as server:
        assert call(server.port, "POST", "/indexes", {"name": "papers", "dimension": 8}).status == 201
        assert call(server.port, "POST", "/i/papers/vectors/upsert", rows("a", 5, 8)).status == 200
        other = apsw.Connection(os.fspath(root / "papers.mrl" / "catalogue.db"))
        other.execute("BEGIN IMMEDIATE")
        answers: list[Answered] = []
        writers = [
            threading.Thread(
                target=lambda n: answers.append(
                    call(server.port, "POST", "/i/papers/vectors/upsert", rows(f"b{n}", 5, 8))
                ),
                args=(n,),
            )
            for n in range(12)  # more than the threads that write of one worker
        ]
        for each in writers:
            each.start()
        for _ in range(6):
            found = call(server.port, "POST", "/i/papers/query", {"topK": 3, "vector": [1.0] * 8})
            assert found.status == 200 and len(found.content["matches"]) == 3
            time.sleep(0.2)
        for each in writers:
            each.join()
        assert {answer.status for answer in answers} <= {503, 504} and count(server.port) == 5
        assert all("a write may still be" in answer.content["error"]["message"] for answer in answers)
        other.execute("ROLLBACK")
        other.close()
        deadline = time.monotonic() + 30
        while call(server.port, "POST", "/i/papers/vectors/upsert", rows("c", 5, 8)).status != 200:
            assert time.monotonic() < deadline
    with mrlstore.open(root / "papers.mrl", mode="r") as store:
        assert len(store.get([f"c-{at}" for at in range(5)])) == 5 and store.verify().ok


def test_an_index_that_is_made_anew_under_writers(tmp_path: Path) -> None:
    root = tmp_path / "stores"
    with running(root, "--workers", "2") as server:
        port, stop = server.port, threading.Event()
        seen: Counter[tuple[str, int]] = Counter()

        def make() -> None:
            assert call(port, "POST", "/indexes", {"name": "papers", "dimension": 8}).status == 201

        def work(name: str, path: str, body: dict[str, Any]) -> None:
            while not stop.is_set():
                seen[name, call(port, "POST", path, body).status] += 1

        make()
        question = {"topK": 1, "vector": [1.0] * 8}
        threads = [
            threading.Thread(target=work, args=("upsert", "/i/papers/vectors/upsert", rows("a", 20, 8))),
            threading.Thread(target=work, args=("upsert", "/i/papers/vectors/upsert", rows("b", 20, 8))),
            threading.Thread(target=work, args=("query", "/i/papers/query", question)),
        ]
        for each in threads:
            each.start()
        try:
            for _ in range(8):
                time.sleep(0.3)
                assert call(port, "DELETE", "/indexes/papers").status == 202
                time.sleep(0.05)
                make()  # nobody else has made one
        finally:
            stop.set()
            for each in threads:
                each.join()
        assert {status for _, status in seen} <= {200, 404, 503}, seen
        assert seen["upsert", 200] and seen["upsert", 404] and seen["query", 200]
        assert call(port, "POST", "/i/papers/vectors/upsert", rows("last", 3, 8)).status == 200
    trash = root / ".deleted"
    assert not trash.exists() or not any(trash.rglob("catalogue.db"))
    with mrlstore.open(root / "papers.mrl", mode="r") as store:
        assert len(store.get([f"last-{at}" for at in range(3)])) == 3 and store.verify().ok
