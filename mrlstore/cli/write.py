"""The commands that make a store and fill it: create, import."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import click
from numpy.typing import NDArray

import mrlstore
from mrlstore import types
from mrlstore.cli import failures, output
from mrlstore.cli.options import json_option, namespace_option, store_argument
from mrlstore.cli.rows import Refusal, Row, open_vectors, read_rows
from mrlstore.errors import InvalidInput, LimitExceeded

SHOWN = 10  # refused rows told one by one


@click.command()
@store_argument
@click.option("--dim", type=int, metavar="N", help="Length of the vectors; by default, of the first ones.")
@click.option("--prefix-dim", type=int, metavar="N", help="Length of the searched prefix; by default 768.")
@click.option("--m", default=16, show_default=True, metavar="N", help="Links of a row in the graph.")
@click.option(
    "--ef-construction", default=200, show_default=True, metavar="N", help="Effort of building the graph."
)
@json_option
def create(
    store: Path, dim: int | None, prefix_dim: int | None, m: int, ef_construction: int, as_json: bool
) -> None:
    """Make an empty store.

    STORE is its folder, which must not exist. Not needed before an import, which makes the store that it
    does not find.

    \b
    Examples:
      mrlstore create papers.mrl
      mrlstore create papers.mrl --dim 3072 --prefix-dim 768
    """
    opened = mrlstore.open(
        store, dim=dim, prefix_dim=prefix_dim, mode="x", m=m, ef_construction=ef_construction
    )
    with opened:
        stats = opened.stats()
    if as_json:
        output.print_json(asdict(stats))
        return
    length = f"{stats.dim:,} dims" if stats.dim else "the length of the first vectors"
    output.console().print(f"Created {store} for vectors of {length}", soft_wrap=True)


@dataclass
class Outcome:
    """What an import has done so far."""

    written: int = 0
    skipped: int = 0
    refusals: list[Refusal] = field(default_factory=list)


@click.command(name="import")
@store_argument
@click.argument("rows", type=click.File("rb"))
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npy",
    help="Take the vectors from this array [rows, dim]; line i has row i.",
)
@namespace_option
@click.option(
    "--on-conflict",
    type=click.Choice(["replace", "skip", "error"]),
    default="replace",
    show_default=True,
    help="What to do with an id that is there already.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad row. Batches before it are in.")
@click.option(
    "--batch", default=4096, show_default=True, type=click.IntRange(1, 100_000), help="Rows to a commit."
)
@json_option
def import_(
    store: Path,
    rows: BinaryIO,
    vectors: Path | None,
    namespace: str,
    on_conflict: types.Conflict,
    strict: bool,
    batch: int,
    as_json: bool,
) -> int:
    """Read rows from a JSONL file into a store.

    ROWS is the file, "-" standard input; the store is made if absent. A line is an object with "id" and, as
    wanted, "vector", "metadata" and "document". Bad rows are told with their place and left out; the others
    are in, and the exit code is 6.

    \b
    Examples:
      mrlstore import papers.mrl rows.jsonl
      mrlstore import papers.mrl rows.jsonl --vectors rows.npy
      zcat rows.jsonl.gz | mrlstore import papers.mrl - --on-conflict skip
    """
    started = time.perf_counter()
    outcome = Outcome()
    arrays = open_vectors(vectors) if vectors else None
    read = read_rows(rows, getattr(rows, "name", "-"), arrays)
    with mrlstore.open(store, mode="a") as opened, output.progress_bars(as_json=as_json) as progress:
        for good in _batches(read, batch, outcome, strict):
            _put(opened, good, namespace, on_conflict, outcome, strict)
            if progress:
                progress(_progress(rows, arrays, outcome))
        there = opened.count(namespace=None)
    _tell(outcome, store, there, time.perf_counter() - started, as_json)
    return failures.PARTLY if outcome.refusals else failures.DONE


def _batches(
    read: Iterator[Row | Refusal], size: int, outcome: Outcome, strict: bool
) -> Iterator[list[Row]]:
    while chunk := list(islice(read, size)):
        refused = [row for row in chunk if isinstance(row, Refusal)]
        if refused and strict:
            raise InvalidInput(f"{refused[0].place}: {refused[0].why}; {_so_far(outcome)}")
        outcome.refusals.extend(refused)
        good = [row for row in chunk if isinstance(row, Row)]
        if good:
            yield good


def _put(
    store: mrlstore.Store,
    rows: list[Row],
    namespace: str,
    on_conflict: types.Conflict,
    outcome: Outcome,
    strict: bool,
) -> None:
    """Upsert; a refused batch is halved until the bad rows stand alone."""
    try:
        written = store.upsert(
            [row.id for row in rows],
            [row.vector for row in rows],
            [row.metadata for row in rows],
            [row.document for row in rows],
            namespace=namespace,
            on_conflict=on_conflict,
        )
    except (InvalidInput, LimitExceeded) as error:
        if strict:
            raise InvalidInput(
                f"{rows[0].place} to {rows[-1].place}: {error}; {_so_far(outcome)}"
            ) from error
        if len(rows) == 1:
            outcome.refusals.append(Refusal(rows[0].place, " ".join(str(error).split())))
            return
        middle = len(rows) // 2
        _put(store, rows[:middle], namespace, on_conflict, outcome, strict)
        _put(store, rows[middle:], namespace, on_conflict, outcome, strict)
        return
    outcome.written += written
    outcome.skipped += len(rows) - written


def _progress(rows: BinaryIO, arrays: NDArray[Any] | None, outcome: Outcome) -> types.Progress:
    """By rows where their number is known, else by bytes of the file, else without an end."""
    if arrays is None and rows.seekable():
        return types.Progress("importing", rows.tell(), os.fstat(rows.fileno()).st_size)
    done = outcome.written + outcome.skipped + len(outcome.refusals)
    return types.Progress("importing", done, done if arrays is None else len(arrays))


def _so_far(outcome: Outcome) -> str:
    return f"{output.count_text(outcome.written, 'row')} before it are in"


def _tell(outcome: Outcome, store: Path, there: int, seconds: float, as_json: bool) -> None:
    if as_json:
        refused = [{"place": refusal.place, "why": refusal.why} for refusal in outcome.refusals]
        counts = {"written": outcome.written, "skipped": outcome.skipped, "refused": refused}
        output.print_json({**counts, "rows": there, "seconds": seconds})
        return
    skipped = f", {outcome.skipped:,} skipped" if outcome.skipped else ""
    output.console().print(
        f"Imported {output.count_text(outcome.written, 'row')}{skipped} in {seconds:.1f} s; "
        f"{store} has {output.count_text(there, 'row')}",
        soft_wrap=True,
    )
    errors = output.errors()
    for refusal in outcome.refusals[:SHOWN]:
        errors.print(f"refused {refusal.place}: {refusal.why}", soft_wrap=True)
    if len(outcome.refusals) > SHOWN:
        errors.print(f"refused {len(outcome.refusals) - SHOWN:,} more; --json tells all")
