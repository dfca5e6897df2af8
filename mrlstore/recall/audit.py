"""The audit: a share of live queries is answered again exactly, in the background, and compared.

Queries wait in a short queue with the snapshot that they were answered from, so that both answers are of the
same generation; when the queue is full they are let go. After each exact answer the thread rests for as long
as the cost share asks. Nothing is written to the store, unless the audit learns: then it keeps the questions
that it has answered, and has the calibration curves measured with them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from mrlstore.planning import confidence
from mrlstore.recall.ground_truth import TIE
from mrlstore.storage.session import Answered
from mrlstore.storage.snapshot import SnapshotMoved
from mrlstore.system import late
from mrlstore.system.event import Event
from mrlstore.system.log import log_event
from mrlstore.system.scope import scope
from mrlstore.types import AuditStats

if TYPE_CHECKING:
    from mrlstore.recall.live_questions import LiveQuestions

QUEUE: Final = 16
_unaudited: set[int] = set()  # threads whose queries are the library's own
WARN_EVERY_S: Final = 60.0
_WORKER: Final = "worker"


@scope
def unaudited() -> Iterator[None]:
    """No query of the calling thread is checked in this block: it measures, and nobody has put it."""
    me = threading.get_ident()
    try:
        _unaudited.add(me)
        yield
    finally:
        _unaudited.discard(me)


class Audit:
    """One audit of one open store. A query that is not checked costs only the drawing of a random number."""

    def __init__(
        self,
        name: str,
        rate: float,
        floor: float,
        window: int,
        cost: float,
        learner: LiveQuestions | None = None,
    ) -> None:
        """Prepare it; its thread starts with the first query that it takes."""
        self._learner = learner
        self.name, self.rate, self.floor, self.window, self.cost = name, rate, floor, window, cost
        self._queue: deque[Answered] = deque()
        self._seen: dict[int, deque[tuple[int, int]]] = {}  # k -> (found, to be found) of each query
        self._let_go = 0
        # Taken in C code, which no exception cuts in two; a signal handler that queries may take it again.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._stopped = Event()
        self._threads: dict[str, threading.Thread] = {}  # the one that compares; it enters itself
        self._busy = False
        self._warned_at = -WARN_EVERY_S

    def takes(self) -> bool:
        """Whether to check the next answer: decided at random, at the audit's rate."""
        if threading.get_ident() in _unaudited:
            return False
        return self.rate >= 1 or late.random.random() < self.rate

    def offer(self, answered: Answered) -> None:
        """Queue an answer for comparison with the exact one."""
        with self._lock:
            if len(self._queue) >= QUEUE or self._stopped.is_set():
                self._let_go += 1
                return
            self._queue.append(answered)
            if _WORKER not in self._threads:
                self._start()
            self._work.notify_all()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="mrlstore-audit", daemon=True).start()
        except RuntimeError as error:  # no memory for another thread: the next answer tries again
            log_event("audit failed", self.name, str(error), level=logging.WARNING)

    def figures(self) -> tuple[AuditStats, ...]:
        """Rolling recall for each k, with its interval."""
        with self._lock:
            seen = {k: list(pairs) for k, pairs in sorted(self._seen.items())}
            let_go = self._let_go
        return tuple(self._figure(k, pairs, let_go) for k, pairs in seen.items())

    def wait(self, timeout_s: float) -> bool:
        """Whether all queries taken so far are checked within this time; they are checked without pauses."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while self._queue or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._work.wait(left)
        return True

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopped.set()
        if self._learner is not None:
            self._learner.stop()
        with self._lock:
            self._queue.clear()
            self._work.notify_all()
        thread = self._threads.get(_WORKER)
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _figure(self, k: int, pairs: list[tuple[int, int]], let_go: int) -> AuditStats:
        found, wanted = (sum(pair[i] for pair in pairs) for i in (0, 1))
        span = confidence.clopper_pearson(found, wanted)
        return AuditStats(k, len(pairs), span.mean, span.low, span.high, let_go)

    def _run(self) -> None:
        me = threading.current_thread()
        if self._threads.setdefault(_WORKER, me) is not me:
            return
        while not self._stopped.is_set():
            with self._lock:
                while not self._queue and not self._stopped.is_set():
                    self._work.wait()
                if self._stopped.is_set():
                    break
                item = self._queue.popleft()
                self._busy = True
            started = time.perf_counter()
            try:
                self._check(item)
                if self._learner is not None and item.namespace is not None:
                    self._learner.keep(item.namespace, item.vector)
            except SnapshotMoved:
                pass  # the filter needs metadata of a generation that the catalogue no longer has
            except Exception as error:
                log_event("audit failed", self.name, str(error), level=logging.ERROR, trace=True)
            del item
            with self._lock:
                self._busy = False
                self._work.notify_all()
            self._stopped.wait((time.perf_counter() - started) * (1 / self.cost - 1))
        if self._learner is not None:
            try:
                self._learner.write()
            except Exception as error:  # locked, or the disk is full: the last few are not kept
                log_event("audit failed", self.name, str(error), level=logging.ERROR, trace=True)

    def _check(self, item: Answered) -> None:
        exact = item.exact()
        if not len(exact):
            return
        found = min(int(np.count_nonzero(item.scores >= exact[-1] - TIE)), len(exact))
        with self._lock:
            pairs = self._seen.setdefault(item.k, deque(maxlen=self.window))
            pairs.append((found, len(exact)))
            figure = self._figure(item.k, list(pairs), self._let_go)
        now = time.monotonic()
        if figure.high < self.floor and now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            log_event(
                "low recall",
                self.name,
                f"recall@{figure.k} of the last audited queries is below the floor of {self.floor:g}; "
                "run calibrate() or optimize()",
                level=logging.WARNING,
                k=figure.k,
                queries=figure.queries,
                recall=figure.recall,
                low=figure.low,
                high=figure.high,
            )
