"""Compares the rows of a segment with the catalogue: their names, and the texts that hits are made of."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Connection
from mrlstore.storage.parts import Part
from mrlstore.storage.row_texts import IN_CATALOGUE, KINDS, NO_TEXT, SegmentTexts, TextKind
from mrlstore.storage.texts import unpack

_PAGE: Final = 1_000  # rows that are read at a time


class RowProblems(NamedTuple):
    """In how many rows of a segment something differs from the catalogue."""

    names: int  # the id or the namespace
    texts: dict[TextKind, int]


def verify_rows(connection: Connection, base: Part, texts: SegmentTexts | None) -> RowProblems:
    """Compare all rows that the catalogue still has; texts are those of the columns part, if it has some."""
    arrays = base.arrays
    names = unpack(arrays["namespaces.offsets"], arrays["namespaces.bytes"])
    ids = unpack(arrays["ids.offsets"], arrays["ids.bytes"])
    namespace_of = np.repeat(np.arange(len(names)), np.diff(arrays["groups"]))
    wrong_names, wrong_texts = 0, dict.fromkeys(KINDS, 0)
    keys = arrays["keys"].tolist()
    for start in range(0, len(keys), _PAGE):
        at = {key: start + i for i, key in enumerate(keys[start : start + _PAGE])}
        found = list(rows.by_key(connection, at))
        numbers = [at[row.key] for row in found]
        for number, row in zip(numbers, found, strict=True):
            expected = names[namespace_of[number]], ids[number], False
            wrong_names += (row.namespace.encode(), row.id.encode(), row.without_vector) != expected
        if texts is not None:
            for kind in KINDS:
                kept = [row.metadata if kind == "metadata" else row.document for row in found]
                pairs = zip(texts.at(kind, numbers), kept, strict=True)
                wrong_texts[kind] += sum(not _agree(bytes(piece), text) for piece, text in pairs)
    return RowProblems(wrong_names, wrong_texts)


def _agree(piece: bytes, text: str | None) -> bool:
    """Whether the arrays say the same as the catalogue; IN_CATALOGUE says nothing."""
    if piece == IN_CATALOGUE:
        return True
    return text is None if piece == NO_TEXT else text is not None and piece == text.encode()
