"""A server in the place of Google Cloud Storage: the requests of its XML API that obstore makes.

It is written from Google's documentation, since no emulator knows the condition x-goog-if-generation-match in
that API. So it shows what obstore asks for, not what Google answers.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 200  # names of a listing


class GcsStandIn(ThreadingHTTPServer):
    """Buckets and objects in memory."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: set[str] = set()
        self.objects: dict[str, bytes] = {}  # by bucket/name
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def new_bucket(self) -> str:
        """Make a bucket, and give its URL."""
        name = f"b{uuid.uuid4().hex}"
        self.buckets.add(name)
        return f"gs://{name}"


@contextmanager
def gcs_stand_in() -> Iterator[GcsStandIn]:
    server = GcsStandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def options(port: int) -> dict[str, Any]:
    """What `options=` takes to reach it."""
    account = {"gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True}
    secrets = {"client_email": "", "private_key": "", "private_key_id": ""}
    return {
        "service_account_key": json.dumps(account | secrets),
        "client_options": {"allow_http": True, "timeout": "20s"},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GcsStandIn

    def do_PUT(self) -> None:
        name, query = self._asked()
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if name.partition("/")[0] not in self.server.buckets:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            return
        with self.server.lock:
            if "uploadId" in query:
                self.server.uploads[query["uploadId"]][int(query["partNumber"])] = data
            else:
                condition = self.headers.get("x-goog-if-generation-match")
                if condition == "0" and name in self.server.objects:
                    self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    return
                self.server.objects[name] = data
        self._answer(200, b"", data)

    def do_POST(self) -> None:
        name, query = self._asked()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            if "uploads" in query:
                upload = uuid.uuid4().hex
                self.server.uploads[upload] = {}
                self._answer(200, _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"))
                return
            parts = self.server.uploads.pop(query["uploadId"])
            data = b"".join(parts[number] for number in sorted(parts))
            self.server.objects[name] = data
        self._answer(200, _xml("CompleteMultipartUploadResult", f"<ETag>{_tag(data)}</ETag>"))

    def do_GET(self) -> None:
        name, query = self._asked()
        if "/" not in name:
            self._answer(200, self._listing(name, query))
            return
        data = self.server.objects.get(name)
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        asked = self.headers.get("Range")
        if asked is None:
            self._answer(200, data, data)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        if start >= len(data):
            self._answer(416, b"")
            return
        self._answer(206, data[start : end + 1], data, f"bytes {start}-{end}/{len(data)}")

    def do_HEAD(self) -> None:
        name, _ = self._asked()
        data = self.server.objects.get(name)
        self._answer(404 if data is None else 200, data or b"", data)

    def do_DELETE(self) -> None:
        name, _ = self._asked()
        with self.server.lock:
            there = self.server.objects.pop(name, None) is not None
        self._answer(204 if there else 404, b"")

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        start = f"{bucket}/{query.get('prefix', '')}"
        after = f"{bucket}/{query.get('continuation-token') or query.get('start-after', '')}"
        with self.server.lock:
            names = sorted(name for name in self.server.objects if name.startswith(start) and name > after)
            found = [(name, self.server.objects[name]) for name in names[:PAGE]]
        entries = "".join(
            f"<Contents><Key>{escape(name[len(bucket) + 1 :])}</Key><Size>{len(data)}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{_tag(data)}</ETag></Contents>"
            for name, data in found
        )
        if len(names) > PAGE:
            last = escape(found[-1][0][len(bucket) + 1 :])
            entries += f"<NextContinuationToken>{last}</NextContinuationToken>"
        return _xml("ListBucketResult", entries)

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path).strip("/"), query

    def _answer(self, status: int, body: bytes, of: bytes | None = None, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if of is not None:
            self.send_header("ETag", _tag(of))
            self.send_header("Last-Modified", formatdate(0, usegmt=True))
            self.send_header("x-goog-generation", "1")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def _xml(name: str, content: str) -> bytes:
    return f"<{name}>{content}</{name}>".encode()


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
