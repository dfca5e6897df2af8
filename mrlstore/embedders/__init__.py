"""Embedders turn texts and other contents into vectors; each needs the extra of its name.

`protocol` says what an embedder is. `local` needs neither key nor network. `gemini` takes texts, images,
sound, film and PDFs. The names of this package are imported at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mrlstore.embedders.protocol import Embedder

if TYPE_CHECKING:
    from mrlstore.embedders.cache import EmbeddingCache
    from mrlstore.embedders.content import Audio, Content, Image, Media, Pdf, Video
    from mrlstore.embedders.gemini import GeminiBatch, GeminiEmbedder, GeminiEmbedError
    from mrlstore.embedders.local import LocalEmbedder
    from mrlstore.embedders.split import Chunk, split_text

__all__ = [
    "Audio",
    "Chunk",
    "Content",
    "Embedder",
    "EmbeddingCache",
    "GeminiBatch",
    "GeminiEmbedError",
    "GeminiEmbedder",
    "Image",
    "LocalEmbedder",
    "Media",
    "Pdf",
    "Video",
    "split_text",
]

_HOMES = {
    "cache": ("EmbeddingCache",),
    "content": ("Audio", "Content", "Image", "Media", "Pdf", "Video"),
    "gemini": ("GeminiBatch", "GeminiEmbedError", "GeminiEmbedder"),
    "local": ("LocalEmbedder",),
    "split": ("Chunk", "split_text"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
