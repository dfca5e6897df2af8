"""`--embedder`: which embedder a command works with, and where a local one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mrlstore.api.store import Store
from mrlstore.embedders.fingerprint import canonical, check_same
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
            "store; or the file of a saved local embedder. By default the one that the store was filled "
            "with, for a new store local.",
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


def embedder_for_questions(
    name: str | None, opened: Store, store: Path, task: str, cache: Path | None
) -> Embedder:
    """The embedder that turns words into a vector that compares with those of a store.

    Without a name it is the one that the store recorded when rows were added.

    Raises:
        InvalidInput: it cannot be found, is another one than the store's, or no row has a vector.
    """
    instead = "Or ask by --keywords, --id or --vector"
    recorded = opened.embedder_fingerprint
    if opened.dim is None:
        raise InvalidInput(f"no row of {store} has a vector yet. Ask by --keywords")
    if name is not None:
        embedder = open_embedder(name, store, task, cache)
    elif isinstance(recorded, dict) and recorded.get("embedder") == "gemini":
        from mrlstore.embedders import GeminiEmbedder

        symmetric = recorded["task"] != "retrieval documents"
        model, dim = recorded["model"], recorded["dim"]
        embedder = GeminiEmbedder(model, task=recorded["task"] if symmetric else task, dim=dim, cache=cache)
    elif recorded is None or is_local(recorded):
        path = local_file(store)
        if not path.exists():
            made = (
                "was filled by a local embedder, whose file"
                if recorded
                else "records no embedder, and a file"
            )
            raise InvalidInput(
                f"{store} {made} {path} is not there: say by --embedder which one it is. {instead}"
            )
        embedder = open_embedder("local", store, task, cache)
    else:
        raise InvalidInput(
            f"{store} holds vectors of the embedder {recorded!r:.80}, which is not one of the command line. "
            f"{instead}"
        )
    if recorded is not None:
        check_same(canonical(recorded), embedder)
    return embedder


def is_local(recorded: str | dict[str, Any]) -> bool:
    """Whether a fingerprint is that of a local embedder."""
    from mrlstore.embedders.local import FINGERPRINT

    return isinstance(recorded, str) and recorded.startswith(FINGERPRINT)


def local_file(store: Path) -> Path:
    """Where the local embedder of a store is kept."""
    store = store if store.name else store.absolute()
    return beside(store.with_name(store.name.removesuffix(".mrl") or store.name), ".lsa.npz")
