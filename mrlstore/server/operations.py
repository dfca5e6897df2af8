"""`Operation`: an endpoint that does one thing to one index, in a thread or where it is quick at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from starlette.types import Receive, Scope, Send

from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.server.api_keys import Role
from mrlstore.server.config import ServerConfig
from mrlstore.server.http_call import JSON, Headers, HttpCall
from mrlstore.server.indexes import IndexRoot, ServedIndex
from mrlstore.server.refusals import HttpRefusal, busy

_READERS: Final = 16  # threads of a process for calls that read; more wait
_WRITERS: Final = 8  # and that write, so that long writes keep nobody from reading
_JOBS: Final = 4  # and for work that takes minutes; more is refused

_LONG_BODY: Final = 256 * 1024  # bytes; the JSON of a query by a vector of 8,192 numbers has 180,000
_QUICK_S: Final = 0.005
_WAITED_S: Final = 0.05  # for the disk; on a busy machine a process may not run for some 10 ms
_IN_THREADS: Final = 32

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True)
class Answer:
    """What a call is answered."""

    body: bytes = b"{}"
    status: int = 200
    headers: Headers = field(default_factory=tuple)
    content_type: str = JSON


class Serving:
    """What all APIs of a server share: its config, its indexes, and threads for what blocks."""

    def __init__(self, config: ServerConfig, root: IndexRoot) -> None:
        self.config, self.root = config, root
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="mrlstore-read")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="mrlstore-write")
        self._jobs = ThreadPoolExecutor(_JOBS, thread_name_prefix="mrlstore-job")
        self._free_jobs = threading.BoundedSemaphore(_JOBS)
        self._at_close: list[Callable[[], None]] = []

    async def in_thread(self, call: Callable[[], T], *, writes: bool = False) -> T:
        """What a blocking call gives, run in a thread, with the context of the caller."""
        context = contextvars.copy_context()  # trace spans and log fields
        pool = self._writers if writes else self._readers
        return await asyncio.get_running_loop().run_in_executor(pool, context.run, call)

    def at_close(self, call: Callable[[], None]) -> None:
        """Have something done when the server is stopped, before the stores are closed."""
        self._at_close.append(call)

    async def in_job_thread(self, call: Callable[[], T]) -> T:
        """As `in_thread`, for work that takes long; refused while as many jobs run as there are threads."""
        if not self._free_jobs.acquire(blocking=False):
            raise busy(f"{_JOBS} jobs run in this process; try again when one has ended")
        future = self._jobs.submit(contextvars.copy_context().run, call)
        future.add_done_callback(lambda _: self._free_jobs.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for what runs in threads, and close the stores."""
        self._jobs.shutdown(wait=True)
        for call in self._at_close:
            call()
        self._readers.shutdown(wait=True)
        self._writers.shutdown(wait=True)
        self.root.close()


class Endpoint:
    """What endpoints have in common: a name in metrics and in the log, and the least role of a key."""

    def __init__(self, serving: Serving, name: str, role: Role) -> None:
        self.serving, self.name, self.role = serving, name, role

    async def admit(self, call: HttpCall, index: str | None = None) -> bytes:
        """Check what the key and the server allow, and read the body."""
        call.operation = self.name
        call.require(self.role)
        if index is not None:
            call.require_index(index)
        if self.role > Role.READ and self.serving.config.read_only:
            raise HttpRefusal(403, "FORBIDDEN", "this server only reads")
        started = time.perf_counter()
        body = await call.body()
        call.stages.append(("receive", time.perf_counter() - started))
        return body

    async def finish(self, call: HttpCall, work: Callable[[], Answer]) -> None:
        """Do the work in a thread, and send its answer."""
        started = time.perf_counter()
        answer = await self.serving.in_thread(work, writes=self.role > Role.READ)
        call.stages.append(("work", time.perf_counter() - started))
        await call.answer(answer.status, answer.body, answer.headers, content_type=answer.content_type)


class Operation(Endpoint):
    """An ASGI endpoint about one index, which the route's parameter `index` names."""

    def __init__(
        self, serving: Serving, name: str, role: Role, work: Callable[[ServedIndex, HttpCall, bytes], Answer]
    ) -> None:
        """`work` gives the answer of an open index to a call with this body; it may block."""
        super().__init__(serving, name, role)
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call, name = HttpCall.of(scope), str(scope["path_params"]["index"])
        body = await self.admit(call, name)
        await self.finish(
            call, lambda: self.serving.root.run(name, lambda index: self.work(index, call, body))
        )


class QuickOperation(Endpoint, Generic[P]):
    """An operation that mostly takes a fraction of a millisecond, which is less than handing it to a thread.

    What `is_quick` says so of is answered on the event loop. After an answer that took more than 5 ms of the
    processor there, or 50 ms in all, the next 32 of the index run in threads, so that stores that wait for
    the disk hold nobody up for long.
    """

    def __init__(
        self,
        serving: Serving,
        name: str,
        parse: Callable[[HttpCall, bytes], P],
        is_quick: Callable[[P], bool],
        work: Callable[[ServedIndex, HttpCall, P], Answer],
    ) -> None:
        """Make the endpoint, for the role of readers.

        Args:
            serving: what all APIs share.
            name: of the operation, in metrics and in the log.
            parse: what a body asks for.
            is_quick: whether that is usually quick.
            work: gives the answer of an open index; it may block.
        """
        super().__init__(serving, name, Role.READ)
        self.parse, self.is_quick, self.work = parse, is_quick, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call, name = HttpCall.of(scope), str(scope["path_params"]["index"])
        body = await self.admit(call, name)
        started = time.perf_counter()
        if len(body) > _LONG_BODY:
            asked = await self.serving.in_thread(lambda: self.parse(call, body))
        else:
            asked = self.parse(call, body)
        call.stages.append(("parse", time.perf_counter() - started))
        if not (self.is_quick(asked) and await self._finish_at_once(call, name, asked)):
            root = self.serving.root
            await self.finish(call, lambda: root.run(name, lambda index: self.work(index, call, asked)))

    async def _finish_at_once(self, call: HttpCall, name: str, asked: P) -> bool:
        """Answer without a thread; gives whether that was possible."""
        index = self.serving.root.pin(name)
        if index is None:
            return False
        started, spent = time.perf_counter(), time.thread_time()
        try:
            if index.in_threads > 0:
                index.in_threads -= 1
                return False
            answer = self.work(index, call, asked)
        except InvalidInput:
            raise
        except (MrlStoreError, OSError):
            return False  # the thread tries again, with a store that is opened anew
        finally:
            self.serving.root.unpin(index)
        took = time.perf_counter() - started
        if took > _QUICK_S and (took > _WAITED_S or time.thread_time() - spent > _QUICK_S):
            index.in_threads = _IN_THREADS
        call.stages.append(("work", took))
        await call.answer(answer.status, answer.body, answer.headers, content_type=answer.content_type)
        return True


class GeneralOperation(Endpoint):
    """An ASGI endpoint that is about no open index."""

    def __init__(
        self, serving: Serving, name: str, role: Role, work: Callable[[HttpCall, bytes], Answer]
    ) -> None:
        """`work` gives the answer to a call with this body; it may block."""
        super().__init__(serving, name, role)
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call = HttpCall.of(scope)
        body = await self.admit(call)
        await self.finish(call, lambda: self.work(call, body))
