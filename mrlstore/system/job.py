"""How long work reports its progress, is stopped, and waits for its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mrlstore.types import Progress


class Interrupted(Exception):
    """The job was asked to stop. What it had begun is removed; nothing of it was committed."""


class CallbackError(BaseException):
    """Carries what a progress callback raised past the library's handlers.

    To them a FileNotFoundError is a part that is gone, an OSError a full disk, StorePoisoned a lost commit.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def callback_errors() -> Iterator[None]:
    """What a progress callback raises in the block reaches the caller as it was raised."""
    try:
        yield
    except CallbackError as carried:
        error = carried.error
    else:
        return
    raise error


@dataclass(frozen=True)
class Job:
    """Long work as whoever started it sees it. All three are optional; any thread may use it."""

    progress: Callable[[Progress], None] | None = None  # called with how much is done
    should_stop: Callable[[], bool] | None = None  # asked several times a second
    wait_until: float = 0.0  # time.monotonic() up to which the job may wait for its turn

    @classmethod
    def waiting(cls, wait_s: float, progress: Callable[[Progress], None] | None = None) -> Job:
        """A job that may wait this long, from now on, for its turn."""
        return cls(progress, wait_until=time.monotonic() + wait_s)

    @property
    def wait_s(self) -> float:
        """Seconds that are left to wait, 0 or more."""
        return max(0.0, self.wait_until - time.monotonic())

    def check(self) -> None:
        """Raise Interrupted if the job is to stop."""
        if self.should_stop is not None and self.should_stop():
            raise Interrupted

    def step(self, phase: str, done: int, total: int) -> None:
        """Report `done` of `total` units of a phase.

        Raises Interrupted if the job is to stop, and CallbackError if the callback has failed.
        """
        self.check()
        if self.progress is not None:
            try:
                self.progress(Progress(phase, done, total))
            except Exception as error:
                raise CallbackError(error) from error


UNWATCHED: Final = Job()  # reports to nobody and is never stopped
