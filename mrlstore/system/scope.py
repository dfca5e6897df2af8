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


class _Leave(functools.partial[Any]):
    """`_leave` of a generator, and the only reference to it."""

    generator: Generator[Any, None, None]


class Scope(Generic[T]):
    """What `scope` functions return; for one `with` statement."""

    __slots__ = ("_make", "_ref")

    def __init__(self, make: Callable[[], Generator[T, None, None]]) -> None:
        self._make = make

    @property
    def __exit__(
        self,
    ) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], bool | None]:
        """Looked up once, before `__enter__` is called; nothing has begun by then."""
        generator = self._make()
        self._ref = weakref.ref(generator)
        leave = _Leave(_leave, self._ref)
        leave.generator = generator
        return leave

    def __enter__(self) -> T:
        return next(self._ref())  # type: ignore[arg-type]


def scope(function: Callable[P, Iterator[T]]) -> Callable[P, Scope[T]]:
    """As contextlib.contextmanager; see this module."""

    @functools.wraps(function)
    def begin(*arguments: P.args, **options: P.kwargs) -> Scope[T]:
        return Scope(functools.partial(function, *arguments, **options))  # type: ignore[arg-type]

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
