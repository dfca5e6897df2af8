"""How much of a figure is run: all of it under `make torture` (MRLSTORE_TORTURE=1), a share by default."""

from __future__ import annotations

import os

FULL = os.environ.get("MRLSTORE_TORTURE") == "1"


def figure(full: int, default: int) -> int:
    """The figure to run here."""
    return full if FULL else default
