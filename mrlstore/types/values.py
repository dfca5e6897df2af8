"""What callers write: metadata, filters, choices, and the limits on all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, SupportsFloat


class SupportsArray(Protocol):
    """What numpy makes an array of: arrays, tensors, columns of data frames."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """The same values as an array of numpy."""


Vector = Sequence[SupportsFloat] | SupportsArray  # numbers of shape [dim]; a text is none
Vectors = Sequence[Vector | None] | SupportsArray  # of shape [n, dim], or rows of which some have none
Metadata = dict[str, Any]
Where = Mapping[str, Any]
Namespaces = str | tuple[str, ...] | None  # one, several, or all
Include = Literal["metadata", "document", "vector"]
Conflict = Literal["replace", "skip", "error"]
Tokenizer = Literal["unicode61", "porter", "trigram"]
GraphBuilder = Literal["mrlstore", "hnswlib"]  # what builds the graphs of a store


@dataclass(frozen=True)
class Limits:
    """What one row, one query and one store may hold at most."""

    min_dim: int = 2
    max_dim: int = 8192
    id_bytes: int = 1024
    namespace_bytes: int = 256
    metadata_bytes: int = 64 * 1024
    metadata_depth: int = 32
    document_bytes: int = 16 * 1024 * 1024
    k: int = 10_000
    keywords: int = 1_000  # different words and phrases of one query


LIMITS: Final = Limits()
