"""How the catalogue names a part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

PartKind = Literal["base", "index", "columns"]


def is_name(text: object) -> bool:
    """Whether this is the name of a part's folder, 32 hex digits: no path that leads elsewhere."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{32}", text) is not None


@dataclass(frozen=True)
class PartRef:
    """How the catalogue names a part: its folder, the crc32 of its part.json, and whether it is damaged."""

    name: str
    crc: int
    damaged: bool = False
