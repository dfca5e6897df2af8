"""What the copy of a shard answers: functions of its store, called by name through an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.catalogue.marks import Mark
from mrlstore.cluster.shard_store import ShardStore
from mrlstore.errors import InvalidInput
from mrlstore.types import LIMITS, Facet, HitGroup, Record, Result, Stats, VerifyReport


def query(store: Store, vector: NDArray[np.float32], k: int, exact: bool, **arguments: Any) -> Result:
    """The best rows of the shard; with `exact` those of equal scores with the smallest ids."""
    if exact:
        return store.query(vector, k, exact=True, ties="id", **arguments)
    return store.query(vector, k, **arguments)


def query_batch(
    store: Store, vectors: NDArray[np.float32], k: int, exact: bool, **arguments: Any
) -> list[Result]:
    """`query` for each of the vectors, [n, dim]."""
    if exact and k == LIMITS.k:  # no row more can be asked for in a batch
        return [query(store, vector, k, exact, **arguments) for vector in vectors]
    asked, found = k + 1 if exact else k, []
    for vector, result in zip(
        vectors, store.query_batch(vectors, asked, exact=exact, **arguments), strict=True
    ):
        tied = exact and len(result) > k and result.scores[-1] == result.scores[k - 1]
        found.append(query(store, vector, k, exact, **arguments) if tied else result)
    return found


def query_whole(store: Store, **arguments: Any) -> Result:
    """`Store.query`, in the only shard that has rows of its namespace."""
    return store.query(**arguments)


def query_groups(store: Store, vector: NDArray[np.float32], k: int, **arguments: Any) -> Result:
    """The groups with the best rows of the shard."""
    return store.query(vector, k, **arguments)


def fill_groups(
    store: Store,
    vector: NDArray[np.float32],
    field: str,
    values: Sequence[Any],
    size: int,
    where: Mapping[str, Any] | None,
    **arguments: Any,
) -> list[HitGroup]:
    """The best rows that the shard has of each of these groups."""
    filled = []
    for value in values:
        own = {field: value}
        both = own if where is None else {"$and": [dict(where), own]}
        hits = query(store, vector, size, where=both, **arguments).hits
        filled.append(HitGroup(value, list(hits)))
    return filled


def stored_vectors(store: Store, namespace: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors, in their original length, of those of the rows that have one."""
    found = store.get(ids, namespace=namespace, include=("vector",))
    return {record.id: record.vector for record in found if record.vector is not None}


def existing(store: Store, namespace: str, ids: Sequence[str]) -> list[str]:
    """Which of the ids there are."""
    return [record.id for record in store.get(ids, namespace=namespace, include=())]


def get(store: Store, ids: Sequence[str] | None, **arguments: Any) -> list[Record]:
    """`Store.get`; an empty list of ids is one."""
    return store.get(ids, **arguments)


def page(store: Store, where: Any, **arguments: Any) -> list[Record]:
    """A page of `Store.scan`."""
    return list(store.scan(where, **arguments))


def count(store: Store, where: Any, namespace: str | None) -> int:
    """`Store.count`."""
    return store.count(where, namespace=namespace)


def facets(store: Store, field: str, **arguments: Any) -> list[Facet]:
    """`Store.facets`, all values."""
    return store.facets(field, **arguments)


def sample(store: Store, n: int, **arguments: Any) -> list[Record]:
    """`Store.sample`."""
    return store.sample(n, **arguments)


def namespaces(store: Store) -> dict[str, int]:
    """`Store.namespaces`."""
    return store.namespaces()


def optimize(store: Store, timeout_s: float | None) -> None:
    """`Store.optimize`."""
    store.optimize(timeout_s=timeout_s)


def warm(store: Store) -> None:
    """`Store.warm`."""
    store.warm()


def stats(store: ShardStore) -> tuple[Mark, Stats]:
    """`Store.stats`, and how far the copy had come before."""
    return store.mark, store.stats()


def verify(store: Store) -> VerifyReport:
    """`Store.verify`."""
    return store.verify()


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (
        query,
        query_batch,
        query_whole,
        query_groups,
        fill_groups,
        stored_vectors,
        existing,
        get,
        page,
        count,
        facets,
        sample,
        namespaces,
        optimize,
        warm,
        stats,
        verify,
    )
}


def answered(store: Store, name: str, arguments: Mapping[str, Any]) -> Any:
    """Answer a question."""
    if name not in _FUNCTIONS:
        raise InvalidInput(f"a shard cannot be asked for {name!r:.80}")
    return _FUNCTIONS[name](store, **arguments)
