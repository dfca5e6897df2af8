"""How long work reports its progress, is stopped, and waits for its turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mrlstore.types import Progress


class Interrupted(Exception):
    """The job was asked to stop. What it had begun is removed; nothing of it was committed."""


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
        """Report `done` of `total` units of a phase; raises Interrupted if the job is to stop."""
        self.check()
        if self.progress is not None:
            self.progress(Progress(phase, done, total))


UNWATCHED: Final = Job()  # reports to nobody and is never stopped
