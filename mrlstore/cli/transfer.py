"""The commands that bring rows in and out: import, export."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import click

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.options import FileOrUrl, json_option, namespace_option, store_argument, where_option
from mrlstore.cli.remarks import in_commands
from mrlstore.cli.safe_text import safe_line
from mrlstore.exchange import Imported, export_rows, import_rows
from mrlstore.exchange.input_row import Extra, FieldNames
from mrlstore.exchange.npy import open_vectors
from mrlstore.exchange.object_files import name_of
from mrlstore.exchange.row_source import FORMATS, WRITTEN, format_of, open_rows

SHOWN = 10  # refused rows that are printed one by one

format_option = click.option(
    "--format", type=click.Choice(FORMATS), help="The format, if the name of the file does not say."
)
written_format_option = click.option(
    "--format", type=click.Choice(WRITTEN), help="The format, if the name of the file does not say."
)


@click.command(name="import")
@store_argument
@click.argument("rows", type=FileOrUrl(must_exist=True))
@format_option
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npy",
    help="With JSONL and CSV: take the vectors from this array [rows, dim]; line i has row i.",
)
@namespace_option
@click.option(
    "--on-conflict",
    type=click.Choice(["replace", "skip", "error"]),
    default="replace",
    show_default=True,
    help="What to do if an id exists already. With skip you can continue an interrupted import.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="PART=FIELD",
    help="What the file calls a part of a row, such as vector=embedding; may be given several times.",
)
@click.option(
    "--extra",
    type=click.Choice(["refuse", "metadata"]),
    default="refuse",
    show_default=True,
    help="What to do with fields that are not part of a row: make metadata of them, or refuse them.",
)
@click.option("--omit", multiple=True, metavar="FIELD", help="A field to leave out; can be repeated.")
@click.option("--id-as-text", is_flag=True, help="Turn ids that are whole numbers into texts.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row. Batches before it are in.")
@click.option(
    "--batch", default=4096, show_default=True, type=click.IntRange(1, 100_000), help="Rows in each commit."
)
@json_option
def import_(
    store: Path,
    rows: Path | str,
    format: str | None,
    vectors: Path | None,
    namespace: str,
    names: tuple[str, ...],
    extra: Extra,
    omit: tuple[str, ...],
    id_as_text: bool,
    strict: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Read rows from a file into a store.

    ROWS is a JSONL, CSV, Parquet or Arrow file, also as .jsonl.gz or .csv.gz, its s3://, gs:// or az://
    URL, or "-" for standard input, which is JSONL unless --format says otherwise; the store is made if
    absent. A row has "id" and, optionally, "vector", "metadata", "document" and "namespace". Bad rows are
    reported with their place and left out; the others are in, and the exit code is 6.

    \b
    Examples:
      mrlstore import papers.mrl rows.jsonl
      mrlstore import papers.mrl rows.jsonl --vectors rows.npy
      mrlstore import papers.mrl rows.parquet --name id=doi --name vector=embedding --extra metadata
      mrlstore import papers.mrl rows.csv.gz --id-as-text --extra metadata
      mrlstore import papers.mrl s3://bucket/rows.parquet
      zcat rows.jsonl.gz | mrlstore import papers.mrl - --on-conflict skip
    """
    started = time.perf_counter()
    called = dict(_pair(name) for name in names)
    path = None if str(rows) == "-" else rows
    kind = format_of(name_of(path) if isinstance(path, str) else path, format)
    if path is not None:  # a wrong file is refused before a store is made
        with ExitStack() as tried:
            fields = FieldNames(called, extra, frozenset(omit), id_as_text)
            open_rows(path, kind, vectors, fields, tried)
    elif vectors is not None:
        open_vectors(vectors)  # the same
    with ExitStack() as opened:
        target = opened.enter_context(mrlstore.open(store, mode="a"))
        progress = opened.enter_context(output.progress_bars(as_json=as_json))
        done = import_rows(
            target,
            sys.stdin.buffer if path is None else path,
            format=kind,
            vectors=vectors,
            namespace=namespace,
            strict=strict,
            names=called,
            extra=extra,
            omit=omit,
            id_as_text=id_as_text,
            progress=progress,
            **options,
        )
        there = target.count(namespace=None)
    _print_result(done, store, there, time.perf_counter() - started, as_json)
    return failures.PARTLY if done.refused else failures.DONE


def _pair(text: str) -> tuple[str, str]:
    part, sign, field = text.partition("=")
    if not (part and sign and field):
        raise click.BadParameter(f"{text!r} is not like vector=embedding", param_hint="--name")
    return part, field


def _print_result(done: Imported, store: Path, there: int, seconds: float, as_json: bool) -> None:
    if as_json:
        refusals = [{"place": refusal.place, "why": refusal.why} for refusal in done.refusals]
        counts = {
            "written": done.written,
            "skipped": done.skipped,
            "without_vector": done.without_vector,
            "refused": refusals,
        }
        output.print_json({**counts, "refused_rows": done.refused, "rows": there, "seconds": seconds})
        return
    skipped = f", {done.skipped:,} skipped" if done.skipped else ""
    output.console().print(
        f"Imported {output.count_text(done.written, 'row')}{skipped} in {seconds:.1f} s; "
        f"{store} has {output.count_text(there, 'row')}",
        soft_wrap=True,
    )
    errors = output.errors()
    if done.without_vector:
        errors.print(_without_vector(done), soft_wrap=True)
    for refusal in done.refusals[:SHOWN]:
        why = in_commands(refusal.why, store)
        errors.print(safe_line(f"refused {refusal.place}: {why}"), soft_wrap=True)
    if done.refused > SHOWN:
        errors.print(f"refused {done.refused - SHOWN:,} more; --json lists them")


def _without_vector(done: Imported) -> str:
    """That rows have no vector, which may be a slip: nothing else would show it before the first query."""
    read = done.written + done.skipped
    if done.without_vector < read:
        if done.without_vector == 1:
            return "1 row has no vector: queries by vector do not find it"
        return f"{done.without_vector:,} rows have no vector: queries by vector do not find them"
    return (
        "no row has a vector: ids, filters and keywords find them, queries by vector do not. If the file has "
        "vectors under another name: --name vector=COLUMN"
    )


@click.command()
@store_argument
@click.argument("target", type=FileOrUrl(must_exist=False))
@written_format_option
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npy",
    help="With JSONL: write the vectors into this array [rows, dim]; line i has row i.",
)
@click.option("--float16", is_flag=True, help="Write vectors as they are stored, in half the space.")
@where_option
@click.option(
    "-n", "--namespace", metavar="NAME", help="Only this one; by default all, and each row names its own."
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many rows.")
@click.option("--after", metavar="CURSOR", help="Continue after the cursor that an earlier export printed.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def export(
    store: Path, target: Path | str, float16: bool, force: bool, as_json: bool, **options: Any
) -> None:
    """Write rows to a file.

    TARGET is a JSONL, Parquet or Arrow file, or an s3://, gs:// or az:// URL; its ending says which format,
    and .jsonl.gz is compressed. "-" writes JSONL to standard output. Importing the file gives the same rows,
    with the same bits of every stored vector. The file appears only when it is complete.

    \b
    Examples:
      mrlstore export papers.mrl papers.parquet
      mrlstore export papers.mrl papers.jsonl --vectors papers.npy --float16
      mrlstore export papers.mrl - --where '{"year": {"$gte": 2020}}' | gzip > new.jsonl.gz
      mrlstore export papers.mrl s3://bucket/papers.parquet
      mrlstore export papers.mrl part-1.parquet --limit 100000 --json
    """
    started = time.perf_counter()
    piped = str(target) == "-"
    if piped and as_json:
        raise click.UsageError("--json goes with a file, not with standard output")
    place: Path | str | BinaryIO = sys.stdout.buffer if piped else target
    with (
        mrlstore.open(store, mode="r") as opened,
        output.progress_bars(as_json=as_json) as progress,
    ):
        done = export_rows(
            opened,
            place,
            dtype="float16" if float16 else "float32",
            overwrite=force,
            progress=progress,
            **options,
        )
    seconds = time.perf_counter() - started
    if as_json:
        result = {"rows": done.rows, "cursor": done.cursor, "bytes": _size(target), "seconds": seconds}
        output.print_json({"target": str(target), **result})
        return
    out = output.errors() if piped else output.console()
    size = None if piped else _size(target)
    size_text = "" if size is None else f", {output.bytes_text(size)},"
    name = "standard output" if piped else str(target)
    text = f"Exported {output.count_text(done.rows, 'row')} to {name}{size_text} in {seconds:.1f} s"
    out.print(text, soft_wrap=True)
    if options["limit"] is not None and done.cursor:
        out.print(f"go on with --after {done.cursor}", soft_wrap=True)


def _size(target: Path | str) -> int | None:
    return None if isinstance(target, str) else os.stat(target).st_size


@click.command(name="export-hnswlib")
@store_argument
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--ids", type=click.Path(path_type=Path), metavar="FILE",
              help="Where the ids go; by default TARGET with the ending .ids.txt.")  # fmt: skip
@click.option("-n", "--namespace", metavar="NAME", help="Only rows of this one; by default of all.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def export_hnswlib(
    store: Path, target: Path, ids: Path | None, namespace: str | None, force: bool, as_json: bool
) -> None:
    """Write the vectors as an index of hnswlib.

    The ids go into a text file. Row i of the index has the label i, and its id is line i of that file,
    counted from 0. The graph is built here, by hnswlib (pip install 'mrlstore[hnswlib]'), in memory.

    \b
    Example:
      mrlstore export-hnswlib papers.mrl index.bin
    """
    started = time.perf_counter()
    with mrlstore.open(store, mode="r") as opened, output.progress_bars(as_json=as_json) as progress:
        done = opened.export_hnswlib(target, ids, namespace=namespace, overwrite=force, progress=progress)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({**asdict(done), "seconds": seconds})
        return
    output.console().print(
        f"Exported {output.count_text(done.rows, 'row')} to {target}, their ids to {done.ids}, "
        f"in {seconds:.1f} s",
        soft_wrap=True,
    )
