"""`HttpCall`: one request and its answer, between the guard and the API that it is for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from mrlstore.server.api_keys import EVERYTHING, Grant, Role
from mrlstore.server.refusals import HttpRefusal, invalid

KEY: Final = "mrlstore.call"  # where a scope holds its call
JSON: Final = "application/json"
_LINGER_S: Final = 5.0
_PIECE_S: Final = 60.0
_LINGER_BODIES: Final = 4  # of a refused body at most so many times the limit is read and thrown away

Headers = Iterable[tuple[str, str]]


class Disconnected(Exception):
    """The client has gone; there is nobody to answer."""


class HttpCall:
    """A request: its headers that matter, what its sender may do, its body; and the answer to it."""

    __slots__ = (
        "_receive", "_send", "api", "body_read", "bytes_in", "bytes_out", "deadline", "grant", "headers",
        "max_body", "method", "operation", "path", "scope", "stages", "started", "status",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int) -> None:
        self.scope, self._receive, self._send, self.max_body = scope, receive, send, max_body
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.grant: Grant = EVERYTHING
        self.api, self.operation = "", ""  # for metrics and the log, set by whoever answers
        self.status, self.bytes_in, self.bytes_out = 0, 0, 0
        self.body_read = False
        self.deadline: asyncio.Timeout | None = None  # when the guard gives the request up
        self.started = time.perf_counter()
        self.stages: list[tuple[str, float]] = []  # (stage, seconds)

    @classmethod
    def of(cls, scope: Scope) -> HttpCall:
        """The call that the guard has put into a scope."""
        call: HttpCall = scope[KEY]
        return call

    def header(self, name: bytes) -> str:
        """A header by its name in lower case, "" where it is missing."""
        return self.headers.get(name, b"").decode("latin-1")

    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query string, decoded, in their order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    @property
    def seconds(self) -> float:
        """How long ago the request came."""
        return time.perf_counter() - self.started

    @property
    def base_url(self) -> str:
        """The scheme, host and port by which the client reached this server."""
        return f"{self.scope['scheme']}://{self.header(b'host')}"

    def require(self, role: Role) -> None:
        """Refuse what takes another role than the key has."""
        if self.grant.role < role:
            raise HttpRefusal(
                403, "PERMISSION_DENIED", f"this key may not do that: it takes the role {role.name.lower()}"
            )

    def require_index(self, index: str) -> None:
        """Refuse an index that the key does not open."""
        if not self.grant.may_use(index):
            raise HttpRefusal(403, "PERMISSION_DENIED", f"this key does not open the index {index!r}")

    def require_namespace(self, namespace: str) -> None:
        """Refuse a namespace that the key does not open."""
        if not self.grant.may_enter(namespace):
            raise HttpRefusal(403, "PERMISSION_DENIED", f"this key does not open the namespace {namespace!r}")

    async def body(self) -> bytes:
        """The whole body; refused with 413 as soon as it is known to be too large, before it is read."""
        declared = self.header(b"content-length")
        if declared and int(declared) > self.max_body:
            raise self._too_large()
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece: bytes = message.get("body", b"")
            self.bytes_in += len(piece)
            if self.bytes_in > self.max_body:
                raise self._too_large()
            pieces.append(piece)
            if not message.get("more_body", False):
                self.body_read = True
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _too_large(self) -> HttpRefusal:
        return HttpRefusal(
            413,
            "PAYLOAD_TOO_LARGE",
            f"the body is larger than {self.max_body:,} bytes; send fewer rows in one request",
        )

    async def answer(
        self,
        status: int,
        body: bytes,
        headers: Headers = (),
        *,
        content_type: str = JSON,
        close: bool = False,
    ) -> None:
        """Send the answer. With `close`, what still comes is thrown away, and the connection ends."""
        self.status, self.bytes_out = status, len(body)
        sent = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        sent += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if close:
            sent.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        if not close:
            await self._send({"type": "http.response.body", "body": body})
            return
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b""})

    async def begin_stream(self, content_type: str) -> None:
        """Begin an answer that comes in pieces and may take as long as it likes, each piece excepted."""
        if self.deadline is not None:
            self.deadline.reschedule(None)
        self.status = 200
        sent = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": sent})

    async def send_piece(self, piece: bytes, *, last: bool = False) -> None:
        """One piece of a streamed answer; TimeoutError where the client does not take it within a minute."""
        self.bytes_out += len(piece)
        async with asyncio.timeout(_PIECE_S):
            await self._send({"type": "http.response.body", "body": piece, "more_body": not last})

    async def gone(self) -> None:
        """Return when the client has gone; to be awaited once the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _linger(self) -> None:
        """Read on for a moment: clients send their whole body first, and a reset would lose the answer."""
        left = _LINGER_BODIES * self.max_body
        try:
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return


def one_of(values: list[tuple[str, str]], name: str) -> str | None:
    """The value of a query parameter that may be given once, or None."""
    found = [value for key, value in values if key == name]
    if len(found) > 1:
        raise invalid(f"{name}: given {len(found)} times")
    return found[0] if found else None
