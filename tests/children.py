"""Child processes for tests: forked from a server that has compiled kernels but opened no store.

Every wait has a limit, so that a child which hangs fails its test instead of hanging the suite. A body is
a top-level function `body(pipe, *arguments)`; whatever it raises travels back and is raised by `receive`.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE_S = 240.0  # seconds until a step counts as hung: far longer than any takes on a busy machine

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.warmed"])


class ChildFailed(AssertionError):
    """The body in a child raised; the message is its traceback."""


class Child:
    """One child process and the pipe to it."""

    def __init__(self, body: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = _context.Pipe()
        self.process = _context.Process(target=_run, args=(body, theirs, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        """Hand a message to the body."""
        self.pipe.send(message)

    def receive(self, patience_s: float = PATIENCE_S) -> Any:
        """Return the next message of the body; an error that it raised is raised here."""
        if not self.pipe.poll(patience_s):
            self._print_stacks()
            raise ChildFailed(f"child {self.process.pid} sent no message for {patience_s} s")
        try:
            kind, message = self.pipe.recv()
        except EOFError:
            self.process.join(PATIENCE_S)
            raise ChildFailed(f"the child ended with code {self.process.exitcode}") from None
        if kind == "error":
            raise ChildFailed(message)
        return message

    def _print_stacks(self) -> None:
        """Make a hung child print the stack of each thread; pytest shows it with the failure."""
        with suppress(ProcessLookupError):
            if self.process.pid is not None:
                os.kill(self.process.pid, signal.SIGUSR1)
        self.pipe.poll(2.0)

    def heard(self) -> Iterator[Any]:
        """Give the messages that have arrived, without waiting; the child may have been killed."""
        while True:
            try:
                if not self.pipe.poll(0):
                    return
                kind, message = self.pipe.recv()
            except (EOFError, OSError):
                return
            if kind == "error":
                raise ChildFailed(message)
            yield message

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):  # it ended by itself; `heard` raises its error
            os.kill(self.process.pid, signal.SIGKILL)
        self.join()

    def join(self) -> int:
        """Wait for the end; the exit code (negative: the signal that killed it)."""
        self.process.join(PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            raise ChildFailed(f"child {self.process.pid} did not end")
        return self.process.exitcode

    def finish(self) -> None:
        """Wait for the end of the body; an exit code other than 0 is an error."""
        for _ in self.heard():
            pass
        code = self.join()
        for _ in self.heard():
            pass
        if code != 0:
            raise ChildFailed(f"the child ended with code {code}")


class Pipe:
    """The child's end: plain send and receive."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """Send a message to the test."""
        self._connection.send(("said", message))

    def receive(self) -> Any:
        """Wait for the test's next message."""
        if not self._connection.poll(PATIENCE_S):
            raise TimeoutError("the test sent no message")
        return self._connection.recv()

    def waiting(self) -> bool:
        """Whether a message of the test is waiting to be received."""
        return bool(self._connection.poll(0))


def _run(body: Callable[..., None], connection: Any, arguments: tuple[Any, ...]) -> None:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    try:
        body(Pipe(connection), *arguments)
    except BaseException:
        connection.send(("error", traceback.format_exc()))
        raise
    finally:
        connection.close()


@contextmanager
def children(*made: Child) -> Iterator[tuple[Child, ...]]:
    """Kill the children at the end, so that none outlives the test."""
    try:
        yield made
    finally:
        for child in made:
            if child.process.is_alive():
                child.process.kill()
            child.process.join(PATIENCE_S)
            child.pipe.close()
