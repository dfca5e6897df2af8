"""A thread that goes round the shards of a process: writers ship what is due, copies follow the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from mrlstore.errors import MrlStoreError
from mrlstore.system.log import log_event

_LONGEST_S: Final = 60.0  # between two rounds after failures


class ShardRounds:
    """Calls a function again and again, each time after a pause; after a failure the pause is doubled."""

    def __init__(self, doing: str, where: str, work: Callable[[], None], every_s: float) -> None:
        self._doing, self._where, self._work, self._every_s = doing, where, work, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mrlstore-{doing}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a round that is under way is finished first."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._every_s
        while not self._end.wait(pause):
            try:
                self._work()
                pause = self._every_s
            except MrlStoreError as error:
                pause = min(_LONGEST_S, 2 * pause)
                words = f"{self._doing} failed, and is tried again in {pause:.3g} s: {error}"
                log_event("round failed", self._where, words, level=logging.WARNING)
            except Exception:
                pause = _LONGEST_S
                log_event("round failed", self._where, self._doing, level=logging.ERROR, trace=True)
