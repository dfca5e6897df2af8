"""Google's embedding endpoints on 127.0.0.1: the real SDK talks to it over real HTTP.

Shapes are those of recorded traffic. Vectors are recoverable: `vector_of(parts)` tells what the service
would give for a content, so that order and pairing are proven. Failures are scripted: `server.script` is a
list of actions, one for each embedding request to come; without one a request is answered well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL = 3072
Part = str | tuple[str, bytes]  # a text, or (MIME type, bytes) or (MIME type, URI as bytes)


def vector_of(parts: Part | Sequence[Part], dim: int = FULL, full: int = FULL) -> NDArray[np.float32]:
    """The vector of a content as the service sees it: unit, float32 [dim], cut from `full` dims."""
    parts = [parts] if isinstance(parts, str | tuple) else parts
    digest = hashlib.sha256(repr([p if isinstance(p, str) else tuple(p) for p in parts]).encode()).digest()
    vector = np.zeros(full)
    vector[:32] = [(byte + 1) / 256 - 0.5 for byte in digest]
    vector[-32:] = vector[:32][::-1]  # a cut vector is no unit vector any more
    vector = vector[:dim]
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class Answer:
    """An action: answer with this instead. `change` gets the good embeddings and returns what is sent."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    change: Callable[[list[Any]], Any] | None = None
    raw: bytes | None = None
    reset: bool = False
    delay_s: float = 0.0


def refused(code: int, message: str, status: str, details: list[Any] | None = None, **headers: str) -> Answer:
    error = {"code": code, "message": message, "status": status}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(code, {"error": error | ({"details": details} if details else {})}, named)


@dataclass
class Call:
    """One request that was received."""

    path: str
    headers: dict[str, str]
    body: Any
    data: bytes = b""
    method: str = "POST"

    @property
    def contents(self) -> list[list[Part]]:
        """The contents of an embedding request, each a list of parts."""
        if "instances" in self.body:
            return [[instance["content"]] for instance in self.body["instances"]]
        requests = self.body.get("requests", [self.body])
        return [[part_of(part) for part in request["content"]["parts"]] for request in requests]


def part_of(part: dict[str, Any]) -> Part:
    if "text" in part:
        return str(part["text"])
    data = part.get("inline_data") or part.get("inlineData")
    if data:
        return data.get("mime_type") or data["mimeType"], base64.urlsafe_b64decode(data["data"])
    data = part.get("file_data") or part["fileData"]
    return data.get("mime_type") or data["mimeType"], (data.get("file_uri") or data["fileUri"]).encode()


class Google:
    """The server: `calls` that came in, `script` of what to do, `most_at_once` requests under way."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.calls: list[Call] = []
        self.script: list[Answer | None] = []
        self.decide: Callable[[Call], Answer | None] | None = None  # instead of the script
        self.tell_usage = True
        self.most_at_once = 0
        self.closing = threading.Event()
        self.cut: str | None = None  # requests to this method are done, but the connection breaks
        self.refuse: dict[str, Answer] = {}  # by method
        self.refuse_times: dict[str, list[Answer]] = {}  # by method, one refusal each
        self.refuse_paths: dict[str, Answer] = {}  # by the end of the path
        self.decide_all: Callable[[Call], Answer | None] | None = None  # for requests of every kind
        self.files: dict[str, bytes] = {}
        self.deleted: list[str] = []  # uploads, in the order of their deletion
        self.count_up_to = 1_000_000  # tokens of a content, in the usage that is told with an answer
        self.uploads = 0
        self.jobs_made = 0
        self.jobs: dict[str, dict[str, Any]] = {}
        self._now = 0
        self._lock = threading.Lock()

    @property
    def embed_calls(self) -> list[Call]:
        return [call for call in self.calls if re.search(r":(batchEmbed|embed)Content|:predict", call.path)]

    @property
    def contents(self) -> list[list[Part]]:
        """All contents that were asked for, in the order of the requests."""
        return [content for call in self.embed_calls for content in call.contents]

    def receive(self, call: Call) -> Answer:
        """Book a request and say what to answer."""
        with self._lock:
            self.calls.append(call)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            embeds = re.search(r":(batchEmbed|embed)Content|:predict", call.path) is not None
            action = self.script.pop(0) if embeds and self.script else None
        if embeds and self.decide is not None:
            action = self.decide(call)
        verb = call.path.split("?")[0].rsplit(":", 1)[-1]
        refusal = self._refusal(call, verb)
        if refusal is not None:
            return refusal
        good = self._good(call)
        if verb == self.cut:
            return Answer(reset=True)
        if action is None:
            return good
        if action.delay_s:
            self.closing.wait(action.delay_s)
        if action.change is not None:
            body = dict(good.body)
            body["embeddings"] = action.change(body["embeddings"])
            return Answer(body=body)
        if action.body is None and action.raw is None and not action.reset:
            return good
        return action

    def _refusal(self, call: Call, verb: str) -> Answer | None:
        for end, answer in self.refuse_paths.items():
            if call.path.endswith(end):
                return answer
        if self.refuse_times.get(verb):
            return self.refuse_times[verb].pop(0)
        decided = self.decide_all(call) if self.decide_all is not None else None
        return self.refuse.get(verb) if decided is None else decided

    def done(self) -> None:
        with self._lock:
            self._now -= 1

    def _good(self, call: Call) -> Answer:
        path = call.path.split("?")[0]
        verb = path.rsplit(":", 1)[-1]
        uploading = "/upload/files/" in path  # such an address is a right in itself
        if not uploading and not (call.headers.get("x-goog-api-key") or call.headers.get("authorization")):
            return refused(403, "Method doesn't allow unregistered callers", "PERMISSION_DENIED")
        if "/files" in path or "/batches" in path or verb == "asyncBatchEmbedContent":
            return self._batched(call, path, verb)
        if verb == "countTokens":
            texts = [part["text"] for content in call.body["contents"] for part in content["parts"]]
            return Answer(body={"totalTokens": sum(len(text.split()) for text in texts)})
        if verb == "batchEmbedContents":
            return self._embedded(call, call.body["requests"])
        if verb == "embedContent":
            options = call.body.get("embedContentConfig", {})
            [vector] = self._vectors(call, [options])
            return Answer(body={"embedding": {"values": vector}, "truncated": False})
        if verb == "predict":
            return self._predicted(call)
        return refused(404, f"no such method: {call.path}", "NOT_FOUND")

    def _embedded(self, call: Call, requests: list[Any]) -> Answer:
        if len(requests) > 100:
            text = "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
            return refused(400, text, "INVALID_ARGUMENT")
        if not requests:
            return refused(400, "requests: empty", "INVALID_ARGUMENT")
        options = [request.get("embedContentConfig", request) for request in requests]
        body: dict[str, Any] = {"embeddings": [{"values": vector} for vector in self._vectors(call, options)]}
        if self.tell_usage:
            words = [sum(len(str(part).split()) for part in content) for content in call.contents]
            tokens = sum(min(count, self.count_up_to) for count in words)
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            body["usageMetadata"] = {"promptTokenCount": tokens, "promptTokensDetails": details}
        return Answer(body=body)

    def _batched(self, call: Call, path: str, verb: str) -> Answer:
        """The Batch API: upload a file, create a job, look at it, list all, download the results."""
        if call.headers.get("x-goog-upload-command") == "start":
            name = f"files/in{self.uploads}"
            self.uploads += 1
            self.files[name] = b""
            return Answer(body={}, headers={"x-goog-upload-url": f"{self.url}/upload/{name}"})
        if "x-goog-upload-command" in call.headers:
            name = path.removeprefix("/upload/")
            self.files[name] += call.data
            final = "finalize" in call.headers["x-goog-upload-command"]
            return Answer(
                body={"file": {"name": name}},
                headers={"x-goog-upload-status": "final" if final else "active"},
            )
        if verb == "asyncBatchEmbedContent":
            batch, name = call.body["batch"], f"batches/job{self.jobs_made}"
            given = batch["inputConfig"]
            upload = given.get("file_name", given.get("fileName"))
            if upload not in self.files:
                return self._file(path, upload)
            self.jobs_made += 1
            metadata = {
                "displayName": batch["displayName"],
                "state": "BATCH_STATE_PENDING",
                "model": "models/x",
            }
            self.jobs[name] = {
                "name": name,
                "metadata": metadata,
                "input": upload,
            }
            return Answer(body=self.jobs[name])
        if verb == "download":
            return self._file(path, "files/" + path.split("/files/")[1].removesuffix(":download"))
        if call.method == "DELETE":
            name = "files/" + path.split("/files/")[1]
            self.deleted.append(name)
            self.files.pop(name, None)
            return Answer(body={})
        if path.endswith("/batches"):
            return Answer(body={"operations": list(self.jobs.values())})
        name = "batches/" + path.split("/batches/")[1].split(":")[0]
        if name not in self.jobs:
            return refused(404, "Requested entity was not found.", "NOT_FOUND")
        if verb == "cancel":
            self.jobs[name]["metadata"]["state"] = "BATCH_STATE_CANCELLED"
            return Answer(body={})
        return Answer(body=self.jobs[name])

    def _file(self, path: str, name: str) -> Answer:
        if name not in self.files:
            text = f"You do not have permission to access the File {name} or it may not exist."
            return refused(403, text, "PERMISSION_DENIED")
        return Answer(raw=self.files[name])

    def finish(
        self, state: str = "SUCCEEDED", change: Callable[[list[Any]], list[Any]] | None = None
    ) -> None:
        """Do the jobs that are pending; `change` gets the lines of results and gives those to write."""
        for job in self.jobs.values():
            metadata = job["metadata"]
            if metadata["state"] != "BATCH_STATE_PENDING":
                continue
            metadata["state"] = f"BATCH_STATE_{state}"
            lines = []
            for line in map(json.loads, self.files[job["input"]].splitlines()):
                parts = [part_of(part) for part in line["request"]["content"]["parts"]]
                vector = vector_of(parts, line["request"]["output_dimensionality"])
                lines.append({"key": line["key"], "response": {"embedding": {"values": vector.tolist()}}})
            name = f"files/out-{job['name'].removeprefix('batches/')}"
            self.files[name] = "\n".join(map(json.dumps, change(lines) if change else lines[::-1])).encode()
            metadata["output"] = {"responsesFile": name}

    def _predicted(self, call: Call) -> Answer:
        options = call.body.get("parameters", {})
        vectors = self._vectors(call, [options] * len(call.contents))
        statistics = {"token_count": 3, "truncated": False}
        return Answer(
            body={"predictions": [{"embeddings": {"values": v, "statistics": statistics}} for v in vectors]}
        )

    def _vectors(self, call: Call, options: list[Any]) -> list[list[float]]:
        return [
            vector_of(parts, option.get("outputDimensionality", FULL)).tolist()
            for parts, option in zip(call.contents, options, strict=True)
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    google: Google

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        data = self.rfile.read(length)
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = data
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.google.receive(Call(self.path, headers, body, data, self.command))
        try:
            self._answer(answer)
        finally:
            self.google.done()

    do_GET = do_DELETE = do_POST

    def _answer(self, answer: Answer) -> None:
        if answer.reset:
            linger = struct.pack("ii", 1, 0)  # close with a RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        data = answer.raw if answer.raw is not None else json.dumps(answer.body).encode()
        try:
            self.send_response(answer.status)
            for name, value in ({"content-type": "application/json"} | answer.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has given up
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Google]:
    """A server on a free port of 127.0.0.1, stopped at the end."""
    handler = type("Bound", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    google = handler.google = Google(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield google
    finally:
        google.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
