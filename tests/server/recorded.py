"""Recorded requests of clients of hosted databases, and the fields that an answer needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def recorded(name: str) -> list[dict[str, Any]]:
    """The recordings in a file of the folder `wire`, one a line."""
    text = (Path(__file__).parent / "wire" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def covers(answer: Any, least: Any, place: str) -> None:
    """The answer has every field that a client needs, of the same kind; entries under ids have any name."""
    if isinstance(least, dict):
        assert isinstance(answer, dict), place
        by_name = place.rpartition(".")[2] in ("vectors", "namespaces")
        for name, value in least.items():
            found = next(iter(answer.values()), value) if by_name else answer.get(name)
            assert found is not None, f"{place}.{name} is missing in {answer}"
            covers(found, value, f"{place}.{name}")
    elif isinstance(least, list):
        assert isinstance(answer, list), place
        for one in answer[:1] if least else []:
            covers(one, least[0], place)
    elif isinstance(least, str):
        assert isinstance(answer, str), f"{place}: {answer!r}"
    elif least is not None:
        assert isinstance(answer, int | float), f"{place}: {answer!r}"
