"""Front matter: metadata at the head of a text, as YAML between `---` or TOML between `+++`."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from typing import Any, Final, NamedTuple

_OPENING: Final = {"[": 1, "{": 1, "]": -1, "}": -1}
_FENCED: Final = re.compile(r"(---|\+\+\+)[ \t]*\n(?:(.*?)\n)?\1[ \t]*(?:\n|\Z)", re.DOTALL)
_MAX_CHARACTERS: Final = 16_384  # of front matter; longer ones stay in the text
_MAX_OPEN: Final = 64  # brackets open at once: the time that PyYAML takes grows with the square of these


class FrontMatter(NamedTuple):
    """What front matter said, and the text behind it."""

    metadata: dict[str, Any]
    text: str


def split_front_matter(text: str) -> FrontMatter:
    """Take the front matter off a text; what is none, or cannot be read, stays in the text.

    YAML is read where PyYAML is installed, which the extra `cli` brings. Dates become ISO texts; values that
    JSON does not have become texts; empty ones are left out.
    """
    found = _FENCED.match(text)
    if found is None or len(found[2] or "") > _MAX_CHARACTERS:
        return FrontMatter({}, text)
    try:
        parsed = _yaml(found[2] or "") if found[1] == "---" else tomllib.loads(found[2] or "")
        plain = _plain(parsed)
    except (ImportError, ValueError, RecursionError):
        return FrontMatter({}, text)
    return FrontMatter(plain, text[found.end() :]) if isinstance(plain, dict) else FrontMatter({}, text)


def _yaml(text: str) -> Any:
    """A YAML document; ValueError for what is none, or has aliases, which make gigabytes of a few lines."""
    import yaml

    depths = itertools.accumulate(_OPENING.get(letter, 0) for letter in text)
    if max(depths, default=0) > _MAX_OPEN:
        raise ValueError("YAML with too many brackets")
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ValueError("YAML with aliases")
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError("no YAML") from error


def _plain(value: Any) -> Any:
    """A value with what JSON has alone."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
