"""The async twins: each runs its method in a thread of the store's own, off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mrlstore.api.handle import Handle
from mrlstore.types import BatchResult, Record, Result

if TYPE_CHECKING:
    from mrlstore.api.store import Store

_T = TypeVar("_T")
_THREADS = 8


class AsyncTwins(Handle):
    """`await store.aquery(...)` and its like: arguments, results and errors are those of the plain method.

    Cancelling the await does not undo a write that has begun.
    """

    _executor: ThreadPoolExecutor | None = None

    async def aquery(self, *args: Any, **kwargs: Any) -> Result:
        """`query`, off the event loop."""
        return await self._off_loop(self._plain.query, *args, **kwargs)

    async def aquery_batch(self, *args: Any, **kwargs: Any) -> BatchResult:
        """`query_batch`, off the event loop."""
        return await self._off_loop(self._plain.query_batch, *args, **kwargs)

    async def aupsert(self, *args: Any, **kwargs: Any) -> int:
        """`upsert`, off the event loop."""
        return await self._off_loop(self._plain.upsert, *args, **kwargs)

    async def aadd(self, *args: Any, **kwargs: Any) -> list[str]:
        """`add`, off the event loop."""
        return await self._off_loop(self._plain.add, *args, **kwargs)

    async def aupdate(self, *args: Any, **kwargs: Any) -> int:
        """`update`, off the event loop."""
        return await self._off_loop(self._plain.update, *args, **kwargs)

    async def adelete(self, *args: Any, **kwargs: Any) -> int:
        """`delete`, off the event loop."""
        return await self._off_loop(self._plain.delete, *args, **kwargs)

    async def aget(self, *args: Any, **kwargs: Any) -> list[Record]:
        """`get`, off the event loop."""
        return await self._off_loop(self._plain.get, *args, **kwargs)

    async def acount(self, *args: Any, **kwargs: Any) -> int:
        """`count`, off the event loop."""
        return await self._off_loop(self._plain.count, *args, **kwargs)

    @property
    def _plain(self) -> Store:
        return cast("Store", self)

    async def _off_loop(self, method: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="mrlstore-aio")
        loop = asyncio.get_running_loop()
        within = contextvars.copy_context()  # the caller's, so that spans and log fields find who asked
        call = functools.partial(within.run, functools.partial(method, *args, **kwargs))
        return await loop.run_in_executor(self._executor, call)

    def close(self) -> None:
        """Stop background work and let go of everything; calling it again is harmless."""
        super().close()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._executor = None  # its threads do not exist in the child
