"""The local server and its embedders, for the pipeline from documents to rows."""

from tests.embedders.gemini.conftest import client, clock, embedder, google, no_environment

__all__ = ["client", "clock", "embedder", "google", "no_environment"]
