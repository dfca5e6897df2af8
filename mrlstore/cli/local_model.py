"""The local embedder of a store: fitted on the texts that are added first, kept beside the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.embedders.local import LocalEmbedder
from mrlstore.embedders.split import split_text
from mrlstore.errors import EmbedError, InvalidInput

FEW_TEXTS: Final = 300  # a model that was fitted on fewer hardly knows which words belong together
MOST_TEXTS: Final = 4_000  # that a model is fitted on: time grows with their cube, to half a minute here
PASSAGE_TOKENS: Final = 512  # longer texts are cut into several for fitting, so that a book is many texts
DIM: Final = 1_024  # latent semantic analysis gains little beyond; a word takes 4 KB of the file


class TextsTooFew(EmbedError):
    """There are too few texts to fit a model on; `succeeded` and `failed` are by the numbers of contents."""

    of_service = False

    def __init__(self, contents: int) -> None:
        super().__init__("these texts are too few, or too much alike, for a local embedder to learn from")
        self.succeeded: dict[int, NDArray[np.float32]] = {}
        self.failed = dict.fromkeys(range(contents), self)


class NoModel:
    """Stands for the embedder where none can be fitted: texts are stored without vectors."""

    fingerprint = "none"

    def embed_documents(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Raise TextsTooFew for all of them."""
        raise TextsTooFew(len(contents))

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """Raise TextsTooFew."""
        raise TextsTooFew(1)


@dataclass(frozen=True)
class LocalModel:
    """A local embedder and its file, which may not be written yet."""

    embedder: LocalEmbedder | NoModel
    path: Path
    is_new: bool
    passages: int = (
        0  # into which the texts at hand were cut; more than the model was fitted on where too many
    )

    def save(self) -> None:
        """Write a model that was fitted now."""
        if self.is_new and isinstance(self.embedder, LocalEmbedder):
            self.embedder.save(self.path)

    def facts(self) -> dict[str, Any] | None:
        """What a script may want to know of the model; None without one."""
        if isinstance(self.embedder, NoModel):
            return None
        model = self.embedder
        known = {"fitted_on": model.texts, "words": len(model.words), "dim": model.dim}
        return {"name": "local", "file": str(self.path), "new": self.is_new, **known}

    def said(self) -> str:
        """What the model was fitted on, as a sentence."""
        if isinstance(self.embedder, NoModel):
            return "no local embedder: there are too few texts to learn from"
        of = f" of {self.passages:,}" if self.passages > self.embedder.texts else ""
        texts = f"{self.embedder.texts:,}{of} texts and passages"
        verb = "fitted now" if self.is_new else "was fitted"
        return f"local embedder {self.path}: {verb} on {texts}, knows {len(self.embedder.words):,} words"

    def warnings(self, rows: int) -> list[str]:
        """What to expect of the model in a store of so many rows."""
        if isinstance(self.embedder, NoModel):
            return ["rows have no vectors until more texts are added; ask by --keywords"]
        texts = self.embedder.texts
        found = []
        if texts < FEW_TEXTS:
            found.append(
                f"a model fitted on {texts:,} texts finds little more than the words themselves: it takes "
                f"about {FEW_TEXTS} to learn which words belong together. --keywords needs no model"
            )
        if rows > 3 * texts and not self.is_new and texts < MOST_TEXTS:
            found.append(
                f"{rows:,} rows are stored now, but the model knows only the words of {texts:,} texts: "
                "mrlstore re-embed STORE NEW --embedder local makes a model from all of them"
            )
        return found


def load_model(path: Path) -> LocalModel:
    """Open the model that is kept in a file."""
    return LocalModel(LocalEmbedder.load(path), path, is_new=False)


def fit_model(texts: Sequence[str], path: Path) -> LocalModel:
    """Fit a model on texts; `save` writes it."""
    passages = [chunk.text for text in texts for chunk in split_text(text, PASSAGE_TOKENS)]
    chosen = passages
    if len(passages) > MOST_TEXTS:
        places = np.linspace(0, len(passages) - 1, MOST_TEXTS).astype(int)
        chosen = [passages[place] for place in places]
    try:
        embedder: LocalEmbedder | NoModel = LocalEmbedder.fit(chosen, dim=DIM)
    except InvalidInput:
        embedder = NoModel()
    return LocalModel(embedder, path, is_new=True, passages=len(passages))
