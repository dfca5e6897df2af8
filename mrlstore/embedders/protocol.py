"""What an embedder is: two methods and a fingerprint. Any object that has them will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """Turns contents into vectors: the stored side and the asking side may be embedded differently.

    An embedder may also have async twins, `aembed_documents(contents)` and `aembed_query(content)`, with
    the same arguments and results. Where they are absent, callers run the plain methods in a thread.
    """

    @property
    def fingerprint(self) -> str | Mapping[str, Any]:
        """What makes two vectors comparable: the model, its length, its conventions for tasks.

        A str, or a mapping of JSON values. Vectors of embedders whose fingerprints differ must not be
        mixed in one store.
        """
        ...

    def embed_documents(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Embed contents that are to be stored: float32 [len(contents), dim], in their order."""
        ...

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """Embed a question: float32 [dim]."""
        ...
