"""How far a migration has come, in a small file beside the store that is removed when all is done."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mrlstore.errors import InvalidInput
from mrlstore.exchange.migrate.origin import Choice
from mrlstore.system.names import beside


@dataclass
class CollectionState:
    """How far one collection has come."""

    before: int = 0  # rows that the namespace had when the migration began
    read: int = 0
    refused: int = 0
    after: Any = None  # the origin's own mark of where to continue
    done: bool = False
    sample: dict[str, str] = field(default_factory=dict)  # id -> digest of the row as the origin gave it


class Checkpoint:
    """The file, and the states in it by name of the collection."""

    def __init__(self, store: Path, source: str, choice: Choice, restart: bool) -> None:
        """Read what an interrupted migration left.

        Raises:
            InvalidInput: it was one from another source or with another choice, or the file is not ours.
        """
        self.path = beside(store, ".migration.json")
        self.source = f"{source} {choice}"
        self.states: dict[str, CollectionState] = {}
        if restart or not self.path.exists():
            return
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            states = {name: CollectionState(**state) for name, state in kept["collections"].items()}
            other = kept["source"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(f"{self.path}: can't be read; remove it, or restart: {error}") from error
        if other != self.source:
            raise InvalidInput(f"{self.path}: a migration from {other} is not finished; go on, or restart")
        self.states = states

    def save(self) -> None:
        """Replace the file, whole or not at all."""
        collections = {name: asdict(state) for name, state in self.states.items()}
        new = beside(self.path, ".new")
        new.write_text(json.dumps({"source": self.source, "collections": collections}), encoding="utf-8")
        os.replace(new, self.path)

    def remove(self) -> None:
        """Remove the file: the migration is complete."""
        self.path.unlink(missing_ok=True)
