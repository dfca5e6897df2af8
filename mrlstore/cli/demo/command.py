"""`mrlstore demo`: embeds, stores, asks, reopens in a new process, and compares the tiers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.demo import corpus, tiers
from mrlstore.cli.options import json_option
from mrlstore.cli.read import print_hits
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import StoreExists
from mrlstore.types import Result

DIM: Final = 3072
PREFIX_DIM: Final = 768
QUESTIONS: Final = (
    "how to parse a date string",
    "run a command and capture its output",
    "find the differences between two lists of lines",
    "wait until all tasks are done",
)
FILTERED: Final = ("read a compressed file", {"kind": "class", "public": True})
REOPENED: Final = "create a temporary directory that is removed afterwards"
MEASURED: Final = 200  # questions of the comparison


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep the store and the embedder in this folder, to go on with.",
)
@click.option(
    "--limit", type=click.IntRange(min=10), metavar="N", help="Take only N docstrings, for a quick look."
)
@json_option
def demo(keep: Path | None, limit: int | None, as_json: bool) -> None:
    """Search the documentation that every Python carries, by meaning.

    Collects the docstrings of the standard library, embeds them at 3,072 dimensions without key or
    network, stores and indexes them, asks questions, asks again from a new process, and compares the
    searched prefix, the whole vectors and two stages. Needs the extra `demo`; takes about a minute.

    \b
    Examples:
      mrlstore demo
      mrlstore demo --keep mrlstore-demo
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="mrlstore-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _Demo(folder, limit, output.errors() if as_json else output.console()).run()
        if as_json:
            output.print_json(found)
        elif keep:
            _say_how_to_go_on(folder)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """One run; the steps stand in their order, each says what it does."""

    def __init__(self, folder: Path, limit: int | None, out: Console) -> None:
        self.limit = limit
        self.path = folder / "stdlib.mrl"
        self.model = folder / "stdlib.lsa.npz"
        self.out = out

    def run(self) -> dict[str, Any]:
        """Run all steps; returns what was measured."""
        started = time.perf_counter()
        docstrings = self.collect()
        embedder, vectors = self.embed(docstrings)
        with self.fill(docstrings, vectors) as store:
            self.warm(store, vectors[0])
            self.ask(store, embedder)
            self.ask_filtered(store, embedder)
        self.ask_in_new_process()
        with mrlstore.open(self.path, mode="r") as store:
            compared = self.compare(store, embedder, docstrings)
        seconds = time.perf_counter() - started
        self.out.print(f"\nAll of it took {seconds:.0f} s.", style="dim")
        return {"rows": len(docstrings), "seconds": seconds, "tiers": [asdict(tier) for tier in compared]}

    def collect(self) -> list[corpus.Docstring]:
        """Step 1: the texts."""
        with self._step("Collecting the docstrings of the standard library") as said:
            docstrings = corpus.standard_library(self.limit)
            modules = len({docstring.module for docstring in docstrings})
            said.append(f"{len(docstrings):,} docstrings of {modules:,} modules")
        return docstrings

    def embed(self, docstrings: list[corpus.Docstring]) -> tuple[LocalEmbedder, NDArray[np.float32]]:
        """Step 2: their vectors, float32 [n, 3072]."""
        with self._step("Embedding them by latent semantic analysis, without key or network") as said:
            texts = [f"{docstring.name}\n{docstring.text}" for docstring in docstrings]
            embedder = LocalEmbedder.fit(texts, dim=DIM)
            vectors = embedder.embed_documents(texts)
            embedder.save(self.model)
            said.append(f"{embedder.dim:,} dimensions, learned from {len(embedder.words):,} words")
        return embedder, vectors

    def fill(self, docstrings: list[corpus.Docstring], vectors: NDArray[np.float32]) -> mrlstore.Store:
        """Steps 3 and 4: the store, and its index."""
        _remove_old(self.path)
        prefix_dim = min(PREFIX_DIM, vectors.shape[1])
        store = mrlstore.open(self.path, dim=vectors.shape[1], prefix_dim=prefix_dim, auto_maintain=False)
        with self._step("Storing ids, vectors, metadata and texts, durably") as said:
            metadatas = [
                {"kind": each.kind, "module": each.module, "line": each.line, "public": each.public}
                for each in docstrings
            ]
            names = [each.name for each in docstrings]
            rows = store.upsert(names, vectors, metadatas, [each.text for each in docstrings])
            said.append(output.count_text(rows, "row"))
        with self._step(f"Building the graph over the first {prefix_dim:,} dimensions") as said:
            with output.progress_bars(as_json=False) as progress:
                store.optimize(progress=progress)
            stats = store.stats()
            said.append(f"{output.bytes_text(stats.bytes_on_disk)} on disk")
        return store

    def warm(self, store: mrlstore.Store, vector: NDArray[np.float32]) -> None:
        """Step 5: a first query compiles the kernels; later processes read them from a cache."""
        with self._step("Asking once, which compiles the search kernels on this machine") as said:
            store.query(vector, 1)
            store.query(vector, 1, where=FILTERED[1])
            said.append("compiled code is kept")

    def ask(self, store: mrlstore.Store, embedder: LocalEmbedder) -> None:
        """Step 6: questions."""
        for question in QUESTIONS:
            vector = embedder.embed_query(question)
            started = time.perf_counter()
            result = store.query(vector, 3, include=("metadata", "document"))
            self._show(question, result, time.perf_counter() - started)

    def ask_filtered(self, store: mrlstore.Store, embedder: LocalEmbedder) -> None:
        """Step 7: a question with a filter."""
        question, where = FILTERED
        vector = embedder.embed_query(question)
        started = time.perf_counter()
        result = store.query(vector, 3, where=where, include=("metadata", "document"))
        self._show(f"{question}   where {where}", result, time.perf_counter() - started)

    def ask_in_new_process(self) -> None:
        """Step 8: another process opens the same store."""
        command = ["query", os.fspath(self.path), "--text", REOPENED]
        command += ["--embedder", os.fspath(self.model), "-k", "3"]
        self._heading("The store is closed. A new process opens it and asks:")
        self.out.print(f"$ mrlstore {shlex.join(command)}", style="dim", soft_wrap=True)
        environment = {**os.environ, "COLUMNS": str(self.out.width)}
        finished = subprocess.run(
            [sys.executable, "-m", "mrlstore.cli", *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if finished.returncode:
            raise click.ClickException(f"the new process failed with exit code {finished.returncode}")
        self.out.print(finished.stdout.rstrip())

    def compare(
        self, store: mrlstore.Store, embedder: LocalEmbedder, docstrings: list[corpus.Docstring]
    ) -> list[tiers.Tier]:
        """Step 9: the tiers, side by side."""
        long = _spread([each.text for each in docstrings if len(each.text) > 200], MEASURED)
        firsts = embedder.embed_documents([" ".join(text.split()[:12]) for text in long])
        self._heading(
            f"The same store searched in four ways: the first words of {len(long)} docstrings as questions, "
            f"top {tiers.K}"
        )
        compared = tiers.compare(store, firsts)
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
        table.add_column("searched by")
        for name in ("overlap with exact", "median ms", "bytes per row", "rows scored", "in full"):
            table.add_column(name, justify="right")
        for tier in compared:
            table.add_row(
                tier.name,
                f"{tier.overlap:.3f}",
                f"{tier.median_ms:.2f}",
                f"{tier.bytes_per_row:,.0f}",
                f"{tier.rows_scored:,.0f}",
                f"{tier.rows_in_full:,.0f}",
            )
        self.out.print(table)
        two, exact = compared[-1], compared[-2]
        self.out.print(
            f"Two stages find {two.overlap:.1%} of what the whole vectors find, in {two.median_ms:.2f} ms "
            f"instead of {exact.median_ms:.2f}: the graph and the codes of the prefix choose "
            f"{two.rows_in_full:,.0f} rows, whose whole vectors are compared.",
            style="dim",
        )
        return compared

    def _heading(self, text: str) -> None:
        self.out.print(f"\n{text}", style="bold")

    def _show(self, question: str, result: Result, seconds: float) -> None:
        self._heading(question)
        print_hits(result, self.out)
        self.out.print(f"{seconds * 1000:.2f} ms", style="dim")

    @contextmanager
    def _step(self, what: str) -> Iterator[list[str]]:
        """Say what is being done before, and what came of it and how long it took afterwards."""
        self.out.print(f"{what} ...")
        said: list[str] = []
        started = time.perf_counter()
        yield said
        seconds = time.perf_counter() - started
        self.out.print(f"  {', '.join(said)} ({seconds:.1f} s)", style="dim")


def _spread(items: list[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly chosen."""
    if len(items) <= count:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, count).astype(int)]


def _remove_old(path: Path) -> None:
    """Make way for a new store, but only where an older demo's store stands."""
    if not path.exists():
        return
    if not (path / "catalogue.db").exists():
        raise StoreExists(f"{path}: something that is no store stands where the demo's store goes")
    shutil.rmtree(path)


def _say_how_to_go_on(folder: Path) -> None:
    program = Path(sys.argv[0])
    name = os.path.relpath(program) if program.name == "mrlstore" else "mrlstore"
    out = output.console()
    out.print("\nNow ask it something yourself:", style="bold")
    store, model = folder / "stdlib.mrl", folder / "stdlib.lsa.npz"
    out.print(f'  {name} query {store} --text "sort a list" --embedder {model}', soft_wrap=True)
    out.print(f"  {name} stats {store}", soft_wrap=True)
