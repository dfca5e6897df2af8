"""From documents to stored rows: skip what is stored, embed the rest, store it window by window.

Resumable: every window is durable before the next is stored, and a second run sends only what is not
stored yet. A store is known here only by its public verbs.
"""

from mrlstore.ingest.anew import re_embed
from mrlstore.ingest.pipeline import Ingested, IngestError, ingest
from mrlstore.ingest.rows import Split, digest_of
from mrlstore.ingest.sources import Source, read_sources

__all__ = ["IngestError", "Ingested", "Source", "Split", "digest_of", "ingest", "re_embed", "read_sources"]
