"""An event that an exception between any two bytecodes leaves whole.

`threading.Event` and `Condition` take their locks in Python code. Ctrl-C may arrive between that and the
`with` block that would let go of it: the lock then stays locked, and every later `set` waits for ever.
"""

from __future__ import annotations

import queue
from contextlib import suppress


class Event:
    """As threading.Event, for one thread that waits; any thread, and a signal handler, may set it."""

    def __init__(self) -> None:
        self._set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()  # in C: `put` is one step

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Wake the thread that waits, and let none wait until `clear`."""
        self._set = True
        if self._tokens.empty():
            self._tokens.put(None)

    def clear(self) -> None:
        """Let threads wait again; what is set meanwhile stays so, or ends the next `wait` early."""
        self._set = False
        with suppress(queue.Empty):
            while True:
                self._tokens.get_nowait()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is set, or for so many seconds; it may end early. Whether it is set."""
        if not self._set:
            with suppress(queue.Empty):
                self._tokens.get(timeout=max(0.0, timeout_s))
        return self._set
