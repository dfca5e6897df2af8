"""What an embedder is: any object with two methods and a fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """Turns contents into vectors; documents and queries may be embedded differently.

    An embedder may also have async twins, `aembed_documents(contents)` and `aembed_query(content)`, with
    the same arguments and results. Where they are absent, callers run the plain methods in a thread.

    An error may say which contents it is about, so that the others are stored all the same: by `item`, the
    number of one, or by `succeeded` and `failed`, mappings from numbers to vectors and to errors. Its
    `of_service` says whether the embedder would fail for other contents too (True) or not (False).
    """

    @property
    def fingerprint(self) -> str | Mapping[str, Any]:
        """What two vectors must share to be comparable: the model, its length, its conventions for tasks.

        A str, or a mapping of JSON values. Vectors of embedders whose fingerprints differ must not be
        mixed in one store.
        """
        ...

    def embed_documents(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Embed documents: float32 [len(contents), dim], in their order."""
        ...

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """Embed a query: float32 [dim]."""
        ...
