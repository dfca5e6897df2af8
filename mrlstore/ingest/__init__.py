"""From documents to stored rows: skip what is stored already, embed the rest, store it window by window.

A second run goes on where the first one stopped: every window is durable before the next one is stored, and
only documents that are not stored yet are embedded. The store is used through its public methods alone. The
names of what reads files are imported at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mrlstore.ingest.document_rows import Split, digest_of
from mrlstore.ingest.pipeline import Ingested, IngestError, ingest
from mrlstore.ingest.re_embedding import re_embed

if TYPE_CHECKING:
    from mrlstore.ingest.file_selection import FileSelection
    from mrlstore.ingest.missing_files import missing_rows
    from mrlstore.ingest.source_files import FilesOfRows, Source, read_sources

__all__ = [
    "FilesOfRows",
    "IngestError",
    "Ingested",
    "FileSelection",
    "Source",
    "Split",
    "digest_of",
    "ingest",
    "missing_rows",
    "re_embed",
    "read_sources",
]

_HOMES = {
    "file_selection": ("FileSelection",),
    "missing_files": ("missing_rows",),
    "source_files": ("FilesOfRows", "Source", "read_sources"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
