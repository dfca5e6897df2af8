"""A proxy before an S3 server that delays, drops, cuts bodies, and answers 500 after having stored."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("delay", "drop before", "drop after", "500 before", "500 after", "503", "cut")
_HOP = {"connection", "transfer-encoding", "keep-alive"}


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to 127.0.0.1:`target`; of each hundred, `rate` meet a fault."""

    daemon_threads = True

    def __init__(self, target: int, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.rate = target, 0
        self.met: Counter[str] = Counter()
        self._rng, self._lock = random.Random(seed), threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def next_fault(self) -> str:
        with self._lock:
            fault = self._rng.choice(FAULTS) if self._rng.random() * 100 < self.rate else ""
            self.met[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


@contextmanager
def faulty_proxy(target: int, seed: int = 1) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(target, seed)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def handle_one(self) -> None:
        fault = self.server.next_fault()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "delay":
            time.sleep(0.2)
        if fault == "drop before":
            self.close_connection = True
            return
        if fault in ("500 before", "503"):
            self._answer(int(fault[:3]), [], b"")
            return
        status, headers, data = self._forwarded(body)
        if fault == "drop after":
            self.close_connection = True
        elif fault == "500 after":
            self._answer(500, [], b"")
        else:
            self._answer(status, headers, data, cut=fault == "cut" and len(data) > 1)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of a HEAD, that of the object
            elif name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
