"""A cluster as an index of the server: `papers.cluster.json` in its folder says where the cluster is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from mrlstore import cluster
from mrlstore.api.store import Store
from mrlstore.embedders.fingerprint import Fingerprinted, fingerprint_of
from mrlstore.errors import InvalidInput
from mrlstore.types import Stats, VerifyReport

SUFFIX: Final = ".cluster.json"
# The arguments of `cluster.connect` that the file may have.
_ALLOWED: Final = frozenset(
    (
        *("home", "engine", "mode", "folder", "group_ms", "snapshot_s", "snapshot_bytes", "poll_s"),
        *("copies", "hosts", "num_cpus", "labels", "options"),
    )
)
_SUMMED: Final = (
    *("rows", "rows_without_vector", "tail_rows", "segments", "flat_segments", "indexed_rows", "dead_rows"),
    *("damaged_parts", "bytes_on_disk", "bytes_reclaimable", "bytes_wal"),
)


class ServedCluster:
    """A `ShardedStore` with the few attributes of `Store` beyond it that the server uses."""

    def __init__(self, store: cluster.ShardedStore, path: Path) -> None:
        self.sharded, self.path = store, path

    def __getattr__(self, name: str) -> Any:
        """What `ShardedStore` has, and refuses."""
        return getattr(self.sharded, name)

    @property
    def generation(self) -> int:
        """Always 0: a cluster has a place of the log for each shard instead."""
        return 0

    def stats(self) -> Stats:
        """The sums over the shards."""
        shards = [one.store for one in self.sharded.stats().shards]
        kinds = {name for one in shards for name in one.bytes_by_kind}
        graphs = {name for one in shards for name in one.rows_by_graph}
        return replace(
            shards[0],
            path=self.sharded.url,
            generation=self.generation,
            namespaces=len(self.sharded.namespaces()),
            bytes_by_kind={name: sum(one.bytes_by_kind.get(name, 0) for one in shards) for name in kinds},
            rows_by_graph={name: sum(one.rows_by_graph.get(name, 0) for one in shards) for name in graphs},
            audit=(),
            shipping=(),
            **{name: sum(getattr(one, name) for one in shards) for name in _SUMMED},
        )

    def verify(self, progress: object = None) -> VerifyReport:
        """Check every copy; there is no progress."""
        return self.sharded.verify()

    def audit(self, rate: float = 0, **_: Any) -> None:
        """Off is all that it can be."""
        if rate:
            raise InvalidInput("audit: not for a cluster")

    def settle_embedder(self, embedder: Fingerprinted) -> None:
        """Record what makes the vectors; InvalidInput if that is another embedder than before."""
        self.sharded.record_embedder(json.loads(fingerprint_of(embedder)))


def opened_cluster(file: Path, path: Path, *, read_only: bool, threads: int | None) -> Store:
    """The cluster that a file describes, with the methods of `Store` that a cluster has.

    Args:
        file: a JSON object with `home` and other arguments of `mrlstore.cluster.connect`.
        path: beside which the server keeps what clients say about the index.
        read_only: connect with mode="r", whatever the file says.
        threads: of each shard.

    Raises:
        InvalidInput: the file is not such an object.
        StoreNotFound and others: as `mrlstore.cluster.connect`.
    """
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        unknown = sorted(given.keys() - _ALLOWED)
        home = given.pop("home")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput(f'{file.name}: expected {{"home": "s3://bucket/papers"}} ({error!r})') from error
    if unknown:
        raise InvalidInput(f"{file.name}: {unknown[0]!r:.80} is not one of {', '.join(sorted(_ALLOWED))}")
    mode: Literal["r", "a"] = "r" if read_only else given.pop("mode", "a")
    given.pop("mode", None)
    found = ServedCluster(cluster.connect(home, mode=mode, threads=threads, **given), path)
    return cast(Store, found)


def cluster_of(store: object) -> ServedCluster | None:
    """The cluster behind an open index; None where it is one store."""
    return store if isinstance(store, ServedCluster) else None
