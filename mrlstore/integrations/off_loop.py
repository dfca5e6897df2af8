"""Asynchronous twins of blocking methods, for frameworks that want both."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")  # the object itself first
Answer = TypeVar("Answer")


def off_loop(method: Callable[Arguments, Answer]) -> Callable[Arguments, Coroutine[Any, Any, Answer]]:
    """The method of the same arguments that does its work off the event loop, in a thread.

    Where a subclass has a method of this name of its own, the twin calls that one.
    """
    name = method.__name__

    @functools.wraps(method)
    async def twin(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        self, *rest = args
        answer: Answer = await asyncio.to_thread(getattr(self, name), *rest, **kwargs)
        return answer

    twin.__doc__ = f"`{name}`, off the event loop."
    return twin
