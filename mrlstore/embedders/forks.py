"""Going through a fork: the child's locks are new, and what it inherits is neither used nor closed.

A lock that another thread held at the moment of the fork would never be given back in the child. And to
close an inherited connection would speak to the server in the parent's name.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

Step = Callable[[Any], None]

_renewals: weakref.WeakKeyDictionary[Any, Step] = weakref.WeakKeyDictionary()
_pauses: weakref.WeakKeyDictionary[Any, tuple[Step, Step]] = weakref.WeakKeyDictionary()
_paused: list[tuple[Any, Step]] = []
_inherited: list[Any] = []


def after_fork(owner: Any, renew: Step) -> None:
    """Let `renew(owner)` be called in every child, for as long as the owner lives."""
    _renewals[owner] = renew


def around_fork(owner: Any, pause: Step, resume: Step) -> None:
    """Let `pause(owner)` be called before every fork, and `resume(owner)` after it in the parent."""
    _pauses[owner] = (pause, resume)


def leave(inherited: object) -> None:
    """Keep something of the parent's from being closed by the garbage collector."""
    if inherited is not None:
        _inherited.append(inherited)


def _before() -> None:
    for owner, (pause, resume) in list(_pauses.items()):
        pause(owner)
        _paused.append((owner, resume))


def _in_parent() -> None:
    while _paused:
        owner, resume = _paused.pop()
        resume(owner)


def _in_child() -> None:
    _paused.clear()
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
