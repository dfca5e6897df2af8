"""What all methods of `ShardedStore` share: which shards are asked, what is missing, and tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mrlstore.checks import check_choice
from mrlstore.cluster.cluster_results import Coverage
from mrlstore.cluster.engine import Engine, ShardQuestion
from mrlstore.cluster.home import Home
from mrlstore.cluster.slots import shards_of
from mrlstore.cluster.tokens import newest, places_of, token_of
from mrlstore.errors import InvalidInput, MrlStoreError, ShardUnavailable, StaleRead
from mrlstore.types import Namespaces

OnMissing = Literal["raise", "partial"]


class Asked(NamedTuple):
    """The values that shards answered, by their numbers."""

    values: dict[int, Any]
    token: str
    coverage: Coverage


class Asking:
    """Asks the shards of one cluster through its engine."""

    def __init__(self, home: Home, engine: Engine) -> None:
        self._home, self._engine = home, engine
        self._own = dict[int, int]()  # the places of the log that have the writes of this object
        self._own_guard = threading.Lock()

    def _shards(self, namespace: Namespaces) -> list[int]:
        """The shards that rows of some namespaces may lie in; None means all namespaces."""
        if namespace is None:
            return list(range(self._home.shards))
        names = (namespace,) if isinstance(namespace, str) else namespace
        return sorted({shard for name in names for shard in shards_of(name, self._home.shards)})

    def _ask(
        self,
        shards: Sequence[int],
        name: str,
        arguments: Mapping[str, Any],
        after: str | None = None,
        on_missing: OnMissing = "raise",
    ) -> Asked:
        """Ask these shards the same; an error of any is raised, unless it is missing and may be."""
        check_choice(on_missing, "on_missing", ("raise", "partial"))
        with self._own_guard:
            own = dict(self._own)
        floors = own if after is None else newest((own, places_of(after)))
        answers = self._engine.ask(shards, ShardQuestion(name, arguments), floors)
        values, places, missing = {}, {}, []
        for shard, answer in zip(shards, answers, strict=True):
            if not isinstance(answer, MrlStoreError):
                values[shard], places[shard] = answer.value, answer.place
            elif on_missing == "partial" and isinstance(answer, ShardUnavailable | StaleRead):
                missing.append(shard)
            else:
                raise answer
        if shards and not values:
            raise ShardUnavailable(f"none of the shards {missing} could be asked")
        return Asked(values, token_of(places), Coverage(len(shards), tuple(missing)))

    def _wrote(self, places: Mapping[int, int]) -> str:
        """Note the places of own writes, which later reads see; their token."""
        with self._own_guard:
            self._own = newest((self._own, places))
        return token_of(places)

    def _lost(self, shard: int) -> None:
        """Await own writes no longer of which a shard may have lost some, as its error has said."""
        with self._own_guard:
            self._own.pop(shard, None)

    def _only(self, shards: Iterable[int], what: str) -> int:
        """The shard, where there is one; InvalidInput that says what cannot be done over several."""
        few = list(shards)
        if len(few) != 1:
            raise InvalidInput(f"{what}: not over several shards; a named namespace lies in one")
        return few[0]
