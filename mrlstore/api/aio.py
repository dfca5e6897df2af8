"""`off_loop`: the async twin of a blocking method, with its arguments and result type."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from mrlstore.api.handle import Handle

Arguments = ParamSpec("Arguments")  # self first
Answer = TypeVar("Answer")

_THREADS: Final = 8  # async calls of one store that run at once; more wait for a thread


def off_loop(method: Callable[Arguments, Answer]) -> Callable[Arguments, Coroutine[Any, Any, Answer]]:
    """An async method of the same arguments that runs `method` in a thread, off the event loop.

    It calls whatever the object has under the name of `method`, so a subclass that overrides the method has
    overridden its twin too. Stores use threads of their own, other objects those of the event loop.
    """
    name = method.__name__

    @functools.wraps(method)
    async def twin(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        import asyncio  # not with the package: it takes a sixth of its import, and few need it

        self, *rest = args
        blocking: Callable[..., Answer] = getattr(self, name)
        executor = self._threads_off_loop() if isinstance(self, OwnThreads) else None
        context = contextvars.copy_context()  # of the caller, so that its trace spans and log fields are seen
        call = functools.partial(context.run, functools.partial(blocking, *rest, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(executor, call)

    twin.__doc__ = f"`{name}`, off the event loop."
    return twin


class OwnThreads(Handle):
    """A handle whose async methods run in threads of its own, started at the first async call."""

    _executor: ThreadPoolExecutor | None = None

    def _threads_off_loop(self) -> ThreadPoolExecutor:
        """The threads that async methods run in."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="mrlstore-aio")
        return self._executor

    def close(self) -> None:
        """Stop background work and let go of everything; calling it again is harmless."""
        super().close()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._executor = None  # its threads do not exist in the child
