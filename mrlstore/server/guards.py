"""`Guard`: what is checked of a request before an API sees it, and what becomes of failures."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mrlstore.errors import MrlStoreError
from mrlstore.server import metrics
from mrlstore.server.api_family import ApiFamily
from mrlstore.server.api_keys import EVERYTHING, Grant, KeyFile
from mrlstore.server.config import ServerConfig
from mrlstore.server.http_call import KEY, Disconnected, HttpCall
from mrlstore.server.http_spans import HttpSpans
from mrlstore.server.refusals import INVALID, HttpRefusal, disk_full, refusal_of
from mrlstore.system.files import FULL

_LOG: Final = logging.getLogger("mrlstore.server")
_ACCESS: Final = logging.getLogger("mrlstore.server.access")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_CODES: Final = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


@dataclass
class _Use:
    """What a key does in this process: requests that run, and tokens that are left of its rate."""

    running: int = 0
    tokens: float = 0.0
    filled: float = field(default_factory=time.monotonic)


class Guard:
    """Refuses foreign hosts and origins, unknown keys, and more than a key may ask for at a time."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        families: Sequence[ApiFamily],
        open_paths: frozenset[str],
        spans: HttpSpans | None = None,
    ) -> None:
        """Stand before `app`.

        Args:
            app: what answers.
            config: the limits, and the file of keys.
            families: the APIs; that with the longest prefix of a path writes its errors.
            open_paths: paths that need no key; those that end in "/" are prefixes.
            spans: reports requests to OpenTelemetry.
        """
        self._app, self._config, self._spans = app, config, spans
        self._families = sorted(families, key=lambda family: -len(family.prefix))
        self._keys = None if config.api_keys is None else KeyFile(config.api_keys)
        self._exact = frozenset(path for path in open_paths if not path.endswith("/"))
        self._prefixes = tuple(path for path in open_paths if path.endswith("/"))
        self._names, self._max_body = config.host_names, config.max_body_mb * 1_000_000
        self._root = str(config.root)  # which messages of the library may name, and clients need not know
        self._used: dict[str, _Use] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = HttpCall(scope, receive, send, self._max_body)
        scope[KEY] = call
        family = next(each for each in self._families if call.path.startswith(each.prefix))
        call.api = family.name
        with nullcontext() if self._spans is None else self._spans.around(call):
            await self._serve(call, family, receive, send)

    async def _serve(self, call: HttpCall, family: ApiFamily, receive: Receive, send: Send) -> None:
        """Have a request answered, whatever becomes of it."""
        try:
            async with asyncio.timeout(self._config.timeout_s) as call.deadline:
                try:
                    await self._guarded(call, receive, send)
                except HttpRefusal as refusal:
                    await _refuse(call, family, refusal)
                except HTTPException as error:
                    code = _CODES.get(error.status_code, INVALID)
                    await _refuse(call, family, HttpRefusal(error.status_code, code, str(error.detail)))
                except MrlStoreError as error:
                    if not isinstance(error, ValueError):
                        _LOG.warning("%s %s failed: %s", call.method, call.path, error)
                    told = refusal_of(error)
                    told.message = told.message.replace(self._root, "...")
                    await _refuse(call, family, told)
                except OSError as error:  # of what the server itself writes beside the stores
                    if error.errno not in FULL:
                        raise
                    _LOG.warning("%s %s failed: %s", call.method, call.path, error)
                    await _refuse(call, family, disk_full())
        except TimeoutError:
            late = HttpRefusal(
                504, "DEADLINE_EXCEEDED", f"not done within {self._config.timeout_s} s; a write may still be"
            )
            await self._after_failure(call, family, late)
        except Disconnected:
            call.status = 499  # nobody is there to be answered; the number is nginx's
        except Exception:
            _LOG.exception("%s %s failed", call.method, call.path)
            await self._after_failure(
                call, family, HttpRefusal(500, "INTERNAL", "the server failed; see its log")
            )
        finally:
            metrics.count(call)
            _log_access(call)

    async def _guarded(self, call: HttpCall, receive: Receive, send: Send) -> None:
        self._check_address(call)
        if call.path in self._exact or call.path.startswith(self._prefixes or "\0"):
            await self._app(call.scope, receive, send)
            return
        call.grant = self._grant(call)
        use = self._used.setdefault(call.grant.name, _Use(tokens=self._config.max_rate))
        if use.running >= self._config.max_requests:
            raise _too_many(f"more than {self._config.max_requests} requests of this key at a time", 1)
        self._take_token(use)
        use.running += 1
        try:
            await self._app(call.scope, receive, send)
        finally:
            use.running -= 1

    def _check_address(self, call: HttpCall) -> None:
        """Refuse requests that a web page of somebody else may have made the user's browser send."""
        host = call.header(b"host").lower()
        match = _HOST.fullmatch(host)
        name = match[1].strip("[]") if match else ""
        server = call.scope.get("server")
        if not name or (name not in self._names and name != (server[0] if server else None)):
            raise HttpRefusal(
                403, "PERMISSION_DENIED",
                f"the header Host is {host!r:.100}, no name of this server; --allowed-hosts adds names",
            )  # fmt: skip
        origin = call.header(b"origin").lower()
        if origin and origin.partition("://")[2] != host:
            raise HttpRefusal(403, "PERMISSION_DENIED", f"requests of pages from {origin!r:.100} are refused")

    def _grant(self, call: HttpCall) -> Grant:
        if self._keys is None:
            return EVERYTHING
        key = call.header(b"api-key") or call.header(b"x-chroma-token")
        scheme, _, token = call.header(b"authorization").partition(" ")
        if not key and scheme.lower() == "bearer":
            key = token.strip()
        grant = self._keys.grant_of(key) if key else None
        if grant is None:
            what = (
                "the key is not known"
                if key
                else "no key was sent, in the header Api-Key or as a bearer token"
            )
            raise HttpRefusal(401, "UNAUTHENTICATED", what)
        return grant

    def _take_token(self, use: _Use) -> None:
        """Refuse a request beyond the rate of its key; up to a second's worth may come at once."""
        rate = self._config.max_rate
        if not rate:
            return
        now = time.monotonic()
        use.tokens = min(rate, use.tokens + (now - use.filled) * rate)
        use.filled = now
        if use.tokens < 1:
            raise _too_many(f"more than {rate} requests of this key a second", 1)
        use.tokens -= 1

    async def _after_failure(self, call: HttpCall, family: ApiFamily, refusal: HttpRefusal) -> None:
        """Answer if no answer has begun; a client that is gone or too slow is left alone."""
        if call.status:
            raise ConnectionAbortedError("the answer could not be sent in time")
        try:
            async with asyncio.timeout(1):
                await _refuse(call, family, refusal)
        except (TimeoutError, Disconnected):
            call.status = refusal.status


async def _refuse(call: HttpCall, family: ApiFamily, refusal: HttpRefusal) -> None:
    if call.status:  # the answer has begun and cannot be another one
        raise refusal
    body = family.error_body(refusal)
    unread = call.method in ("POST", "PUT", "PATCH") and not call.body_read
    await call.answer(refusal.status, body, refusal.headers.items(), close=unread)


def _too_many(message: str, seconds: int) -> HttpRefusal:
    return HttpRefusal(429, "RESOURCE_EXHAUSTED", message, {"Retry-After": str(seconds)})


def _log_access(call: HttpCall) -> None:
    if not _ACCESS.isEnabledFor(logging.INFO):
        return
    client = call.scope.get("client")
    fields = {
        "event": "request",
        "client": client[0] if client else "",
        "key": call.grant.name,
        "method": call.method,
        "path": call.path,
        "status": call.status,
        "seconds": round(call.seconds, 6),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
    }
    line = '%s %s "%s %s" %d %.1f ms'
    quoted = call.path.encode("unicode_escape").decode()  # a path may hold line breaks
    _ACCESS.info(
        line,
        fields["client"],
        call.grant.name or "-",
        call.method,
        quoted,
        call.status,
        call.seconds * 1e3,
        extra=fields,
    )
