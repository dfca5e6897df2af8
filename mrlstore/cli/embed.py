"""The commands that embed: add, re-embed."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.embedder_options import embedder_options, open_embedder
from mrlstore.cli.options import json_option, namespace_option, store_argument
from mrlstore.cli.safe_text import safe_line
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import LimitExceeded
from mrlstore.ingest import FilesOfRows, Ingested, Source, Split, re_embed, read_sources

SHOWN = 10  # rows that could not be embedded, printed one by one


@click.command()
@store_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@embedder_options
@click.option("--chunk", type=click.IntRange(min=8), metavar="N", help="Cut texts into chunks of N tokens.")
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="N",
    help="Tokens that chunks share; by default an eighth of a chunk.",
)
@namespace_option
@json_option
def add(
    store: Path,
    files: tuple[Path, ...],
    name: str | None,
    task: str,
    cache: Path | None,
    chunk: int | None,
    overlap: int | None,
    namespace: str,
    as_json: bool,
) -> None:
    """Embed files and store them.

    FILES are texts, Markdown, images (PNG, JPEG), sound (MP3, WAV), film (MP4, MOV), PDFs (in pieces of six
    pages), JSONL with a "document" on each line, and folders of all these. What is stored already with the
    same content is not embedded again, so an interrupted command goes on where it stopped.

    \b
    Examples:
      mrlstore add notes.mrl notes/ --embedder local
      mrlstore add papers.mrl *.pdf *.png --embedder gemini --cache embeddings.db
      mrlstore add books.mrl book.txt --embedder gemini --chunk 1024
    """
    started = time.perf_counter()
    sources = list(read_sources(files))
    embedder = open_embedder(name or "local", store, task, cache, lambda: _texts(sources))
    split = Split(chunk, chunk // 8 if overlap is None else overlap) if chunk else None
    with (
        mrlstore.open(store, embedder=embedder) as opened,
        output.progress_bars(as_json=as_json) as progress,
    ):
        before = opened.count(namespace=None)
        try:
            ids = opened.add(
                [source.content for source in sources],
                [source.id for source in sources],
                [source.metadata for source in sources],
                namespace=namespace,
                split=split,
                progress=progress,
            )
        except LimitExceeded as error:
            raise LimitExceeded(f"{error} (here: --chunk 1024)") from error
        there = opened.count(namespace=None)
    result = {"documents": len(sources), "rows": len(ids), "new": there - before, "store_rows": there}
    _print_result(result | {"seconds": time.perf_counter() - started}, _usage(embedder), store, as_json)


@click.command(name="re-embed")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
@embedder_options
@json_option
def re_embed_(
    source: Path, target: Path, name: str | None, task: str, cache: Path | None, as_json: bool
) -> int:
    """Embed the documents of one store anew, with another embedder, into another store.

    Ids, namespaces and metadata are kept. Media are read again from the files that "add" read them from. Rows
    whose content is not found (files that are gone, vectors without a document) are reported, and the exit
    code is then 6. Interrupted, it goes on where it stopped.

    \b
    Examples:
      mrlstore re-embed old.mrl new.mrl --embedder gemini --cache embeddings.db
    """
    started = time.perf_counter()
    with mrlstore.open(source, mode="r") as old:
        embedder = open_embedder(name or "local", target, task, cache, lambda: _documents(old))
        with (
            mrlstore.open(target, embedder=embedder, tokenizer=old.settings.tokenizer) as new,
            output.progress_bars(as_json=as_json) as progress,
        ):
            new.add([])  # settles whose vectors the new store holds
            files = FilesOfRows()
            done = re_embed(old, new, embedder, content_of=files.content_of, progress=progress)
            there = new.count(namespace=None)
    result = {"rows": len(done.ids), "new": done.embedded, "store_rows": there}
    failed = {id: str(error) for id, error in done.failed.items()}
    seconds = time.perf_counter() - started
    _print_result(result | {"failed": failed, "seconds": seconds}, _usage(embedder), target, as_json)
    _print_failed(done, as_json)
    return failures.PARTLY if done.failed else failures.DONE


def _texts(sources: list[Source]) -> list[str]:
    return [source.content for source in sources if isinstance(source.content, str)]


def _documents(store: mrlstore.Store) -> list[str]:
    found = store.scan(namespace=None, include=("document",))
    return [record.document for record in found if record.document]


def _usage(embedder: Embedder) -> dict[str, Any] | None:
    usage = getattr(embedder, "usage", None)
    return asdict(usage) if usage is not None else None


def _print_result(result: dict[str, Any], usage: dict[str, Any] | None, store: Path, as_json: bool) -> None:
    if as_json:
        output.print_json(result | ({"usage": usage} if usage else {}))
        return
    rows, new = output.count_text(result["rows"], "row"), output.count_text(result["new"], "new one")
    text = f"{rows}, {new}, in {result['seconds']:.1f} s; {store} has {result['store_rows']:,}"
    if usage:
        dollars = usage["estimated_usd"]
        price = (
            f"; about ${dollars:,.4f} by the prices of {usage['prices_as_of']}" if dollars is not None else ""
        )
        text += f"\nsent {usage['items']:,}, {usage['cached']:,} from the cache{price}"
    output.console().print(text)


def _print_failed(done: Ingested, as_json: bool) -> None:
    if as_json:
        return
    errors = output.errors()
    for id, error in list(done.failed.items())[:SHOWN]:
        errors.print(safe_line(f"not embedded: {id}: {error}"), soft_wrap=True)
    if len(done.failed) > SHOWN:
        errors.print(f"not embedded: {len(done.failed) - SHOWN:,} more; --json lists all")
