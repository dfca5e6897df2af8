"""Migrating: page by page from an origin into a store, with checkpoints, and compared at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mrlstore
from mrlstore.api.store import Store
from mrlstore.checks import check_count
from mrlstore.errors import InvalidInput, StoreNotFound
from mrlstore.exchange.importing import Imported, put
from mrlstore.exchange.input_row import InputRow, Refusal
from mrlstore.exchange.migrate.checkpoint import Checkpoint, CollectionState
from mrlstore.exchange.migrate.comparison import Checked, check, take_sample
from mrlstore.exchange.migrate.origin import (
    COSINE,
    Choice,
    Collection,
    Origin,
    RowPage,
    open_origin,
    origin_errors,
)
from mrlstore.types import Progress

BATCH: Final = 4096  # rows to a commit


@dataclass(frozen=True)
class Migrated:
    """What a migration has done."""

    collections: tuple[Checked, ...]
    warnings: tuple[str, ...]  # what was left out, or is different in a store
    refusals: tuple[Refusal, ...]  # rows that could not be stored, the first 10,000

    @property
    def ok(self) -> bool:
        """Whether every row that was read is stored, and no comparison found a difference."""
        return not self.refused and not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """The differences that comparing has found."""
        return tuple(problem for each in self.collections for problem in each.problems)

    @property
    def read(self) -> int:
        """Rows that were read."""
        return sum(each.read for each in self.collections)

    @property
    def rows(self) -> int:
        """Rows that were stored."""
        return self.read - self.refused

    @property
    def refused(self) -> int:
        """Rows that were read and could not be stored."""
        return sum(each.refused for each in self.collections)


def migrate(
    path: str | os.PathLike[str],
    source: str,
    *,
    choice: Choice | None = None,
    prefix_dim: int | None = None,
    batch: int = BATCH,
    sample: int = 100,
    restart: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Migrated:
    """Bring the collections of another database into a store, in constant memory.

    Args:
        path: the store; it is created if absent.
        source: "qdrant:FOLDER" and so on, see `open_origin`.
        choice: which collections, how their fields are understood, and which fields are left out. One
            collection alone goes to `choice.namespace`, by default the unnamed one; several go to namespaces
            of their names.
        prefix_dim: leading dimensions to index, for a store that is created.
        batch: rows to a commit, 1 to 100,000.
        sample: how many rows of each collection are compared at the end.
        restart: begin again, instead of continuing an interrupted migration.
        progress: called with how much is done.

    Returns:
        What was copied and what comparing it found; `ok` if all of it is stored as it was. All rows are
        durable; graphs over them are built by `optimize`, or by the next process that writes. Rows whose id
        is there already are replaced.

    Raises:
        InvalidInput: the source, a collection or a dimension does not fit; nothing was changed.
        ImportError: the database's package is not installed.
        OriginError: the database failed; what came before is stored, and the same call goes on.
    """
    check_count(batch, "batch", 1, 100_000)
    check_count(sample, "sample", 0, 10_000)
    choice = choice or Choice()
    checkpoint = Checkpoint(Path(path), source, choice, restart)
    origin = open_origin(source, choice)
    try:
        with origin_errors(origin.name):
            collections = origin.collections()
        if choice.namespace is not None and len(collections) > 1:
            raise InvalidInput(
                f"namespace: is for one collection, and there are {len(collections)}; choose one of them"
            )
        dim = _check_dims(Path(path), collections)
        with mrlstore.open(path, dim=dim, prefix_dim=prefix_dim, auto_maintain=False) as store:
            migration = _Migration(store, origin, checkpoint, batch, sample, progress)
            alone = choice.namespace or ""
            spaces = [alone if len(collections) == 1 else each.name for each in collections]
            pairs = list(zip(collections, spaces, strict=True))
            for collection, space in pairs:
                migration.move(collection, space)
            checked = tuple(
                check(store, origin, each, space, checkpoint.states[each.name]) for each, space in pairs
            )
        checkpoint.remove()
        return Migrated(checked, tuple(_warnings(origin, collections)), tuple(migration.done.refusals))
    finally:
        origin.close()


class _Migration:
    """Moves one collection after the other."""

    def __init__(
        self,
        store: Store,
        origin: Origin,
        checkpoint: Checkpoint,
        batch: int,
        sample: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store, self.origin, self.checkpoint = store, origin, checkpoint
        self.batch, self.sample, self.progress = batch, sample, progress
        self.done = Imported()

    def move(self, collection: Collection, namespace: str) -> None:
        """Copy a collection, or what is left of it after an interruption."""
        state = self.checkpoint.states.get(collection.name)
        if state is None:
            state = CollectionState(before=self.store.count(namespace=namespace))
            self.checkpoint.states[collection.name] = state
            self.checkpoint.save()
        if state.done:
            return
        if state.after is None:  # interrupted within the first page or the last
            state.read, state.refused, state.sample = 0, 0, {}
        for page in _gathered(self._pages(collection, state.after), self.batch):
            self._put(page, namespace, state)
            state.after = page.after
            self.checkpoint.save()
            if self.progress:
                total = state.read if collection.rows is None else collection.rows
                self.progress(Progress(f"moving {collection.name}", state.read, total))
        state.done = True
        self.checkpoint.save()

    def _pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        with origin_errors(self.origin.name):
            yield from self.origin.pages(collection, after)

    def _put(self, page: RowPage, namespace: str, state: CollectionState) -> None:
        rows = [row for row in page.rows if isinstance(row, InputRow)]
        take_sample(state, rows, self.sample, state.read)
        before = self.done.refused
        for row in page.rows:
            if isinstance(row, Refusal):
                self.done.refuse(row)
        if rows:
            put(self.store, rows, namespace, "replace", self.done, strict=False)
        refused = self.done.refused - before
        if refused:
            there = self.store.get(list(state.sample), namespace=namespace, include=())
            kept = {record.id for record in there}
            state.sample = {id: digest for id, digest in state.sample.items() if id in kept}
        state.read, state.refused = state.read + len(page.rows), state.refused + refused


def _gathered(pages: Iterator[RowPage], size: int) -> Iterator[RowPage]:
    """Pages of at least so many rows each, except the last."""
    rows: list[InputRow | Refusal] = []
    after = None
    for page in pages:
        rows.extend(page.rows)
        after = page.after
        if len(rows) >= size:
            yield RowPage(rows, after)
            rows = []
    if rows:
        yield RowPage(rows, after)


def _check_dims(path: Path, collections: list[Collection]) -> int | None:
    """The dimension of all collections and of the store, if it is there; InvalidInput if they differ."""
    dims = {each.name: each.dim for each in collections if each.dim is not None}
    try:
        with mrlstore.open(path, mode="r") as store:
            here = store.dim
    except StoreNotFound:
        here = None
    for name, dim in dims.items():
        if here is not None and dim != here:
            raise InvalidInput(f"{name!r} has vectors of {dim} dimensions, the store {path} of {here}")
    if len(set(dims.values())) > 1:
        named = ", ".join(f"{name!r} {dim}" for name, dim in dims.items())
        raise InvalidInput(
            f"collections of different dimensions ({named}) go to different stores; choose one"
        )
    return next(iter(dims.values()), None)


def _warnings(origin: Origin, collections: list[Collection]) -> Iterator[str]:
    for each in collections:
        if each.metric is not None and each.metric != COSINE:
            yield (
                f"{each.name!r} is searched by {each.metric} in {origin.name}, a store by cosine: the order "
                "of answers differs unless all vectors have one length"
            )
        yield from (f"{each.name!r}: {remark}" for remark in each.remarks)
    yield from origin.skipped
