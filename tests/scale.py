"""How much of a figure is run: all of it under `make torture` (MRLSTORE_TORTURE=1), a share by default.

A figure that takes long is divided: `shares` gives the numbers to parametrize its test by, so that each run
of the test takes minutes, any of them can be run alone, and several can run at the same time.
"""

from __future__ import annotations

import os

FULL = os.environ.get("MRLSTORE_TORTURE") == "1"


def figure(full: int, default: int) -> int:
    """The figure to run here."""
    return full if FULL else default


def shares(full: int, default: int = 1) -> range:
    """The numbers of the runs that a figure is divided into."""
    return range(figure(full, default))
