"""The steps of the demo: collect, embed, store, query, reopen in a new process, compare."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.ask import print_hits
from mrlstore.cli.demo import corpus, tier_comparison
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import EmbedError, MrlStoreError, StoreExists

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
COMPARISON_QUESTIONS: Final = 200


class Demo:
    """One run of the demo. The methods are its steps, in their order; each prints what it does."""

    def __init__(self, folder: Path, limit: int | None, out: Console) -> None:
        self.limit = limit
        self.path = folder / "stdlib.mrl"
        self.model = folder / "stdlib.lsa.npz"
        self.out = out

    def run(self) -> dict[str, Any]:
        """Run all steps, and return the measured figures."""
        started = time.perf_counter()
        docstrings = self.collect()
        embedder, vectors = self.embed(docstrings)
        with self.fill(docstrings, embedder, vectors) as store:
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
        """Step 1: collect the texts."""
        with self._step("Collecting the docstrings of the standard library") as results:
            docstrings = corpus.standard_library(self.limit)
            modules = len({docstring.module for docstring in docstrings})
            results.append(f"{len(docstrings):,} docstrings of {modules:,} modules")
        return docstrings

    def embed(self, docstrings: list[corpus.Docstring]) -> tuple[LocalEmbedder, NDArray[np.float32]]:
        """Step 2: embed the texts as float32 [n, 3072]; fewer dimensions with a small limit."""
        with self._step("Embedding them by latent semantic analysis, without key or network") as results:
            texts = [f"{docstring.name}\n{docstring.text}" for docstring in docstrings]
            embedder = LocalEmbedder.fit(texts, dim=DIM)
            vectors = embedder.embed_documents(texts)
            embedder.save(self.model)
            results.append(f"{embedder.dim:,} dimensions, learned from {len(embedder.words):,} words")
        return embedder, vectors

    def fill(
        self, docstrings: list[corpus.Docstring], embedder: LocalEmbedder, vectors: NDArray[np.float32]
    ) -> mrlstore.Store:
        """Steps 3 and 4: fill the store, and build its index."""
        _remove_old(self.path)
        prefix_dim = min(PREFIX_DIM, vectors.shape[1])
        store = mrlstore.open(
            self.path,
            dim=vectors.shape[1],
            prefix_dim=prefix_dim,
            embedder=embedder,
            auto_maintain=False,
        )
        store.add([])  # records the embedder, so that a question in words finds it
        with self._step("Storing ids, vectors, metadata and texts, durably") as results:
            metadatas = [
                {"kind": each.kind, "module": each.module, "line": each.line, "public": each.public}
                for each in docstrings
            ]
            names = [each.name for each in docstrings]
            rows = store.upsert(names, vectors, metadatas, [each.text for each in docstrings])
            results.append(output.count_text(rows, "row"))
        with self._step(f"Building the graph over the first {prefix_dim:,} dimensions") as results:
            with output.progress_bars(as_json=False) as progress:
                store.optimize(progress=progress)
            stats = store.stats()
            results.append(f"{output.bytes_text(stats.bytes_on_disk)} on disk")
        return store

    def warm(self, store: mrlstore.Store, vector: NDArray[np.float32]) -> None:
        """Step 5: a first query compiles the kernels, which later processes load from a cache on disk."""
        with self._step("Asking once, which compiles the search kernels on this machine") as results:
            store.query(vector, 1)
            store.query(vector, 1, where=FILTERED[1])
            results.append("compiled code is kept")

    def ask(self, store: mrlstore.Store, embedder: LocalEmbedder) -> None:
        """Step 6: ask some questions."""
        for question in QUESTIONS:
            self._ask(store, embedder, question, None)

    def ask_filtered(self, store: mrlstore.Store, embedder: LocalEmbedder) -> None:
        """Step 7: ask a question with a filter."""
        self._ask(store, embedder, *FILTERED)

    def ask_in_new_process(self) -> None:
        """Step 8: another process opens the same store."""
        command = ["query", os.fspath(self.path), REOPENED, "-k", "3"]
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
            raise MrlStoreError(f"the new process failed with exit code {finished.returncode}")
        self.out.print(finished.stdout.rstrip())

    def compare(
        self, store: mrlstore.Store, embedder: LocalEmbedder, docstrings: list[corpus.Docstring]
    ) -> list[tier_comparison.MeasuredSearch]:
        """Step 9: search in several ways, and compare recall, time and bytes."""
        long = _spread([each.text for each in docstrings if len(each.text) > 200], COMPARISON_QUESTIONS)
        firsts = _embed_known(embedder, [" ".join(text.split()[:12]) for text in long])
        self._heading(
            f"The same store searched in four ways, top {tier_comparison.K}, with the first words of "
            f"{len(firsts)} docstrings as questions"
        )
        compared = tier_comparison.compare(store, firsts)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("searched by", no_wrap=True)
        for name in ("overlap", "median ms", "bytes per row", "rows scored", "in full"):
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
        self.out.print("overlap: share of the exact top 10 that was found", style="dim")
        two, exact = compared[-1], compared[-2]
        self.out.print(
            f"Two stages find {two.overlap:.1%} of what the whole vectors find, in {two.median_ms:.2f} ms "
            f"against {exact.median_ms:.2f} ms: the graph and the codes of the prefix choose "
            f"{two.rows_in_full:,.0f} rows, whose whole vectors are compared.",
            style="dim",
        )
        return compared

    def _heading(self, text: str) -> None:
        self.out.print(f"\n{text}", style="bold")

    def _ask(
        self, store: mrlstore.Store, embedder: LocalEmbedder, question: str, where: dict[str, Any] | None
    ) -> None:
        self._heading(f"{question}   where {json.dumps(where)}" if where else question)
        try:
            vector = embedder.embed_query(question)
        except EmbedError:
            self.out.print("No word of this question occurs in so few docstrings.", style="dim")
            return
        started = time.perf_counter()
        result = store.query(vector, 3, where=where, include=("metadata", "document"))
        seconds = time.perf_counter() - started
        print_hits(result, self.out.file)
        self.out.print(f"{seconds * 1000:.2f} ms", style="dim")

    @contextmanager
    def _step(self, what: str) -> Iterator[list[str]]:
        """Print a heading; afterwards the lines that the caller added to the list, and the time taken."""
        self.out.print(f"{what} ...")
        results: list[str] = []
        started = time.perf_counter()
        yield results
        seconds = time.perf_counter() - started
        self.out.print(f"  {', '.join(results)} ({seconds:.1f} s)", style="dim")


def _embed_known(embedder: LocalEmbedder, questions: list[str]) -> NDArray[np.float32]:
    """Embed the questions of which the embedder knows a word, as float32 [<= n, dim]."""
    vectors = []
    for question in questions:
        with suppress(EmbedError):
            vectors.append(embedder.embed_query(question))
    return np.stack(vectors)


def _spread(items: list[Any], count: int) -> list[Any]:
    """At most `count` of the items, at even distances."""
    if len(items) <= count:
        return items
    return [items[position] for position in np.linspace(0, len(items) - 1, count).astype(int)]


def _remove_old(path: Path) -> None:
    """Remove the store of an earlier demo. Raises StoreExists for anything that is not a store."""
    if not path.exists():
        return
    if not (path / "catalogue.db").exists():
        raise StoreExists(
            f"{path}: exists and is not a store; remove it or choose another folder with --keep"
        )
    shutil.rmtree(path)
