"""The command that copies the rows of another vector database: migrate."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mrlstore.cli import failures, output
from mrlstore.cli.options import json_option, store_argument
from mrlstore.cli.remarks import in_commands
from mrlstore.cli.safe_text import safe_line
from mrlstore.exchange.migrate import Checked, Choice, Migrated, migrate

SHOWN = 10  # refused rows that are printed one by one


@click.command(name="migrate")
@store_argument
@click.argument("source")
@click.option("-c", "--collection", "collections", multiple=True, metavar="NAME",
              help="A collection, table or namespace, by default all; can be repeated.")  # fmt: skip
@click.option("-n", "--namespace", metavar="NAME", help="Where one collection alone goes.")
@click.option(
    "--document", metavar="FIELD", help="The metadata field, or column, that is the row's document."
)
@click.option("--vector", metavar="NAME", help="Which vector, where rows have several; a table's column.")
@click.option("--id", "id_column", metavar="NAME", help="The column of a table that has the ids.")
@click.option("--ids", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Ids for an index file or a .npy file: one a line, or an array as .npy.")  # fmt: skip
@click.option("--omit", multiple=True, metavar="FIELD",
              help="A metadata field, or column, to leave out; may be given several times.")  # fmt: skip
@click.option("--prefix-dim", type=click.IntRange(min=1), help="Leading dimensions to index, in a new store.")
@click.option("--sample", default=100, show_default=True, type=click.IntRange(0, 10_000),
              help="Rows of each collection that are compared at the end.")  # fmt: skip
@click.option("--batch", default=4096, show_default=True, type=click.IntRange(1, 100_000),
              help="Rows to a commit.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin again, instead of continuing an interrupted run.")
@json_option
def migrate_(
    store: Path,
    source: str,
    collections: tuple[str, ...],
    namespace: str | None,
    document: str | None,
    vector: str | None,
    id_column: str | None,
    ids: Path | None,
    omit: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Copy the rows of another vector database into a store.

    SOURCE is the folder of a Chroma, LanceDB or local Qdrant database, qdrant:URL, pinecone:INDEX (or its
    host), faiss:FILE, hnswlib:FILE, or a JSONL, CSV, Parquet, Arrow or .npy file. chroma:FOLDER,
    lancedb:FOLDER and qdrant:FOLDER say which database it is if that is unclear. Keys are read
    from QDRANT_API_KEY and PINECONE_API_KEY. The database's own package must be installed, but not hnswlib.

    One collection goes to the unnamed namespace, several to namespaces of their names. If interrupted, the
    same command continues. At the end rows are counted, some compared bit for bit, and answers of both
    compared; the exit code is 1 if anything differs or nothing could be stored, 6 if some rows were refused.
    `mrlstore optimize` then builds the graph.

    \b
    Examples:
      mrlstore migrate papers.mrl qdrant:qdrant_data --collection papers --document text
      mrlstore migrate papers.mrl chroma_data/
      mrlstore migrate papers.mrl lancedb:lance_data -c papers --id doi --document abstract --omit pdf
      mrlstore migrate papers.mrl faiss:papers.index --ids ids.txt
      mrlstore migrate papers.mrl hnswlib:index.bin --ids ids.txt
      PINECONE_API_KEY=... mrlstore migrate papers.mrl pinecone:papers
    """
    started = time.perf_counter()
    choice = Choice(collections, document, vector, id_column, ids, namespace, omit)
    with output.progress_bars(as_json=as_json) as progress:
        done = migrate(store, source, choice=choice, progress=progress, **options)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"ok": done.ok, "seconds": seconds, **asdict(done)})
    else:
        _print_result(done, store, seconds)
    return failures.FAILED if done.problems else failures.PARTLY if done.refused else failures.DONE


def _print_result(done: Migrated, store: Path, seconds: float) -> None:
    out = output.console()
    for each in done.collections:
        out.print(_line(each), soft_wrap=True)
        for problem in each.problems:
            out.print(f"  different: {problem}", soft_wrap=True)
    for warning in done.warnings:
        out.print(f"warning: {warning}", soft_wrap=True)
    for refusal in done.refusals[:SHOWN]:
        why = in_commands(refusal.why, store)
        out.print(safe_line(f"refused: {refusal.place}: {why}"), soft_wrap=True)
    text = f"Stored {output.count_text(done.rows, 'row')} in {store} in {seconds:.1f} s"
    if done.refused:
        text += f"; {done.refused:,} were refused (--omit FIELD leaves a field out)"
    out.print(text, soft_wrap=True)


def _line(each: Checked) -> str:
    space = f"namespace {each.namespace!r}" if each.namespace else "the unnamed namespace"
    text = f"{each.collection}: {each.read:,} rows read, {each.rows:,} in {space}; {each.compared} compared"
    if each.agreed is None:
        return text
    return f"{text}, {each.asked} queries compared: {each.agreed:.1%} of its answers are among the store's"
