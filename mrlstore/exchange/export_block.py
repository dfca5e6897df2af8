"""Rows on their way into a file, a table or a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.types import Metadata


@dataclass(frozen=True)
class ExportBlock:
    """Some rows, column by column; n of them."""

    ids: list[str]
    namespaces: list[str] | None  # None if all are of one namespace, which is not written
    metadatas: list[Metadata | None]
    documents: list[str | None]
    has_vector: NDArray[np.bool_]  # [n]
    vectors: NDArray[Any]  # float32 [n, dim], or float16 [n, dim] unit rows; zeros for rows without a vector
    norms: NDArray[np.float32] | None  # [n] original lengths, with float16 vectors

    def __len__(self) -> int:
        return len(self.ids)
