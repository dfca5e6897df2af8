"""Defaults of the methods that measure recall, so that a process imports no more of it than it needs."""

from __future__ import annotations

from typing import Final

QUERIES: Final = 400  # questions that an automatic calibration makes of stored rows
DIMS: Final = (256, 512, 768, 1536, 3072)  # lengths of prefix that a tier report compares
