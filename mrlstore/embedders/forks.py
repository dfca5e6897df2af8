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
_inherited: list[Any] = []


def after_fork(owner: Any, renew: Step) -> None:
    """Let `renew(owner)` be called in every child, for as long as the owner lives."""
    _renewals[owner] = renew


def leave(inherited: object) -> None:
    """Keep something of the parent's from being closed by the garbage collector."""
    if inherited is not None:
        _inherited.append(inherited)


def _in_child() -> None:
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(after_in_child=_in_child)
