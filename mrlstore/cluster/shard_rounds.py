"""A thread that goes round the shards of a process and does what is due for each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from mrlstore.cluster.running_shard import RunningShard
from mrlstore.errors import MrlStoreError
from mrlstore.system.log import log_event

_LONGEST_S: Final = 60.0  # between two rounds after failures


class ShardRounds:
    """Looks after each shard again and again; after a failure the next pause is twice as long."""

    def __init__(self, shards: Callable[[], Iterable[RunningShard]], every_s: float) -> None:
        self._shards, self._every_s = shards, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mrlstore-rounds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is under way is finished first."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._every_s
        while not self._end.wait(pause):
            failed = [
                shard for shard in self._shards() if not self._end.is_set() and not _looked_after(shard)
            ]
            pause = min(_LONGEST_S, 2 * pause) if failed else self._every_s


def _looked_after(shard: RunningShard) -> bool:
    """Whether what is due could be done; else it is logged, and will be tried again."""
    url, number = shard.copy.storage.url, shard.copy.shard
    try:
        shard.look_after()
        return True
    except MrlStoreError as error:
        log_event("shard not looked after", url, str(error), level=logging.WARNING, shard=number)
    except Exception:
        log_event("shard not looked after", url, level=logging.ERROR, trace=True, shard=number)
    return False
