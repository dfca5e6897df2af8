"""`--embedder`: which embedder a command works with, and where a local one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.system.names import beside

Decorated = Callable[..., Any]


def embedder_options(function: Decorated) -> Decorated:
    """--embedder, --task and --cache."""
    options = (
        click.option(
            "--embedder",
            "name",
            metavar="gemini|local|FILE",
            help="gemini, or one of its models by name; local: made from the texts and kept beside the "
            "store; or the file of a saved local embedder.",
        ),
        click.option(
            "--task",
            default="retrieval",
            show_default=True,
            metavar="TASK",
            help="The task that Gemini embeds for.",
        ),
        click.option(
            "--cache",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Keep what Gemini answered, so that it is not paid for twice.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def open_embedder(
    name: str, store: Path, task: str, cache: Path | None, texts: Callable[[], Sequence[str]] | None = None
) -> Embedder:
    """The embedder of this name.

    `local` is read from `STORE.lsa.npz` beside the store; if that is not there, it is fitted on `texts` and
    saved, or refused if there are no texts.
    """
    if name.startswith("gemini"):
        from mrlstore.embedders import GeminiEmbedder

        model = "gemini-embedding-2" if name == "gemini" else name
        return GeminiEmbedder(model, task=task, cache=cache)
    from mrlstore.embedders.local import LocalEmbedder

    path = local_file(store) if name == "local" else Path(name)
    if path.exists():
        return LocalEmbedder.load(path)
    if name != "local":
        raise InvalidInput(
            f"--embedder {name}: gemini, a model of its, local, or the file of a saved embedder"
        )
    if texts is None:
        raise InvalidInput(f"--embedder local: {path} is not there; `mrlstore add --embedder local` makes it")
    embedder = LocalEmbedder.fit(texts())
    embedder.save(path)
    return embedder


def local_file(store: Path) -> Path:
    """Where the local embedder of a store is kept."""
    store = store if store.name else store.absolute()
    return beside(store.with_name(store.name.removesuffix(".mrl") or store.name), ".lsa.npz")
