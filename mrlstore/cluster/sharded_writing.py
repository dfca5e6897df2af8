"""The methods of `ShardedStore` that write: a batch is divided, and each shard takes its part whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mrlstore import checks
from mrlstore.api.selection_arguments import check_changes, check_selection
from mrlstore.cluster.asking import Asking
from mrlstore.cluster.cluster_results import ClusterWritten
from mrlstore.cluster.engine import Engine, ShardWrite
from mrlstore.cluster.home import Home
from mrlstore.cluster.operation_lanes import OperationLanes
from mrlstore.cluster.slots import divided
from mrlstore.cluster.write_requests import (
    Clear,
    Delete,
    OperationId,
    ShardWritten,
    Update,
    Upsert,
    WriteRequest,
)
from mrlstore.errors import (
    IdExists,
    InvalidInput,
    MrlStoreError,
    PartialWrite,
    ShardUnavailable,
    WriterReplaced,
)
from mrlstore.search.params import Selection
from mrlstore.types import Conflict, Vectors, Where
from mrlstore.writing.batch import Batch, RowChange, make_batch

_TRIES: Final = 5  # of a write whose fate is unknown
_PAUSE_S: Final = 0.1  # before the second, twice as long before each further one


class ShardedWriting(Asking):
    """Upsert, update, delete and clear over the shards of a cluster."""

    def __init__(self, home: Home, engine: Engine, *, writes: bool) -> None:
        super().__init__(home, engine)
        self._writes, self._lanes = writes, OperationLanes()

    def upsert(
        self,
        ids: Iterable[str],
        vectors: Vectors | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        namespace: str = "",
        on_conflict: Conflict = "replace",
    ) -> ClusterWritten:
        """Store rows, replacing those whose id exists, as `Store.upsert`; in each shard all of them or none.

        Raises:
            PartialWrite: some shards have stored their rows, others have not or may have. Repeat the call.
            WriterReplaced, ShardUnavailable: no shard has, or may have.
        """
        self._check_writes()
        checks.check_choice(on_conflict, "on_conflict", ("replace", "skip", "error"))
        batch = make_batch(ids, vectors, metadatas, documents, namespace, self._home.dim)
        parts = divided(namespace, batch.ids, self._home.shards)
        if on_conflict == "error" and len(parts) > 1:
            self._refuse_existing(batch, parts)
        requests = {shard: Upsert(_part(batch, rows), on_conflict) for shard, rows in parts.items()}
        return self._write(
            requests, {shard: [batch.ids[row] for row in rows] for shard, rows in parts.items()}
        )

    def update(
        self,
        ids: Iterable[str] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        vectors: Vectors | None = None,
        where: Where | None = None,
        namespace: str = "",
    ) -> ClusterWritten:
        """Change parts of rows that exist, as `Store.update`; raises as `upsert` does."""
        self._check_writes()
        selection = check_selection(ids, where, None, namespace, "update", ordered=True)
        changes = check_changes(selection, metadatas, documents, vectors, self._home.dim)
        if selection.ids is None:
            assert isinstance(changes, RowChange)
            return self._everywhere(namespace, Update(namespace, selection, changes))
        assert not isinstance(changes, RowChange)
        return self._by_ids(
            namespace,
            selection,
            lambda own: Update(namespace, own, {name: changes[name] for name in own.ids or ()}),
        )

    def delete(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        prefix: str | None = None,
        namespace: str = "",
    ) -> ClusterWritten:
        """Remove rows, as `Store.delete`; raises as `upsert` does."""
        self._check_writes()
        selection = check_selection(ids, where, prefix, namespace, "delete")
        if selection.ids is None:
            return self._everywhere(namespace, Delete(namespace, selection))
        return self._by_ids(namespace, selection, lambda own: Delete(namespace, own))

    def clear(self, namespace: str = "") -> ClusterWritten:
        """Remove all rows of a namespace; raises as `upsert` does."""
        self._check_writes()
        return self._everywhere(checks.check_namespace(namespace), Clear(namespace))

    def _check_writes(self) -> None:
        if not self._writes:
            raise InvalidInput('this cluster was connected to with mode="r"; take mode="a" to write')

    def _everywhere(self, namespace: str, request: WriteRequest) -> ClusterWritten:
        return self._write(dict.fromkeys(self._shards(namespace), request), {})

    def _by_ids(self, namespace: str, selection: Selection, request: Any) -> ClusterWritten:
        ids = selection.ids or []
        parts = divided(namespace, ids, self._home.shards)
        names = {shard: [ids[row] for row in rows] for shard, rows in parts.items()}
        return self._write(
            {shard: request(selection._replace(ids=own)) for shard, own in names.items()}, names
        )

    def _refuse_existing(self, batch: Batch, parts: Mapping[int, Sequence[int]]) -> None:
        """IdExists before anything is written, where an id is there in any shard."""
        there: set[str] = set()
        for shard, rows in parts.items():
            asked = {"namespace": batch.namespace, "ids": [batch.ids[row] for row in rows]}
            there.update(self._ask([shard], "existing", asked).values[shard])
        if there:
            first = next(name for name in batch.ids if name in there)
            raise IdExists(f"ids: {len(there)} exist already, {first!r} first; nothing was written")

    def _write(self, requests: Mapping[int, WriteRequest], names: Mapping[int, list[str]]) -> ClusterWritten:
        """Let each shard do its part; what came of it."""
        done: dict[int, ShardWritten] = {}
        failed: dict[int, MrlStoreError] = {}
        left = {shard: self._lanes.take(shard) for shard in requests}
        for number in range(_TRIES):
            if number:
                time.sleep(_PAUSE_S * 2 ** (number - 1))
            failed = self._tried({shard: (left[shard], requests[shard]) for shard in left}, done)
            left = {
                shard: left[shard]._replace(repeated=True)
                for shard, error in failed.items()
                if isinstance(error, ShardUnavailable)
            }
            if not left:
                break
        token = self._wrote({shard: one.place for shard, one in done.items()})
        if failed:
            raise _failure(done, failed, names)
        return ClusterWritten(sum(one.rows for one in done.values()), token)

    def _tried(
        self,
        writes: Mapping[int, tuple[OperationId, WriteRequest]],
        done: dict[int, ShardWritten],
    ) -> dict[int, MrlStoreError]:
        """Send each write once; adds what was done, and gives the errors."""
        sent = [ShardWrite(shard, operation, request) for shard, (operation, request) in writes.items()]
        failed = {}
        for one, outcome in zip(sent, self._engine.write(sent), strict=True):
            if isinstance(outcome, MrlStoreError):
                failed[one.shard] = outcome
                if isinstance(outcome, WriterReplaced) and self._home.durability == "local":
                    self._lost(one.shard)
                if isinstance(outcome, InvalidInput):
                    self._lanes.give_back(one.shard, one.operation)
            else:
                done[one.shard] = outcome
                self._lanes.give_back(one.shard, one.operation)
        return failed


def _failure(
    done: Mapping[int, ShardWritten],
    failed: Mapping[int, MrlStoreError],
    names: Mapping[int, list[str]],
) -> MrlStoreError:
    """The error of the only shard, or one that tells what is in."""
    errors = list(failed.values())
    if not done and (len(errors) == 1 or all(type(error) is type(errors[0]) for error in errors)):
        return errors[0]
    written = [name for shard in done for name in names.get(shard, [])]
    unknown = [name for shard in failed for name in names.get(shard, [])]
    shard, error = next(iter(failed.items()))
    return PartialWrite(
        f"{len(done)} of {len(done) + len(failed)} shards have this write; shard {shard}: {error}. "
        "Repeating the same call is safe",
        written,
        unknown,
        dict(failed),
    )


def _part(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of a batch."""
    if len(rows) == len(batch.ids):
        return batch
    chosen = np.array(rows, dtype=np.int64)
    with_vector = np.cumsum(~batch.without_vector) - 1
    vectors = with_vector[chosen[~batch.without_vector[chosen]]]
    return Batch(
        batch.namespace,
        [batch.ids[row] for row in rows],
        [batch.metadata[row] for row in rows],
        [batch.documents[row] for row in rows],
        batch.without_vector[chosen],
        batch.vectors[vectors],
        batch.norms[vectors],
    )
