"""Fingerprints of embedders: a store keeps that of its own, so that vectors of two are not mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mrlstore.errors import InvalidInput


class Fingerprinted(Protocol):
    """An embedder, as far as its fingerprint is concerned."""

    @property
    def fingerprint(self) -> str | Mapping[str, Any]:
        """What two vectors must share to be comparable."""
        ...


@dataclass(frozen=True)
class Fingerprint:
    """A fingerprint that stands for an embedder that is elsewhere."""

    fingerprint: str | Mapping[str, Any]


def fingerprint_of(embedder: Fingerprinted) -> str:
    """Return an embedder's fingerprint as canonical JSON: vectors of equal fingerprints are comparable."""
    given = embedder.fingerprint
    if not isinstance(given, str | Mapping):
        raise InvalidInput(f"fingerprint of the embedder: a str or a mapping, not {type(given).__name__}")
    plain: Any = given if isinstance(given, str) else dict(given)
    try:
        return canonical(plain)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"fingerprint of the embedder: cannot be written as JSON ({error})") from error


def canonical(fingerprint: str | dict[str, Any]) -> str:
    """A fingerprint as the one JSON text that a store records."""
    return json.dumps(fingerprint, sort_keys=True, ensure_ascii=False)


def check_same(stored: str, embedder: Fingerprinted) -> None:
    """Raise InvalidInput, saying what differs and what to do, if the embedder is not that of the store."""
    given = fingerprint_of(embedder)
    if given == stored:
        return
    before, now = json.loads(stored), json.loads(given)
    differs = f"{before!r} is stored, {now!r} was given"
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        differs = "; ".join(
            f"{name}: {before.get(name)!r} is stored, {now.get(name)!r} given" for name in names
        )
    raise InvalidInput(
        f"the store holds vectors of another embedder, and the two cannot be compared ({differs}). Open it "
        "with the embedder it was made with, or embed its documents anew into a new store: mrlstore re-embed"
    )
