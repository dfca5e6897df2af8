"""`build`: rows of Parquet files or of a dataset of Ray Data into a cluster, by many processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mrlstore import checks
from mrlstore.cluster.opening_clusters import connect
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import Extra, FieldNames, check_omit
from mrlstore.system.late import importing
from mrlstore.types import Conflict, Progress

_KEPT: Final = 1_000  # refused rows that are named


@dataclass(frozen=True)
class Built:
    """What a bulk load has done. After a task that Ray repeated, some rows count as skipped or twice."""

    written: int
    skipped: int  # were there already
    embedded: int  # of those written: their texts were embedded
    refused: int
    refusals: tuple[tuple[str, str], ...]  # place and reason of the first 1,000

    @property
    def rows(self) -> int:
        """Rows read, whatever became of them."""
        return self.written + self.skipped + self.refused


def build(
    source: Any,
    home: str | os.PathLike[str],
    *,
    embedder: Callable[[], Embedder] | None = None,
    namespace: str = "",
    on_conflict: Conflict = "skip",
    names: Mapping[str, str] | None = None,
    extra: Extra = "refuse",
    omit: Collection[str] = (),
    id_as_text: bool = False,
    batch: int = 4096,
    writers: int = 2,
    num_cpus: float = 1.0,
    finish: bool = True,
    progress: Callable[[Progress], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Built:
    """Load rows into a cluster by Ray Data, and ship a snapshot of each shard.

    A load that was interrupted goes on when it is called again: rows that are there are only read, and texts
    that are stored are not embedded again. A row that Ray's tasks write twice is there once.

    Args:
        source: Parquet files, as a path, a URL or a list of them, or a `ray.data.Dataset`. Its columns are
            id, vector, metadata, document and namespace; all but id may be missing.
        home: where the cluster is, as in `create`. Hosts that run are used; otherwise they are started as
            `connect` does by default.
        embedder: makes an embedder in each writer, for rows that have a document and no vector: a class, a
            function or a `functools.partial`. The limits `requests_per_minute` and `tokens_per_minute` of a
            partial are divided among the writers, so that all together keep to them.
        namespace: where rows go that name none themselves.
        on_conflict: "skip" rows whose id is there, "replace" them, or refuse them ("error"). Texts that are
            embedded are replaced where they differ.
        names: what the columns are called: {"id": "doc_id", "vector": "embedding"}.
        extra: "metadata" makes metadata of columns that are no part of a row, "refuse" refuses them.
        omit: columns that are left out.
        id_as_text: make texts of ids that are whole numbers.
        batch: rows of a task, 1 to 100,000.
        writers: actors of Ray Data that embed and write at the same time.
        num_cpus: processors that each of them asks Ray for.
        finish: build the graphs and ship snapshots at the end; False where more is to come.
        progress: is told how many rows are done.
        options: for buckets, as in `create`.

    Returns:
        How many rows were written, skipped, embedded and refused. All that was written is durable.

    Raises:
        InvalidInput: an argument is wrong, or a column is.
        ShardUnavailable, PartialWrite: shards did not answer for ten minutes; call it again.
        ImportError: Ray Data is not installed.
    """
    checks.check_count(batch, "batch", 1, 100_000)
    checks.check_count(writers, "writers", 1, 4_096)
    checks.check_choice(on_conflict, "on_conflict", ("skip", "replace", "error"))
    checks.check_progress(progress)
    if embedder is not None and not callable(embedder):
        raise InvalidInput(
            "embedder: expected what makes one, such as functools.partial(GeminiEmbedder, dim=768)"
        )
    fields = FieldNames(names or {}, extra, check_omit(omit), checks.check_flag(id_as_text, "id_as_text"))
    try:
        with importing:
            from mrlstore.cluster.ray_engine import bulk_load
    except ImportError as error:
        raise ImportError("build needs Ray Data: pip install 'mrlstore[ray-data]'") from error
    place, known = os.fspath(home), None if options is None else dict(options)
    make = None if embedder is None else bulk_load.shared_embedder(embedder, writers)
    plan = bulk_load.LoadPlan(place, known, fields, checks.check_namespace(namespace), on_conflict, make)
    with connect(place, engine="ray", options=options) as store:
        total = None if progress is None else bulk_load.rows_in(source)
        done = Built(0, 0, 0, 0, ())
        for one in bulk_load.loaded(source, plan, batch, writers, num_cpus):
            done = Built(
                done.written + one.written,
                done.skipped + one.skipped,
                done.embedded + one.embedded,
                done.refused + one.refused,
                _first(done.refusals, one.refusals),
            )
            if progress is not None:
                progress(Progress("loading", done.rows, max(done.rows, total or 0)))
        if finish:
            bulk_load.ended(store)
    return done


def _first(known: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return (*known, *new)[:_KEPT]
