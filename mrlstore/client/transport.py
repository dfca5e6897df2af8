"""`Transport`: requests and answers over httpx, for blocking callers and for event loops."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

import httpx

from mrlstore.client.answered_errors import error_of
from mrlstore.client.request_values import json_text
from mrlstore.errors import ServerError, StoreClosed
from mrlstore.types import Progress
from mrlstore.wire import from_plain

T = TypeVar("T")
_RETRIES: Final = 3  # after 429, which says that nothing was done
_LONGEST_WAIT_S: Final = 30.0
_CONNECTS: Final = 2  # more attempts to reach the server


@dataclass(frozen=True)
class Request(Generic[T]):
    """One call of a server, and what its answer becomes."""

    method: str
    path: str  # below the server's URL
    body: Mapping[str, Any] | None
    read: Callable[[Any], T]
    params: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[Progress], None] | None = None


class Transport:
    """Connections to one server, opened as they are needed; safe for many threads, and after a fork."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self.url = url
        headers = {"Accept": "application/json, text/event-stream"}
        if api_key is not None:
            headers["Api-Key"] = api_key
        self._options: dict[str, Any] = {"base_url": url, "headers": headers, "timeout": timeout_s}
        self._lock = threading.Lock()
        self._pid, self._closed = os.getpid(), False
        self._blocking: httpx.Client | None = None
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def send(self, request: Request[T]) -> T:
        """The answer to a request; raises the errors of the library."""
        for left in reversed(range(_RETRIES + 1)):
            with _typed(self.url):
                answer = self._client().request(request.method, request.path, **_content(request))
            wait_s = _wait_s(answer, left)
            if wait_s is None:
                break
            time.sleep(wait_s)
        return request.read(_checked(answer, self.url))

    async def asend(self, request: Request[T]) -> T:
        """The same, on the running event loop."""
        for left in reversed(range(_RETRIES + 1)):
            with _typed(self.url):
                client = self._async_client()
                answer = await client.request(request.method, request.path, **_content(request))
            wait_s = _wait_s(answer, left)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        return request.read(_checked(answer, self.url))

    def follow(self, request: Request[T]) -> T:
        """The result of a job, whose progress is reported meanwhile. An error of the callback stops it."""
        with _typed(self.url), self._client().stream(
            request.method, request.path, **_content(request)
        ) as answer:  # fmt: skip
            if answer.status_code >= 400:
                answer.read()
                _checked(answer, self.url)
            for event, data in _events(answer.iter_lines()):
                if event == "progress":
                    if request.progress is not None:
                        request.progress(from_plain(Progress, data))
                elif event == "error":
                    raise error_of(data.get("status", 500), data, self.url)
                else:
                    return request.read(data)
        raise ServerError(f"{self.url}: the connection ended before the work did; what is done of it stays")

    def close(self) -> None:
        """Close the connections of blocking calls; those of event loops end with `aclose` or their loop."""
        self._closed = True
        with self._lock:
            client, self._blocking = self._blocking, None
        if client is not None and self._pid == os.getpid():
            client.close()

    async def aclose(self) -> None:
        """Close all connections, those of the running event loop too."""
        client = self._of_loops.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    def of_loop(self) -> list[httpx.AsyncClient]:
        """The connections of the running event loop, none where it has sent nothing."""
        client = self._of_loops.get(asyncio.get_running_loop())
        return [] if client is None else [client]

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(f"{self.url}: this client is closed; connect again")
        if self._pid != os.getpid():  # a forked child shares no connection with its parent
            self._pid, self._blocking, self._of_loops = os.getpid(), None, WeakKeyDictionary()
            self._lock = threading.Lock()

    def _client(self) -> httpx.Client:
        self._check_open()
        with self._lock:
            if self._blocking is None:
                transport = httpx.HTTPTransport(retries=_CONNECTS)
                self._blocking = httpx.Client(transport=transport, **self._options)
            return self._blocking

    def _async_client(self) -> httpx.AsyncClient:
        self._check_open()
        loop = asyncio.get_running_loop()
        client = self._of_loops.get(loop)
        if client is None:
            transport = httpx.AsyncHTTPTransport(retries=_CONNECTS)
            client = self._of_loops[loop] = httpx.AsyncClient(transport=transport, **self._options)
        return client


@contextmanager
def _typed(where: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(f"{where}: {type(error).__name__}: {error}") from error


def _content(request: Request[Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"params": dict(request.params)}
    if request.body is not None:
        content["content"] = json_text(request.body)
        content["headers"] = {"Content-Type": "application/json"}
    return content


def _wait_s(answer: httpx.Response, left: int) -> float | None:
    """How long to wait before another try, None where there is none."""
    if answer.status_code != 429 or not left:
        return None
    told = answer.headers.get("retry-after", "1")
    return min(float(told) if told.isdecimal() else 1.0, _LONGEST_WAIT_S)


def _checked(answer: httpx.Response, where: str) -> Any:
    try:
        parsed = json.loads(answer.content) if answer.content else None
    except ValueError:
        parsed = None
        if answer.is_success:
            raise ServerError(f"{where}: the answer is not JSON; is it a server of mrlstore?") from None
    if not answer.is_success:
        raise error_of(answer.status_code, parsed, where)
    return parsed


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """The server-sent events of a stream: (name, data parsed)."""
    name, data = "", ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data = line[5:].strip()
        elif not line and name:
            yield name, json.loads(data)
            name, data = "", ""
