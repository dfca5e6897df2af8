"""`remote` and `awaited`: methods that send a request, blocking or on the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from mrlstore.client.transport import Request, Transport


class Sender(Protocol):
    """What has a transport."""

    transport: Transport


S = TypeVar("S", bound=Sender)
P = ParamSpec("P")
T = TypeVar("T")


def remote(prepare: Callable[Concatenate[S, P], Request[T]]) -> Callable[Concatenate[S, P], T]:
    """A method that sends the request that `prepare` makes of its arguments, and gives its answer."""

    @functools.wraps(prepare)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.transport.send(prepare(self, *args, **kwargs))

    return method


def followed(prepare: Callable[Concatenate[S, P], Request[T]]) -> Callable[Concatenate[S, P], T]:
    """The same for work that reports its progress."""

    @functools.wraps(prepare)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.transport.follow(prepare(self, *args, **kwargs))

    return method


def awaited(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The async twin of a method of `remote`. What it sends is made in a thread, off the event loop."""
    prepare: Callable[..., Request[T]] = method.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(prepare)
    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        request = await asyncio.to_thread(prepare, self, *args, **kwargs)
        return await self.transport.asend(request)

    twin.__doc__ = f"`{prepare.__name__}`, awaited."
    return twin
