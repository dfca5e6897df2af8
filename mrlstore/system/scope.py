"""A context manager of a generator that gives its resource back whatever interrupts it.

With contextlib's, an exception that arrives while its own `__enter__` or `__exit__` begins or ends (Ctrl-C
does so now and then) leaves the generator suspended, and whatever it holds held: a lock, a transaction. It
ends when the last reference to it goes, but a traceback refers to those frames and so to the generator, and
an interactive interpreter keeps the last traceback (`sys.last_value`).

Here only the `with` statement itself refers to the generator, through the function that it will call at its
end; no frame does. When the statement is left in any way, that function goes, the generator with it, and
Python runs the generator's `finally` blocks at once.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Lifetime:
    """Lives until the generator of a scope has ended."""

    __slots__ = ("__weakref__",)


class _Leave(functools.partial[Any]):
    """`_leave` of a generator, and the only reference to it; the attributes go in the order of this list."""

    generator: Generator[Any, None, None]
    lifetime: _Lifetime


class Scope(Generic[T]):
    """What `scope` functions return; for one `with` statement."""

    __slots__ = ("_lifetime", "_make", "_ref")

    def __init__(self, make: Callable[[Scope[T]], Generator[T, None, None]]) -> None:
        """`make` is called with this scope."""
        self._make = make

    def lasts(self) -> bool:
        """Whether the `with` statement has not been left, in whatever way; asked inside it, or later."""
        return self._lifetime() is not None

    @property
    def __exit__(
        self,
    ) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], bool | None]:
        """Looked up once, before `__enter__` is called; nothing has begun by then."""
        generator = self._make(self)
        self._ref = weakref.ref(generator)
        leave = _Leave(_leave, self._ref)
        leave.generator, leave.lifetime = generator, _Lifetime()
        self._lifetime = weakref.ref(leave.lifetime)
        return leave

    def __enter__(self) -> T:
        return next(self._ref())  # type: ignore[arg-type]


def scope(function: Callable[P, Iterator[T]]) -> Callable[P, Scope[T]]:
    """As contextlib.contextmanager; see this module."""

    @functools.wraps(function)
    def begin(*arguments: P.args, **options: P.kwargs) -> Scope[T]:
        return Scope(lambda _: function(*arguments, **options))  # type: ignore[arg-type,return-value]

    return begin


def _leave(
    generator: weakref.ref[Generator[Any, None, None]],
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> bool | None:
    """Let the generator go on behind its yield, or raise the error there; True if it has dealt with it."""
    if error is None:
        next(generator(), None)  # type: ignore[arg-type]
        return False
    try:
        generator().throw(error)  # type: ignore[union-attr]
    except StopIteration as stop:
        return stop is not error
    except RuntimeError as other:
        if other is error or (isinstance(error, StopIteration) and other.__cause__ is error):
            return False
        raise
    except BaseException as other:
        if other is error:
            error.__traceback__ = traceback
            return False
        raise
    raise RuntimeError("the generator did not stop")
