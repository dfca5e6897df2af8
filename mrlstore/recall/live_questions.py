"""Learning from live questions: the audit keeps those that it has answered exactly, and the curves follow.

People's questions may be unlike the rows, and unlike any question that is made of rows. The questions are
kept in the catalogue, so all processes share them; from ENOUGH on the curves are measured with them, and
measured again after every RENEWED new ones, because what people ask changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import questions
from mrlstore.catalogue.questions import Question
from mrlstore.recall import trials
from mrlstore.recall.trials import Probes
from mrlstore.storage.session import Session
from mrlstore.system.job import Interrupted, Job

ENOUGH: Final = 100  # questions without which curves are measured on stored rows
RENEWED: Final = 200  # new questions of this process after which curves are measured again
_WRITTEN_AT_ONCE: Final = 20  # questions of one transaction


class LiveQuestions:
    """What the audit of one open store keeps; its thread alone calls `keep` and `write`."""

    def __init__(self, session: Session, measure: Callable[[Job], object]) -> None:
        """`measure` is called when the curves are to be measured anew."""
        self._session, self._measure = session, measure
        self._new: list[Question] = []
        self._since: int | None = None  # questions kept since this object had the curves measured
        self._stopped = threading.Event()

    def keep(self, namespace: str, vector: NDArray[np.float32]) -> None:
        """Keep a question, float32 [dim], unit length. It is written with the next ones, or by `write`."""
        self._new.append(Question(namespace, vector.astype(np.float16).tobytes()))
        if len(self._new) >= _WRITTEN_AT_ONCE and self.write():
            with suppress(Interrupted):
                self._measure(Job(should_stop=self._stopped.is_set))

    def write(self) -> bool:
        """Write what was kept to the catalogue; True when the curves are to be measured anew."""
        new, self._new = self._new, []
        if not new:
            return False
        with self._session.storing("keeping questions"), self._session.catalogue.write() as write:
            questions.add(write.connection, new)
            enough = questions.count(write.connection) >= ENOUGH
        since = RENEWED if self._since is None else self._since + len(new)
        due = enough and since >= RENEWED
        self._since = 0 if due else None if self._since is None else since
        return due

    def stop(self) -> None:
        """End a measurement that is under way."""
        self._stopped.set()


def kept(session: Session, dim: int) -> list[Probes]:
    """The live questions by namespace; none where there are fewer than ENOUGH in all."""
    with session.catalogue.read() as connection:
        found = questions.load(connection)
    found = [one for one in found if len(one.vector) == 2 * dim]
    if len(found) < ENOUGH:
        return []
    groups: dict[str, list[NDArray[np.float16]]] = {}
    for one in reversed(found):  # the newest first: a filtered class takes the first half
        groups.setdefault(one.namespace, []).append(np.frombuffer(one.vector, np.float16))
    probes = []
    for namespace, vectors in groups.items():
        units = np.stack(vectors).astype(np.float32)
        units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-30)
        probes.append(trials.questions(namespace, units))
    return probes


def drop(session: Session) -> int:
    """Delete all kept questions; gives how many there were."""
    with session.storing("dropping questions"), session.catalogue.write() as write:
        count = questions.count(write.connection)
        questions.drop(write.connection)
    session.catalogue.checkpoint(whole=True)  # they leave the write-ahead log too
    return count
