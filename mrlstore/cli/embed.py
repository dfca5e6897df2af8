"""The commands that embed: add, re-embed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.embedder_options import ChosenEmbedder, EmbedderChoice, embedder_options, local_file
from mrlstore.cli.late_store import LateStore
from mrlstore.cli.local_model import NoModel
from mrlstore.cli.options import json_option, namespace_option, store_argument
from mrlstore.cli.output import ProgressCallback, count_text, print_line
from mrlstore.cli.safe_text import safe_line
from mrlstore.embedders.split import split_text
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.ingest import (
    FileSelection,
    FilesOfRows,
    Ingested,
    Source,
    Split,
    ingest,
    missing_rows,
    re_embed,
    read_sources,
)
from mrlstore.types import Progress

SHOWN: Final = 50  # of each kind: what was skipped, not embedded, deleted
_CACHE_SUFFIXES: Final = ("", "-wal", "-shm")


@dataclass
class Added:
    """What `add` did, beside what `ingest` says."""

    sources: list[Source] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # place -> why it was not read
    deleted: list[str] = field(default_factory=list)  # ids of rows whose file is gone
    before: int = 0  # rows of the store
    after: int = 0


@click.command()
@store_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@embedder_options
@click.option("--chunk", type=click.IntRange(min=8), metavar="N", help="Cut texts into chunks of N tokens.")
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="N",
    help="The most tokens that two chunks share; by default an eighth of a chunk.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help='Leave out files in folders that match, as in .gitignore: "drafts/", "*.log"; can be repeated.',
)
@click.option(
    "--ext", multiple=True, metavar="EXT", help="In folders, take only files ending in these, such as md,txt."
)
@click.option("--no-gitignore", is_flag=True, help="Also add files that .gitignore leaves out.")
@click.option("--delete-missing", is_flag=True, help="Delete the rows of files that no longer exist.")
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
    exclude: tuple[str, ...],
    ext: tuple[str, ...],
    no_gitignore: bool,
    delete_missing: bool,
    namespace: str,
    as_json: bool,
) -> int:
    """Embed files and store them.

    FILES are texts, Markdown, HTML, PDFs, JSONL with a "document" on each line, and folders of all these; for
    Gemini also images (PNG, JPEG), sound (MP3, WAV) and film (MP4, MOV). The local embedder reads the text of
    PDFs, page by page. Hidden files, and files that .gitignore names, are left out. Front matter becomes
    metadata.

    Files that cannot be read are reported, and all others are added. A text that cannot be embedded is stored
    without a vector, so that keywords find it. In both cases the exit code is 6. Content that is stored
    already is not embedded again, so you can repeat an interrupted command and it continues.

    \b
    Examples:
      mrlstore add notes.mrl notes/
      mrlstore add notes.mrl notes/ --ext md --exclude drafts/ --delete-missing
      mrlstore add papers.mrl *.pdf *.png --embedder gemini --cache embeddings.db
      mrlstore add books.mrl book.txt --embedder gemini --chunk 1024
    """
    started = time.perf_counter()
    folders = [path for path in files if path.is_dir()]
    if delete_missing and not folders:
        raise click.UsageError("--delete-missing compares a folder with the store: name a folder")
    split = Split(chunk, chunk // 8 if overlap is None else overlap) if chunk else None
    if split is not None:
        split_text("", split.max_tokens, split.overlap_tokens)  # refuses an overlap that is too long
    choice = EmbedderChoice(name, store, task, cache)
    apart = [store, local_file(store), *(_suffixed(cache, suffix) for suffix in _CACHE_SUFFIXES if cache)]
    endings = [ending for given in ext for ending in given.split(",")]
    selection = FileSelection(exclude, endings or None, gitignore=not no_gitignore, apart=apart)
    run = Added()
    read = read_sources(
        files, texts_only=choice.texts_only, selection=selection, on_skip=run.skipped.__setitem__
    )
    run.sources = list(read)
    if not run.sources:
        raise _nothing_to_add(files, run.skipped)
    with ExitStack() as opened:
        progress = opened.enter_context(output.progress_bars(as_json=as_json))
        with _one_step("fit", progress):
            chosen = choice.open(lambda: _texts(run.sources, store))
        target = opened.enter_context(_late_store(store, chosen))
        run.before = target.count()
        done = ingest(
            target,
            chosen.embedder,
            [source.content for source in run.sources],
            [source.id for source in run.sources],
            [source.metadata for source in run.sources],
            namespace=namespace,
            split=split,
            on_error="keep",
            progress=progress,
        )
        if delete_missing:
            unread = run.skipped.keys() | done.failed.keys()
            run.deleted = missing_rows(target, folders, namespace, done.ids, unread)
            if run.deleted:
                target.delete(run.deleted, namespace=namespace)
        run.after = target.count()
    _print_added(run, done, chosen, store, time.perf_counter() - started, as_json)
    return failures.PARTLY if run.skipped or done.failed or done.without_vector else failures.DONE


def _nothing_to_add(files: tuple[Path, ...], skipped: Mapping[str, str]) -> InvalidInput:
    names = ", ".join(map(str, files))
    if not skipped:
        return InvalidInput(f"{names}: no file to add; hidden, ignored, excluded and empty ones are left out")
    reasons = "; ".join(f"{place}: {why}" for place, why in list(skipped.items())[:SHOWN])
    return InvalidInput(f"{names}: no file that can be added: {reasons}")


def _suffixed(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _one_step(phase: str, progress: ProgressCallback | None) -> Iterator[None]:
    """Report a phase that cannot say how far it is."""
    report = progress or (lambda _: None)
    report(Progress(phase, 0, 1))
    yield
    report(Progress(phase, 1, 1))


def _texts(sources: list[Source], store: Path) -> list[str]:
    """The texts that a local embedder is fitted on: those to be added, and those that a store has already."""
    texts = [source.content for source in sources if isinstance(source.content, str)]
    known = {source.id for source in sources}
    if (store / "catalogue.db").exists():
        with mrlstore.open(store, mode="r") as opened:
            texts += _documents(opened, known)
    return texts


def _documents(store: mrlstore.Store, but: set[str]) -> list[str]:
    found = store.scan(namespace=None, include=("document",))
    return [record.document for record in found if record.document and record.id not in but]


def _late_store(path: Path, chosen: ChosenEmbedder, tokenizer: Any = None) -> LateStore:
    """The store that gets the rows; a new local model is written before it is made."""
    embedder = None if isinstance(chosen.embedder, NoModel) else chosen.embedder
    save = chosen.model.save if chosen.model is not None else lambda: None
    return LateStore(path, embedder, save, tokenizer)


def _print_added(
    run: Added, done: Ingested, chosen: ChosenEmbedder, store: Path, seconds: float, as_json: bool
) -> None:
    new = run.after - run.before + len(run.deleted)
    counts = {"documents": len(run.sources), "rows": len(done.ids), "new": new, "store_rows": run.after}
    result = counts | {"seconds": seconds}
    warnings = chosen.model.warnings(run.after) if chosen.model is not None else []
    if any(isinstance(error, LimitExceeded) for error in done.without_vector.values()):
        warnings.append("some texts are longer than the embedder takes; --chunk 1024 cuts them")
    if as_json:
        skipped = [{"place": place, "why": why} for place, why in run.skipped.items()]
        more = {"skipped": skipped, **_failures(done), "deleted": run.deleted, "warnings": warnings}
        facts = chosen.model.facts() if chosen.model is not None else None
        output.print_json(result | more | {"embedder": facts} | _usage(chosen))
        return
    _print_counts(result, _usage(chosen), store)
    if chosen.model is not None:
        print_line(chosen.model.said())
    if run.deleted:
        print_line(f"deleted {count_text(len(run.deleted), 'row')} whose file is gone")
        _print_each("deleted", dict.fromkeys(run.deleted, ""))
    _print_each("skipped", run.skipped)
    _print_unembedded(done)
    for words in warnings:
        print_line(f"mrlstore: warning: {words}", file=sys.stderr)


def _failures(done: Ingested) -> dict[str, Any]:
    kinds = {"without_vector": done.without_vector, "failed": done.failed}
    return {kind: {id: _why(error) for id, error in found.items()} for kind, found in kinds.items()}


def _why(error: Exception) -> str:
    """What an error says of one document; `reason` leaves out its number in the request."""
    return str(getattr(error, "reason", error))


@click.command(name="re-embed")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
@embedder_options
@json_option
def re_embed_(
    source: Path, target: Path, name: str | None, task: str, cache: Path | None, as_json: bool
) -> int:
    """Embed the documents of a store again, into another store.

    TARGET has another embedder, and the same ids, namespaces and metadata. Media are read again from the
    files from which "add" read them. Rows without content (their file is gone, or they have a vector but no
    document) are reported; texts that cannot be embedded are stored without a vector. In both cases the exit
    code is 6. If it is interrupted, the same command continues.

    \b
    Examples:
      mrlstore re-embed old.mrl new.mrl --embedder gemini --cache embeddings.db
    """
    started = time.perf_counter()
    with mrlstore.open(source, mode="r") as old, output.progress_bars(as_json=as_json) as progress:
        with _one_step("fit", progress):
            chosen = EmbedderChoice(name, target, task, cache).open(lambda: _documents(old, set()))
        with _late_store(target, chosen, old.settings.tokenizer) as new:
            files = FilesOfRows()
            done = re_embed(
                old,
                new,
                chosen.embedder,
                content_of=files.content_of,
                on_error="keep",
                progress=progress,
            )
            there = new.count()
    counts = {"rows": len(done.ids), "new": done.embedded, "store_rows": there}
    result = counts | {"seconds": time.perf_counter() - started}
    if as_json:
        output.print_json(result | _failures(done) | _usage(chosen))
    else:
        _print_counts(result, _usage(chosen), target)
        _print_unembedded(done)
    return failures.PARTLY if done.failed or done.without_vector else failures.DONE


def _usage(chosen: ChosenEmbedder) -> dict[str, Any]:
    """What a paid service was sent; empty for others."""
    usage = getattr(chosen.embedder, "usage", None)
    return {} if usage is None else {"usage": asdict(usage)}


def _print_counts(result: Mapping[str, Any], usage: Mapping[str, Any], store: Path) -> None:
    rows, new = count_text(result["rows"], "row"), f"{result['new']:,} new"
    held = count_text(result["store_rows"], "row")
    print_line(f"{rows}, {new}, in {result['seconds']:.1f} s; {store} has {held}")
    for sent in usage.values():
        dollars = sent["estimated_usd"]
        known = dollars is not None
        price = f"; about ${dollars:,.4f} by the prices of {sent['prices_as_of']}" if known else ""
        print_line(f"sent {sent['items']:,}, {sent['cached']:,} from the cache{price}")


def _print_unembedded(done: Ingested) -> None:
    for what, found in (("stored without a vector", done.without_vector), ("not stored", done.failed)):
        _print_each(what, {id: _why(error) for id, error in found.items()})


def _print_each(what: str, found: Mapping[str, str]) -> None:
    """The first things of one kind by name, a line each, on stderr."""
    for name, why in list(found.items())[:SHOWN]:
        print_line(safe_line(f"{what}: {name}: {why}" if why else f"{what}: {name}"), file=sys.stderr)
    if len(found) > SHOWN:
        print_line(f"{what}: {len(found) - SHOWN:,} more; --json lists all", file=sys.stderr)
