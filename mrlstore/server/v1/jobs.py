"""`Job` endpoints: work that takes minutes, answered as server-sent events while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from mrlstore.errors import MrlStoreError
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump
from mrlstore.server.http_call import Disconnected, HttpCall
from mrlstore.server.operations import Endpoint, Serving
from mrlstore.server.refusals import HttpRefusal, refusal_of
from mrlstore.server.v1.error_shape import error_object
from mrlstore.types import Progress
from mrlstore.wire import to_plain

EVENTS: Final = "text/event-stream"
_LEAST_S: Final = 0.1  # between two events of progress
_PING_S: Final = 10.0  # a comment is sent after so long a silence, so that proxies keep the connection

Report = Callable[[Progress], None]
Work = Callable[[Report], Any]


class _Stopped(Exception):
    """The client has gone, or the server stops; raised in the work at its next report of progress."""


class JobEndpoint(Endpoint):
    """An ASGI endpoint whose answer is a stream: events `progress`, then one `result` or `error`.

    What fails before any progress was reported is answered by its status instead. Work whose client has gone
    is stopped at its next report, as Ctrl-C stops it: what was committed stays.
    """

    def __init__(
        self, serving: Serving, name: str, role: Role, prepare: Callable[[HttpCall, bytes], Work]
    ) -> None:
        """`prepare` checks a call and gives the work, which blocks and gives plain values."""
        super().__init__(serving, name, role)
        self.prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call = HttpCall.of(scope)
        body = await self.admit(call, scope["path_params"].get("index"))
        work = self.prepare(call, body)
        running = _Running(asyncio.get_running_loop())
        job = asyncio.ensure_future(self.serving.in_job_thread(lambda: work(running.report)))
        gone = asyncio.ensure_future(call.gone())
        try:
            await _follow(call, running, job, gone)
        finally:
            running.stopped.set()
            gone.cancel()
            if not job.done():
                job.add_done_callback(_forget)


class _Running:
    """The newest progress of a job, on its way from the thread that works to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stopped, self.changed = threading.Event(), asyncio.Event()
        self.newest: Progress | None = None
        self._loop = loop

    def report(self, progress: Progress) -> None:
        """Called in the thread that works."""
        if self.stopped.is_set():
            raise _Stopped
        self.newest = progress
        with suppress(RuntimeError):  # the loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self.changed.set)


async def _follow(
    call: HttpCall, running: _Running, job: asyncio.Future[Any], gone: asyncio.Future[None]
) -> None:
    """Send what is reported until the job has ended or the client has gone."""
    while not job.done():
        changed = asyncio.ensure_future(running.changed.wait())
        try:
            waiting = {job, gone, changed}
            await asyncio.wait(waiting, timeout=_PING_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        if gone.done():
            raise Disconnected
        if job.done() or (running.newest is None and not running.changed.is_set()):
            if not job.done() and call.status:
                await call.send_piece(b": working\n\n")
            continue
        running.changed.clear()
        if not call.status:
            await call.begin_stream(EVENTS)
        await call.send_piece(_event("progress", to_plain(running.newest)))
        await asyncio.wait({job}, timeout=_LEAST_S)
    await _finish(call, job)


async def _finish(call: HttpCall, job: asyncio.Future[Any]) -> None:
    try:
        event = _event("result", job.result())
    except (MrlStoreError, HttpRefusal) as error:
        if not call.status:
            raise
        refusal = error if isinstance(error, HttpRefusal) else refusal_of(error)
        event = _event("error", error_object(refusal))
    if not call.status:
        await call.begin_stream(EVENTS)
    await call.send_piece(event, last=True)


def _event(name: str, value: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + dump(value) + b"\n\n"


def _forget(job: asyncio.Future[Any]) -> None:
    """Nobody waits for the end of a job whose client has gone."""
    if not job.cancelled():
        job.exception()
