"""Bulk load: tasks of Ray Data write batches of rows through the hosts of a cluster."""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple, cast

import ray.data

from mrlstore.api.store import Store
from mrlstore.cluster.opening_clusters import connect
from mrlstore.cluster.sharded_store import ShardedStore
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import MrlStoreError, PartialWrite, ShardUnavailable, WriterReplaced
from mrlstore.exchange.importing import Imported, put
from mrlstore.exchange.input_row import FieldNames, InputRow, Refusal
from mrlstore.exchange.table_rows import read_batches
from mrlstore.ingest.pipeline import ingest
from mrlstore.types import Conflict

_PATIENCE_S: Final = 600.0  # for shards that do not answer: a lost node is whole again after a minute or two
_PAUSE_S: Final = 1.0
_TOLD: Final = 20  # refused rows of a batch that are named
_LIMITS: Final = ("requests_per_minute", "tokens_per_minute")  # of an embedder, for all that call it together


class LoadPlan(NamedTuple):
    """What every task of a load needs to know."""

    home: str
    options: dict[str, Any] | None
    fields: FieldNames
    namespace: str
    on_conflict: Conflict
    embedder: Callable[[], Embedder] | None


class BatchDone(NamedTuple):
    """What became of the rows of one batch."""

    written: int
    skipped: int
    embedded: int
    refused: int
    refusals: tuple[tuple[str, str], ...]  # place and reason of the first ones


class BatchWriter:
    """Writes batches, in an actor that Ray Data starts. Writing a batch again changes nothing."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._embedder = None if plan.embedder is None else plan.embedder()
        self._store: ShardedStore | None = None

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        """Write the rows of a pyarrow table; a row of figures."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return {name: [value] for name, value in _plain(self._written(batch)).items()}
            except (ShardUnavailable, PartialWrite, WriterReplaced):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def _written(self, batch: Any) -> BatchDone:
        plan, done, embedded = self._plan, Imported(), 0
        store = self._opened()
        found = list(read_batches(batch.combine_chunks().to_batches(), batch.schema, "row", plan.fields))
        for row in found:
            if isinstance(row, Refusal):
                done.refuse(row)
        rows = [row for row in found if isinstance(row, InputRow)]
        for namespace, group in groupby(rows, key=lambda row: row.namespace):
            space, some = plan.namespace if namespace is None else namespace, list(group)
            texts = [row for row in some if self._embedder and row.vector is None and row.document]
            others = [row for row in some if not (self._embedder and row.vector is None and row.document)]
            if others:
                put(cast(Store, store), others, space, plan.on_conflict, done, strict=False)
            if texts:
                embedded += self._embed(store, texts, space, done)
        told = tuple((one.place, one.why) for one in done.refusals[:_TOLD])
        return BatchDone(done.written, done.skipped, embedded, done.refused, told)

    def _embed(self, store: ShardedStore, rows: list[InputRow], namespace: str, done: Imported) -> int:
        """Embed and store texts, but those that are stored with the same content."""
        assert self._embedder is not None
        found = ingest(
            store,
            self._embedder,
            [row.document or "" for row in rows],
            [row.id for row in rows],
            [row.metadata for row in rows],
            namespace=namespace,
            on_error="skip",
        )
        done.skipped += found.skipped
        done.written += found.embedded
        for id, error in found.failed.items():
            done.refuse(Refusal(id, str(error)))
        return found.embedded

    def _opened(self) -> ShardedStore:
        if self._store is None:
            self._store = connect(self._plan.home, engine="ray", options=self._plan.options)
            if self._embedder is not None:
                self._store.record_embedder(self._embedder.fingerprint)
        return self._store


def loaded(source: Any, plan: LoadPlan, batch: int, writers: int, num_cpus: float) -> Iterator[BatchDone]:
    """Write all rows of a dataset, or of Parquet files; what became of each batch, as it is done."""
    rows = dataset_of(source)
    written = rows.map_batches(
        BatchWriter,
        fn_constructor_args=(plan,),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=writers),
        num_cpus=num_cpus,
    )
    for figures in written.iter_rows():
        told = tuple((place, why) for place, why in json.loads(figures["refusals"]))
        counts = {name: int(figures[name]) for name in BatchDone._fields[:-1]}
        yield BatchDone(**counts, refusals=told)


def dataset_of(source: Any) -> Any:
    """A dataset of Ray Data as it is, or one of Parquet files."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # it tells of each run at length
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return source if isinstance(source, ray.data.Dataset) else ray.data.read_parquet(source)


def rows_in(source: Any) -> int | None:
    """How many rows there are, where that is known without reading them."""
    if isinstance(source, ray.data.Dataset):
        return None
    return int(dataset_of(source).count())


def shared_embedder(make: Callable[[], Embedder], writers: int) -> Callable[[], Embedder]:
    """What makes an embedder for one of several writers.

    Where `make` is a `functools.partial` with limits of requests or tokens a minute, each gets its part of
    them, so that all together keep to them.
    """
    if not isinstance(make, functools.partial):
        return make
    limits = {name: make.keywords[name] for name in _LIMITS if make.keywords.get(name) is not None}
    own = {name: max(1, math.floor(limit / writers)) for name, limit in limits.items()}
    return functools.partial(make, **own)


def _plain(done: BatchDone) -> dict[str, Any]:
    return {**done._asdict(), "refusals": json.dumps(done.refusals)}


def ended(store: ShardedStore) -> None:
    """Build the graphs of all shards and ship their snapshots, though shards may change hosts meanwhile."""
    deadline = time.monotonic() + _PATIENCE_S
    for work in (store.optimize, store.snapshot):
        while True:
            try:
                work()
                break
            except MrlStoreError as error:
                again = isinstance(error, ShardUnavailable | WriterReplaced)
                if not again or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
