"""Tokens: how far each shard had come, as one text that a reader in another process can be given."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping

from mrlstore.errors import InvalidInput


def token_of(places: Mapping[int, int]) -> str:
    """The text of the places of shards."""
    plain = json.dumps({str(shard): place for shard, place in sorted(places.items())})
    return base64.urlsafe_b64encode(plain.encode()).decode()


def places_of(token: object) -> dict[int, int]:
    """The places of shards of a token; InvalidInput if it is none."""
    try:
        found = json.loads(base64.b64decode(str(token).encode(), altchars=b"-_", validate=True))
        places = {int(shard): place for shard, place in found.items()}
        if isinstance(token, str) and all(type(place) is int for place in places.values()):
            return places
    except (ValueError, AttributeError):
        pass
    raise InvalidInput(f"after: {token!r:.80} is not a token; take it from an answer's .token")


def newest(places: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """For each shard the place that is furthest on."""
    found: dict[int, int] = {}
    for some in places:
        for shard, place in some.items():
            found[shard] = max(place, found.get(shard, 0))
    return found
