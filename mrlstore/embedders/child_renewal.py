"""What embedders do around a fork: the child gets new locks, and uses and closes nothing that it inherited.

A lock that another thread held at the moment of the fork would stay locked in the child for ever. Closing an
inherited connection would send the end of it to the server in the parent's name.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

Step = Callable[[Any], None]

_renewals: weakref.WeakKeyDictionary[Any, Step] = weakref.WeakKeyDictionary()
_inherited: list[Any] = []


def after_fork(owner: Any, renew: Step) -> None:
    """Let `renew(owner)` be called in every child, for as long as the owner lives."""
    _renewals[owner] = renew


def leave(inherited: object) -> None:
    """Keep an inherited object from being closed by the garbage collector."""
    if inherited is not None:
        _inherited.append(inherited)


def _in_child() -> None:
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(after_in_child=_in_child)
