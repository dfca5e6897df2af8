"""Checks of which rows a write is about, and of what an update does to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrlstore.api.arguments import check_prefix
from mrlstore.checks import check_ids, check_namespace
from mrlstore.errors import InvalidInput
from mrlstore.search.params import Selection
from mrlstore.types import Vectors, Where
from mrlstore.where import parse
from mrlstore.writing.batch import RowChange, make_changes


def check_selection(
    ids: Iterable[str] | None,
    filter: Where | None,
    prefix: str | None,
    namespace: str,
    verb: str,
    *,
    ordered: bool = False,
) -> Selection:
    """What selects the rows that are written; InvalidInput where that would be all of a namespace."""
    check_namespace(namespace)
    node, start = parse(filter), check_prefix(prefix) or None
    if ids is None and node is None and start is None:
        raise InvalidInput(
            f"{verb}: give ids, or a where{' or prefix' * (verb == 'delete')} that is not empty"
        )
    return Selection(None if ids is None else check_ids(ids, ordered=ordered), node, start)


def check_changes(
    selection: Selection,
    metadatas: Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None,
    documents: Sequence[str | None] | None,
    vectors: Vectors | None,
    dim: int | None,
) -> dict[str, RowChange] | RowChange:
    """What an update does: one change for each id, or where no ids are selected one for all rows."""
    if metadatas is None and documents is None and vectors is None:
        raise InvalidInput("update: give metadatas, documents or vectors")
    if selection.ids is not None:
        return make_changes(selection.ids, metadatas, documents, vectors, dim)
    if documents is not None or vectors is not None:
        raise InvalidInput(
            "update: documents and vectors go by ids; with where alone only metadatas can be given"
        )
    if not isinstance(metadatas, Mapping):
        raise InvalidInput("update: with where, metadatas is one dict for all rows that match")
    return RowChange(metadatas)
