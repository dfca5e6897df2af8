"""Embed the rows of one window, so that a document that cannot be embedded does not keep the others back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import EmbedError, InvalidInput
from mrlstore.ingest.document_rows import DocumentRow
from mrlstore.storage.vector_rows import as_matrix

# Refusals in a row, without one success, after which the halving of a window stops. Seven halvings lead from
# 100 rows to one; twice that and a little leaves room for a second bad row among the first.
MAX_REFUSALS: Final = 16


@dataclass(frozen=True)
class EmbeddedRows:
    """What became of the rows: each is in one of the two."""

    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # id -> float32 [dim]
    failed: dict[str, Exception] = field(default_factory=dict)  # id -> why


def embed_rows(embedder: Embedder, rows: Sequence[DocumentRow]) -> EmbeddedRows:
    """Embed rows, and find those that the embedder refuses.

    An error may say which content it means: by `item`, its number, or by `succeeded` and `failed`, vectors
    and errors by number. For an `EmbedError` that says neither, the rows are halved until the bad ones stand
    alone.
    """
    done = EmbeddedRows()
    todo, refusals = [list(rows)] if rows else [], 0
    while todo:
        part = todo.pop()
        try:
            vectors = _one_vector_each(embedder, part)
        except Exception as error:
            refusals += 1
            todo += _set_apart(part, error, done, may_halve=refusals <= MAX_REFUSALS)
        else:
            refusals = 0
            done.vectors.update((row.id, vectors[i]) for i, row in enumerate(part))
    return done


def is_down(embedder: Embedder, failed: Mapping[str, Exception], known_good: DocumentRow | None) -> bool:
    """Whether an embedder that embedded no row of a window would embed no other document either.

    An error may say so itself: `of_service` is True where the service failed (a refused key, a spent quota)
    and False where the document was to blame. Where it does not say, `known_good`, a document that this
    embedder has embedded before, is embedded again: if that fails too, the embedder is down. Without such a
    document two failures are enough.
    """
    verdicts = {_of_service(error) for error in failed.values()}
    if verdicts <= {False}:
        return False
    if True in verdicts:
        return True
    if known_good is None:
        return len(failed) > 1
    try:
        embedder.embed_documents([known_good.content])
    except Exception:
        return True
    return False


def _of_service(error: Exception) -> bool | None:
    """Whether the service as a whole failed; None where the error does not say."""
    said: bool | None = getattr(error, "of_service", None)
    return False if said is None and getattr(error, "item", None) is not None else said


def _set_apart(
    part: list[DocumentRow], error: Exception, done: EmbeddedRows, *, may_halve: bool
) -> list[list[DocumentRow]]:
    """Note what an error says of each row of `part`; return the groups to try again, last one first."""
    number, succeeded = getattr(error, "item", None), getattr(error, "succeeded", None)
    if number is not None:
        done.failed[part.pop(number).id] = error
        return [part] if part else []
    if succeeded is not None:
        failed: Mapping[int, Exception] = getattr(error, "failed", {})
        done.vectors.update((part[i].id, vector) for i, vector in succeeded.items())
        done.failed.update((row.id, failed.get(i, error)) for i, row in enumerate(part) if i not in succeeded)
        return []
    if isinstance(error, EmbedError) and len(part) > 1 and may_halve:
        middle = len(part) // 2
        return [part[middle:], part[:middle]]
    done.failed.update((row.id, error) for row in part)
    return []


def _one_vector_each(embedder: Embedder, rows: list[DocumentRow]) -> NDArray[Any]:
    """The vectors of rows, [len(rows), dim]; InvalidInput if the embedder gave another number of them."""
    matrix = as_matrix(embedder.embed_documents([row.content for row in rows]), "embed_documents")
    if len(matrix) != len(rows):
        raise InvalidInput(f"embed_documents: {len(matrix)} vectors came back for {len(rows)} contents")
    return matrix
