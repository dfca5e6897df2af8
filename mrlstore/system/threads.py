"""Threads for the work of one call, which also gets done while the interpreter ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Threads(ThreadPoolExecutor):
    """A pool of threads; once the interpreter ends, the thread that hands work to the pool does it itself.

    Python's own pools refuse work from the moment at which the main thread has reached its end, though other
    threads go on, and hooks of `atexit` are still to be called.
    """

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """As ThreadPoolExecutor.submit."""
        try:
            return super().submit(work, *arguments, **options)
        except RuntimeError as error:
            if "cannot schedule" not in str(error):  # no memory for another thread, say
                raise
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **options))
        except Exception as error:
            done.set_exception(error)
        return done
