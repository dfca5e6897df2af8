"""Import: rows of a file, table or frame into a store, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.checks import check_count, check_flag, check_ids, check_progress
from mrlstore.errors import InvalidInput
from mrlstore.exchange.exact import restorable
from mrlstore.exchange.input_row import Extra, FieldNames, InputRow, Refusal, check_omit, refusal
from mrlstore.exchange.row_source import open_rows
from mrlstore.types import LIMITS, Conflict, Progress

KEPT_REFUSALS: Final = 10_000  # all refused rows are counted, so many are kept with place and reason
_BATCH_BYTES: Final = 256 * 1024 * 1024  # of rows in memory at once, whatever `batch` says


@dataclass
class Imported:
    """What an import has done: as if each row had been stored by itself, one after the other."""

    written: int = 0  # rows that were stored, those included that a later row with the same id replaced
    skipped: int = 0  # rows whose id was there already, with on_conflict="skip"
    refused: int = 0
    without_vector: int = 0  # of those that were read and not refused
    refusals: list[Refusal] = field(default_factory=list)  # the first 10,000 of them

    @property
    def rows(self) -> int:
        """Rows read so far, whatever became of them."""
        return self.written + self.skipped + self.refused

    def refuse(self, refused: Refusal) -> None:
        """Count a row as refused, and keep it if not too many are kept already."""
        self.refused += 1
        if len(self.refusals) < KEPT_REFUSALS:
            self.refusals.append(refused)


def import_rows(
    store: Store,
    source: Any,
    *,
    format: str | None = None,
    vectors: str | os.PathLike[str] | None = None,
    namespace: str = "",
    on_conflict: Conflict = "replace",
    strict: bool = False,
    names: Mapping[str, str] | None = None,
    extra: Extra = "refuse",
    omit: Collection[str] = (),
    id_as_text: bool = False,
    batch: int = 4096,
    progress: Callable[[Progress], None] | None = None,
) -> Imported:
    """Store the rows of a file, table or frame, batch by batch, in constant memory.

    Of an id that comes twice, the last row stays with "replace", the first with "skip" and "error", however
    large the batches are.

    Args:
        store: where they go.
        source: a path (.jsonl, .csv, both with .gz behind it as well, .parquet, .arrow ...), the "s3://",
            "gs://" or "az://" URL of such a file, a binary file, a pyarrow Table, RecordBatch or
            RecordBatchReader, a pandas frame, a polars DataFrame or LazyFrame (which is collected).
        format: "jsonl", "csv", "parquet" or "arrow", if the name of the file does not say.
        vectors: with JSONL and CSV, a .npy file [rows, dim]: line i has row i.
        namespace: where rows go that name none themselves.
        on_conflict: "replace" rows whose id is there, "skip" them, or refuse them ("error"). An import that
            was interrupted goes on when it is run again with "skip": what is there is only read.
        strict: raise at the first bad row; batches before it are in.
        names: what the file calls the parts of a row: {"id": "doc_id", "vector": "embedding"}.
        extra: "metadata" makes metadata of fields that are not part of a row, "refuse" refuses them.
        omit: fields of the file that are left out.
        id_as_text: make texts of ids that are whole numbers; otherwise their rows are refused.
        batch: rows to a commit, 1 to 100,000; fewer if they are large.
        progress: called with how much is done.

    Returns:
        What was written, skipped and refused, each refused row with its place and the reason. All that was
        written is durable.

    Raises:
        InvalidInput: the source cannot be read, or `strict` and a row is bad.
        ImportError: the format needs a package that is not installed.
    """
    check_count(batch, "batch", 1, 100_000)
    check_progress(progress)
    done = Imported()
    fields = FieldNames(names or {}, extra, check_omit(omit), check_flag(id_as_text, "id_as_text"))
    with ExitStack() as opened:
        found = open_rows(source, format, vectors, fields, opened)
        for rows in _batches(found.rows, batch, done, strict):
            for space, group in groupby(rows, key=lambda row: row.namespace):
                put(store, list(group), namespace if space is None else space, on_conflict, done, strict)
            if progress:
                progress(Progress("importing", *found.how_far(done.rows)))
    return done


def _batches(
    found: Iterator[InputRow | Refusal], size: int, done: Imported, strict: bool
) -> Iterator[list[InputRow]]:
    """The rows that could be read, `size` at once; others are counted as refused, or raised if `strict`."""
    rows: list[InputRow] = []
    held = seen = 0
    for row in found:
        seen += 1
        if isinstance(row, Refusal):
            if strict:
                if rows:
                    yield rows
                raise InvalidInput(f"{row.place}: {row.why}; {_so_far(done)}")
            done.refuse(row)
        else:
            rows.append(row)
            held += row.size()
        if seen >= size or held >= _BATCH_BYTES:
            yield rows
            rows, held, seen = [], 0, 0
    if rows:
        yield rows


def put(
    store: Store, rows: list[InputRow], namespace: str, on_conflict: Conflict, done: Imported, strict: bool
) -> None:
    """Upsert rows of one namespace, and count them in `done`.

    Rows of one id go one after the other, each in a transaction of its own, so that the outcome does not
    depend on which of them are in one batch. A refused transaction is halved until the bad rows stand alone;
    with `strict` InvalidInput is raised at once.
    """
    for distinct in _by_occurrence(rows):
        _put_distinct(store, distinct, namespace, on_conflict, done, strict)


def _by_occurrence(rows: list[InputRow]) -> list[list[InputRow]]:
    """The first row of each id, the second rows of those that come twice, and so on."""
    seen: dict[Any, int] = {}
    layers: list[list[InputRow]] = []
    for row in rows:
        given: object = row.id
        id = (
            given if isinstance(given, str) else None
        )  # anything else will be refused, and may not be hashable
        layer = seen.get(id, 0)
        if id is not None:
            seen[id] = layer + 1
        if layer == len(layers):
            layers.append([])
        layers[layer].append(row)
    return layers


def _put_distinct(
    store: Store, rows: list[InputRow], namespace: str, on_conflict: Conflict, done: Imported, strict: bool
) -> None:
    try:
        new = _new(store, rows, namespace) if on_conflict == "skip" else rows
        with np.errstate(invalid="ignore"):  # a file's signalling NaNs are refused, no cause for a warning
            written = store.upsert(
                [row.id for row in new],
                _vectors(new),
                [row.metadata for row in new],
                [row.document for row in new],
                namespace=namespace,
                on_conflict=on_conflict,
            )
    except (InvalidInput, RecursionError, ArithmeticError) as error:
        if strict:
            raise InvalidInput(f"{_span(rows)}: {error}; {_so_far(done)}") from error
        if len(rows) == 1:
            done.refuse(refusal(rows[0].place, error))
            return
        middle = len(rows) // 2
        _put_distinct(store, rows[:middle], namespace, on_conflict, done, strict)
        _put_distinct(store, rows[middle:], namespace, on_conflict, done, strict)
        return
    done.written += written
    done.without_vector += sum(row.vector is None for row in rows)
    done.skipped += len(rows) - written


def _new(store: Store, rows: list[InputRow], namespace: str) -> list[InputRow]:
    """The rows whose id is not there: cheaper than letting `upsert` prepare what it then skips."""
    ids = check_ids(row.id for row in rows)
    there = {record.id for record in store.get(ids, namespace=namespace, include=())}
    return [row for row in rows if row.id not in there]


def _vectors(rows: list[InputRow]) -> list[NDArray[Any] | None]:
    """The vectors; those with a norm so that they are stored as exactly the float16 rows they were."""
    vectors = [row.vector for row in rows]
    units: dict[int, list[NDArray[Any]]] = {}  # by dimension, in case they differ
    places: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        if row.norm is None or row.vector is None:
            continue
        if row.vector.dtype != np.float16:
            raise InvalidInput("norm: goes with vectors of float16 only, which are unit rows then")
        if not 0 < row.norm <= float(np.finfo(np.float32).max) or len(row.vector) > LIMITS.max_dim:
            raise InvalidInput(f"norm: {row.norm} is not the length of a vector")
        units.setdefault(len(row.vector), []).append(row.vector)
        places.setdefault(len(row.vector), []).append(position)
    for dim, positions in places.items():
        norms = np.array([rows[position].norm for position in positions], dtype=np.float32)
        for position, vector in zip(positions, restorable(np.stack(units[dim]), norms), strict=True):
            vectors[position] = vector
    return vectors


def _span(rows: list[InputRow]) -> str:
    return rows[0].place if len(rows) == 1 else f"{rows[0].place} to {rows[-1].place}"


def _so_far(done: Imported) -> str:
    return f"{done.written:,} row{'' if done.written == 1 else 's'} before it are in"
