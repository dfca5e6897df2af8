"""Text from outside made safe for a terminal: no control characters, and nothing that its encoding lacks."""

from __future__ import annotations

import re

# C0 controls but tab and line feed, DEL, and the C1 controls: U+009B begins an escape sequence as ESC [ does.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# The signs of our own output, for terminals and pipes that are not UTF-8.
_ASCII = str.maketrans({"✓": "ok:", "✗": "not ok:", "→": "->", "█": "#", "░": ".", "…": "...", "·": "-"})


def safe_text(text: str) -> str:
    """A text with its control characters escaped, but for tabs and line ends."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def safe_line(text: str) -> str:
    """The same in one line: an id may hold line ends, and what follows would look like another result."""
    return safe_text(text).replace("\t", "\\t").replace("\n", "\\n")


def in_encoding(text: str, encoding: str) -> str:
    """A text whose signs of our own are replaced where the encoding may lack them."""
    return text if encoding.lower().startswith("utf") else text.translate(_ASCII)
