"""A process that writes to a store and is killed at one of its operations, the library's or SQLite's."""

from __future__ import annotations

import os
import signal
from typing import Any

from mrlstore.api.opening import open_store
from tests.children import Pipe
from tests.seam import FailingFiles, with_sqlite


class DyingFiles(FailingFiles):
    """Ends the process at the `nth` operation, before it is done."""

    def trip(self, what: str) -> bool:
        self.count += 1
        if self.count == self.nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def write_and_die(pipe: Pipe, path: str, nth: int, verb: str, arguments: tuple[Any, ...], space: str) -> None:
    """Do one thing to the store at `path`; "done" is what is said if the process lives to see it."""
    files = with_sqlite(DyingFiles(nth, 0, for_ever=False))
    store = open_store(path, auto_maintain=False, files=files)
    if verb == "optimize":
        store.optimize()
    else:
        getattr(store, verb)(*arguments, namespace=space)
    pipe.send("done")
