"""From documents to stored rows: skip what is stored already, embed the rest, store it window by window.

A second run goes on where the first one stopped: every window is durable before the next one is stored, and
only documents that are not stored yet are embedded. The store is used through its public methods alone.
"""

from mrlstore.ingest.document_rows import Split, digest_of
from mrlstore.ingest.pipeline import Ingested, IngestError, ingest
from mrlstore.ingest.re_embedding import re_embed
from mrlstore.ingest.source_files import FilesOfRows, Source, read_sources

__all__ = [
    "FilesOfRows",
    "IngestError",
    "Ingested",
    "Source",
    "Split",
    "digest_of",
    "ingest",
    "re_embed",
    "read_sources",
]
