"""The command that moves in from another vector database."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mrlstore.cli import failures, output
from mrlstore.cli.options import json_option, store_argument
from mrlstore.exchange.migrate import Checked, Choice, Migrated, migrate

SHOWN = 10  # refused rows told one by one


@click.command(name="migrate")
@store_argument
@click.argument("source")
@click.option("-c", "--collection", "collections", multiple=True, metavar="NAME",
              help="A collection, table or namespace; may be given several times. Else all.")  # fmt: skip
@click.option("-n", "--namespace", metavar="NAME", help="Where one collection alone goes.")
@click.option(
    "--document", metavar="FIELD", help="The metadata field, or column, that is the row's document."
)
@click.option("--vector", metavar="NAME", help="Which vector, where rows have several; a table's column.")
@click.option("--id", "id_column", metavar="NAME", help="The column of a table that has the ids.")
@click.option("--ids", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Ids for a FAISS index or a .npy file: one a line, or an array as .npy.")  # fmt: skip
@click.option("--prefix-dim", type=click.IntRange(min=1), help="Leading dimensions to index, in a new store.")
@click.option("--sample", default=100, show_default=True, type=click.IntRange(0, 10_000),
              help="Rows of each collection that are compared at the end.")  # fmt: skip
@click.option("--batch", default=4096, show_default=True, type=click.IntRange(1, 100_000),
              help="Rows to a commit.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin anew, instead of where an interrupted run ended.")
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
    as_json: bool,
    **options: Any,
) -> int:
    """Bring the rows of another vector database into a store.

    SOURCE is qdrant:FOLDER or qdrant:URL, chroma:FOLDER, lancedb:FOLDER, pinecone:INDEX (or its host),
    faiss:FILE, or a JSONL, Parquet, Arrow or .npy file. Keys are read from QDRANT_API_KEY and
    PINECONE_API_KEY. The database's own package must be installed.

    One collection goes to the unnamed namespace, several to namespaces of their names. Interrupted, the same
    command goes on. At the end rows are counted, some compared bit for bit, and questions put to both; where
    anything differs the exit code is 1. `mrlstore optimize` then builds the graph.

    \b
    Examples:
      mrlstore migrate papers.mrl qdrant:qdrant_data --collection papers --document text
      mrlstore migrate papers.mrl chroma:chroma_data
      mrlstore migrate papers.mrl lancedb:lance_data -c papers --id doi --document abstract
      mrlstore migrate papers.mrl faiss:papers.index --ids ids.txt
      PINECONE_API_KEY=... mrlstore migrate papers.mrl pinecone:papers
    """
    started = time.perf_counter()
    choice = Choice(collections, document, vector, id_column, ids, namespace)
    with output.progress_bars(as_json=as_json) as progress:
        done = migrate(store, source, choice=choice, progress=progress, **options)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"ok": done.ok, "seconds": seconds, **asdict(done)})
    else:
        _tell(done, store, seconds)
    return failures.FAILED if not done.ok else failures.PARTLY if done.refused else failures.DONE


def _tell(done: Migrated, store: Path, seconds: float) -> None:
    out = output.console()
    for each in done.collections:
        out.print(_line(each), soft_wrap=True)
        for problem in each.problems:
            out.print(f"  different: {problem}", soft_wrap=True)
    for warning in done.warnings:
        out.print(f"warning: {warning}", soft_wrap=True)
    for refusal in done.refusals[:SHOWN]:
        out.print(f"refused: {refusal.place}: {refusal.why}", soft_wrap=True)
    text = f"Moved {output.count_text(done.rows - done.refused, 'row')} to {store} in {seconds:.1f} s"
    out.print(text + (f"; {done.refused:,} were refused" if done.refused else ""), soft_wrap=True)


def _line(each: Checked) -> str:
    place = f"namespace {each.namespace!r}" if each.namespace else "the unnamed namespace"
    text = f"{each.collection}: {each.read:,} rows read, {each.rows:,} in {place}; {each.compared} compared"
    if each.agreed is None:
        return text
    return f"{text}, {each.asked} questions asked: {each.agreed:.1%} of its answers are ours"
