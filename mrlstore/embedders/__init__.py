"""Embedders turn texts and other contents into vectors; each needs the extra of its name.

`protocol` says what an embedder is. `local` needs neither key nor network.
"""

from mrlstore.embedders.protocol import Embedder

__all__ = ["Embedder"]
