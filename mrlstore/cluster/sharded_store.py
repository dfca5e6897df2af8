"""`ShardedStore`: the shards of a cluster as one store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from mrlstore.api.aio import off_loop
from mrlstore.api.arguments import ProgressCallback, check_job
from mrlstore.checks import check_namespace
from mrlstore.cluster.engine import Engine
from mrlstore.cluster.home import Durability, Home
from mrlstore.cluster.only_in_stores import OnlyInStores
from mrlstore.cluster.placement import ClusterView
from mrlstore.cluster.shard_store import settings_of
from mrlstore.cluster.sharded_query import ShardedQuery
from mrlstore.embedders.fingerprint import Fingerprint, Fingerprinted, check_same, fingerprint_of
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import MrlStoreError, ObjectNotFound
from mrlstore.object_storage import ObjectStorage
from mrlstore.system.late import LateModule
from mrlstore.types import Problem, Progress, Settings, Stats, VerifyReport

if TYPE_CHECKING:
    from mrlstore import ingest
    from mrlstore.ingest import Split
else:
    ingest = LateModule("mrlstore.ingest")

_EMBEDDER: Final = "embedder.json"


@dataclass(frozen=True)
class ShardStats:
    """One shard as the copy that was asked has it."""

    shard: int
    epoch: int  # of the writer
    place: int  # of the log, up to which the copy has come
    store: Stats


@dataclass(frozen=True)
class ClusterStats:
    """The state of a cluster, one moment of each shard."""

    home: str
    durability: Durability
    rows: int
    rows_without_vector: int
    dim: int
    prefix_dim: int
    bytes_on_disk: int  # of the copies that were asked
    shards: tuple[ShardStats, ...]


class ShardedStore(OnlyInStores, ShardedQuery):
    """The shards of a cluster with the methods of `Store`; made by `mrlstore.cluster.connect`.

    Safe to use from many threads. A call may touch several shards: each takes its part of a write whole, and
    answers from one moment of its own.
    """

    def __init__(
        self,
        home: Home,
        storage: ObjectStorage,
        engine: Engine,
        *,
        writes: bool,
        embedder: Embedder | None,
        at_close: Callable[[], None],
    ) -> None:
        super().__init__(home, engine, writes=writes, embedder=embedder)
        self._storage, self._at_close = storage, at_close

    @property
    def home(self) -> Home:
        """What the cluster was created with."""
        return self._home

    @property
    def settings(self) -> Settings:
        """What each shard was created with; the uuid is that of the cluster."""
        return replace(settings_of(self._home), store_uuid=self._home.uuid)

    @property
    def url(self) -> str:
        """Where the home lies, without credentials."""
        return self._storage.url

    @property
    def prefix_dim(self) -> int:
        """Leading dimensions that are indexed."""
        return self._home.prefix_dim

    @property
    def path(self) -> Path:
        """The home as a path, which no file of an export may lie in; for buckets one that does not exist."""
        return Path(self._storage.url)

    @property
    def embedder_fingerprint(self) -> str | dict[str, Any] | None:
        """Fingerprint of the embedder whose vectors the cluster holds, as `Store.embedder_fingerprint`."""
        try:
            recorded: str | dict[str, Any] = json.loads(self._storage.get(_EMBEDDER))
        except ObjectNotFound:
            return None
        return recorded

    def record_embedder(self, fingerprint: str | Mapping[str, Any]) -> None:
        """Say by which embedder the rows are embedded that `upsert` stores, as `Store.record_embedder`."""
        self._check_writes()
        self._settle_embedder(Fingerprint(fingerprint))

    def add(
        self,
        documents: Iterable[Any],
        ids: Iterable[str] | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        namespace: str = "",
        split: Split | None = None,
        on_error: Literal["raise", "skip", "keep"] = "raise",
        progress: ProgressCallback | None = None,
    ) -> list[str]:
        """Embed documents and store them, window by window, as `Store.add`."""
        self._check_writes()
        embedder = self._embedding()
        self._settle_embedder(embedder)
        done = ingest.ingest(
            self,
            embedder,
            documents,
            ids,
            metadatas,
            namespace=check_namespace(namespace),
            split=split,
            on_error=on_error,
            progress=progress,
        )
        return done.ids

    def stats(self) -> ClusterStats:
        """The state of the shards: rows, bytes, how far their copies have come."""
        asked = self._ask(self._shards(None), "stats", {})
        shards = tuple(
            ShardStats(shard, mark.epoch, mark.place, stats) for shard, (mark, stats) in asked.values.items()
        )
        return ClusterStats(
            self.url,
            self._home.durability,
            sum(one.store.rows for one in shards),
            sum(one.store.rows_without_vector for one in shards),
            self.dim,
            self.prefix_dim,
            sum(one.store.bytes_on_disk for one in shards),
            shards,
        )

    def hosts(self) -> ClusterView | None:
        """The hosts that Ray runs, as the controller saw them some seconds ago; None for engine="local"."""
        return self._engine.view

    def optimize(self, progress: ProgressCallback | None = None, timeout_s: float | None = None) -> None:
        """Flush, merge and index every shard, as `Store.optimize`; `progress` is told of each shard.

        With `progress` one shard comes after the other, else all at the same time.
        """
        check_job(progress, timeout_s)
        shards = self._shards(None)
        for number, some in enumerate([[shard] for shard in shards] if progress is not None else [shards], 1):
            self._ask(some, "optimize", {"timeout_s": timeout_s})
            if progress is not None:
                progress(Progress("optimizing", number, len(shards)))

    def snapshot(self) -> None:
        """Ship a snapshot of each shard, and remove from object storage what these make needless.

        Snapshots are shipped by themselves too, see `connect`; after `optimize` one saves the next process
        the work.
        """
        self._engine.snapshot()

    def warm(self) -> None:
        """Bring codes and graphs of every shard into memory."""
        self._ask(self._shards(None), "warm", {})

    def verify(self, progress: ProgressCallback | None = None) -> VerifyReport:
        """Check every copy that answers, as `Store.verify`; `progress` is told of each shard."""
        check_job(progress)
        found: dict[int, VerifyReport] = {}
        shards = self._shards(None)
        for number, some in enumerate([[shard] for shard in shards] if progress is not None else [shards], 1):
            found |= self._ask(some, "verify", {}).values
            if progress is not None:
                progress(Progress("verifying", number, len(shards)))
        graphs: dict[str, int] = {}
        for report in found.values():
            for name, rows in report.rows_by_graph.items():
                graphs[name] = graphs.get(name, 0) + rows
        return VerifyReport(
            all(report.ok for report in found.values()),
            tuple(
                Problem(f"shard {shard}: {problem.path}", problem.what, problem.remedy)
                for shard, report in found.items()
                for problem in report.problems
            ),
            sum(report.rows for report in found.values()),
            sum(report.parts for report in found.values()),
            sum(report.bytes_checked for report in found.values()),
            graphs,
        )

    def close(self) -> None:
        """End the writers and copies of this process; calling it again is harmless."""
        self._engine.close()
        self._at_close()

    aquery = off_loop(ShardedQuery.query)
    """`query`, off the event loop."""
    aquery_batch = off_loop(ShardedQuery.query_batch)
    """`query_batch`, off the event loop."""
    aupsert = off_loop(ShardedQuery.upsert)
    """`upsert`, off the event loop; cancelling the await does not undo a write that has begun."""
    aupdate = off_loop(ShardedQuery.update)
    """`update`, off the event loop."""
    adelete = off_loop(ShardedQuery.delete)
    """`delete`, off the event loop."""
    aget = off_loop(ShardedQuery.get)
    """`get`, off the event loop."""
    acount = off_loop(ShardedQuery.count)
    """`count`, off the event loop."""
    afacets = off_loop(ShardedQuery.facets)
    """`facets`, off the event loop."""
    asample = off_loop(ShardedQuery.sample)
    """`sample`, off the event loop."""
    aadd = off_loop(add)
    """`add`, off the event loop."""

    def __enter__(self) -> ShardedStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Where the home is, and its rows of all namespaces."""
        name = f"mrlstore.cluster.ShardedStore {self.url!r}"
        try:
            return f"<{name}: {self.count(namespace=None):,} rows in {self._home.shards} shards>"
        except MrlStoreError as error:
            return f"<{name} ({type(error).__name__})>"

    def _settle_embedder(self, embedder: Fingerprinted) -> None:
        """Record the embedder of the first document; InvalidInput if the cluster has vectors of another."""
        self._storage.create(_EMBEDDER, fingerprint_of(embedder).encode())
        check_same(self._storage.get(_EMBEDDER).decode(), embedder)
