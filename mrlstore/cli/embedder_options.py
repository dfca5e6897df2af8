"""`--embedder`: which embedder a command works with, and where a local one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mrlstore
from mrlstore.embedders.fingerprint import canonical, check_same
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, StoreNotFound
from mrlstore.system.names import beside

if TYPE_CHECKING:
    from mrlstore.cli.local_model import LocalModel

Decorated = Callable[..., Any]


def embedder_options(function: Decorated) -> Decorated:
    """--embedder, --task and --cache."""
    options = (
        click.option(
            "--embedder",
            "name",
            metavar="gemini|local|FILE",
            help="gemini, or the name of a Gemini model; local, a model that is made from the texts and kept "
            "beside the store; or the file of a saved local embedder. By default the embedder that filled "
            "the store, and for a new store local.",
        ),
        click.option(
            "--task",
            default="retrieval",
            show_default=True,
            metavar="TASK",
            help="The task for which Gemini embeds.",
        ),
        click.option(
            "--cache",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Keep Gemini's answers in this file, so that nothing is paid for twice.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class ChosenEmbedder:
    """An embedder, and the model that it is, where it is a local one."""

    embedder: Embedder
    model: LocalModel | None = None


class EmbedderChoice:
    """The embedder that rows are added with: the one that is named, else the store's, else the local one."""

    def __init__(self, name: str | None, store: Path, task: str, cache: Path | None) -> None:
        """Look what the store has recorded; a store that does not exist has recorded nothing.

        Raises:
            InvalidInput: no embedder is named, and the command line does not have the store's.
        """
        self._store, self._task, self._cache = store, task, cache
        self._name, self._is_new = name, False
        try:
            with mrlstore.open(store, mode="r") as opened:
                self._recorded, stats = opened.embedder_fingerprint, opened.stats()
            self._has_vectors, self._dim = stats.rows > stats.rows_without_vector, stats.dim
        except StoreNotFound:
            self._recorded, self._is_new, self._has_vectors, self._dim = None, True, False, None
        recorded = self._recorded
        if name is None and recorded is not None and not (is_gemini(recorded) or is_local(recorded)):
            raise _unknown(store, recorded, "Add rows in Python")

    @property
    def texts_only(self) -> bool:
        """Whether the embedder reads nothing but texts."""
        if self._name is None:
            return not is_gemini(self._recorded)
        return not self._name.startswith("gemini")

    def open(self, texts: Callable[[], Sequence[str]]) -> ChosenEmbedder:
        """Make the embedder. A local one is fitted on `texts`, and not written yet, if its file is not there.

        A file beside a store that does not exist is left from an earlier store, and another one is fitted.

        Raises:
            InvalidInput: there is no such embedder, or the file of the store's own is not there.
        """
        if not self.texts_only:
            named = self._name is not None
            if named or not isinstance(self._recorded, dict):
                return ChosenEmbedder(_gemini(self._name or "gemini", self._task, self._cache))
            return ChosenEmbedder(_gemini_of(self._recorded, self._task, self._cache))
        from mrlstore.cli.local_model import fit_model, load_model

        name = self._name or "local"
        path = local_file(self._store) if name == "local" else Path(name)
        if path.exists() and not (self._is_new and name == "local"):
            model = load_model(path)
        elif name != "local":
            raise _no_such(name)
        elif self._recorded is not None and is_local(self._recorded):
            raise InvalidInput(
                f"{self._store} was filled by a local embedder, and its file {path} is not there. Name the "
                "file by --embedder, or embed everything again into another store: mrlstore re-embed"
            )
        elif self._recorded is None and self._has_vectors:
            raise InvalidInput(
                f"{self._store} holds vectors, and does not say of which embedder. Add to it in Python, name "
                "the file of its embedder by --embedder, or add to another store"
            )
        else:
            model = fit_model(texts(), path)
            dim = getattr(model.embedder, "dim", None)  # none where there are too few texts
            if None not in (dim, self._dim) and dim != self._dim:
                raise InvalidInput(
                    f"{self._store} takes vectors of {self._dim:,} dimensions; a local embedder fitted on "
                    f"these texts gives {dim:,}. Add to another store, or name an embedder by --embedder"
                )
        return ChosenEmbedder(model.embedder, model)


def _gemini(name: str, task: str, cache: Path | None) -> Embedder:
    from mrlstore.embedders import GeminiEmbedder

    return GeminiEmbedder("gemini-embedding-2" if name == "gemini" else name, task=task, cache=cache)


def _gemini_of(recorded: dict[str, Any], task: str, cache: Path | None) -> Embedder:
    """Gemini as a store has recorded it; `task` counts among those that embed documents alike."""
    from mrlstore.embedders import GeminiEmbedder

    symmetric = recorded["task"] != "retrieval documents"
    model, dim = recorded["model"], recorded["dim"]
    return GeminiEmbedder(model, task=recorded["task"] if symmetric else task, dim=dim, cache=cache)


def _no_such(name: str) -> InvalidInput:
    return InvalidInput(
        f"--embedder {name}: expected gemini, the name of a Gemini model, local, or the file of an embedder"
    )


def _unknown(store: Path, recorded: object, instead: str) -> InvalidInput:
    return InvalidInput(
        f"{store} holds vectors of the embedder {recorded!r:.80}, which the command line cannot load. "
        f"{instead}"
    )


def embedder_for_questions(
    name: str | None, opened: mrlstore.Store, store: Path, task: str, cache: Path | None
) -> Embedder:
    """The embedder that turns words into a vector that compares with those of a store.

    Without a name it is the one that the store recorded when rows were added.

    Raises:
        InvalidInput: it cannot be found, is another one than the store's, or no row has a vector.
    """
    instead = "ask by --keywords, --id or --vector"
    recorded = opened.embedder_fingerprint
    if opened.dim is None:
        raise InvalidInput(f"no row of {store} has a vector yet. Ask by --keywords")
    if name is not None and name.startswith("gemini"):
        embedder = _gemini(name, task, cache)
    elif name is None and isinstance(recorded, dict) and is_gemini(recorded):
        embedder = _gemini_of(recorded, task, cache)
    elif name is None and recorded is not None and not is_local(recorded):
        raise _unknown(store, recorded, instead.capitalize())
    else:
        path = Path(name) if name not in (None, "local") else local_file(store)
        if not path.exists() and name not in (None, "local"):
            raise _no_such(str(name))
        if not path.exists():
            made = "was filled by a local embedder" if recorded else "does not say which embedder filled it"
            raise InvalidInput(
                f"{store} {made}, and there is no {path}. Name the embedder by --embedder, or {instead}"
            )
        from mrlstore.embedders.local import LocalEmbedder

        embedder = LocalEmbedder.load(path)
    if recorded is not None:
        check_same(canonical(recorded), embedder)
    return embedder


def is_gemini(recorded: str | dict[str, Any] | None) -> bool:
    """Whether a fingerprint is that of a Gemini model."""
    return isinstance(recorded, dict) and recorded.get("embedder") == "gemini"


def is_local(recorded: str | dict[str, Any]) -> bool:
    """Whether a fingerprint is that of a local embedder."""
    from mrlstore.embedders.local import FINGERPRINT

    return isinstance(recorded, str) and recorded.startswith(FINGERPRINT)


def local_file(store: Path) -> Path:
    """Where the local embedder of a store is kept."""
    store = store if store.name else store.absolute()
    return beside(store.with_name(store.name.removesuffix(".mrl") or store.name), ".lsa.npz")
