"""Writes the columns part of a segment: typed columns for filters, and the texts that hits carry.

Both are made from the catalogue, by row key. Rows that were removed since the base part was read are dead for
every reader that will see the part: they count as having no metadata, and their texts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.columns import build_columns
from mrlstore.storage.parts import Array, NewPart, Stream, write_part
from mrlstore.storage.row_texts import IN_CATALOGUE, INFO, KINDS, LONGEST, TextKind, checksum, kept
from mrlstore.storage.session import Session
from mrlstore.system.job import Job

_BLOCK: Final = 1_024  # rows that are read at a time
_IN_MEMORY: Final = 64 * 1024 * 1024  # bytes of texts of one kind that are kept until they are written


def write_columns(session: Session, keys: NDArray[np.int64], job: Job) -> NewPart:
    """Write the columns part of the rows with these keys."""
    texts = [_TextsOfKind(session, keys, kind, job) for kind in KINDS]
    columns = build_columns(_metadata(session, keys, texts, job), len(keys), job=job)
    arrays: dict[str, Array | Stream] = {"columns": columns}
    for one in texts:
        arrays |= one.arrays()
    return write_part(
        session.files,
        session.parts,
        "columns",
        len(keys),
        arrays,
        store_uuid=session.settings.store_uuid,
        info={INFO: LONGEST},
    )


def _blocks(session: Session, keys: NDArray[np.int64]) -> Iterator[list[rows.Row | None]]:
    """The rows in the order of their keys, None for those that are gone, in blocks."""
    for start in range(0, len(keys), _BLOCK):
        some = keys[start : start + _BLOCK].tolist()
        with session.catalogue.read() as connection:
            found = {row.key: row for row in rows.by_key(connection, some)}
        yield [found.get(key) for key in some]


def _metadata(
    session: Session, keys: NDArray[np.int64], texts: list[_TextsOfKind], job: Job
) -> Iterator[str | None]:
    """The metadata of each row; its texts are taken in on the way."""
    done = 0
    for block in _blocks(session, keys):
        job.step("columns", done, len(keys))
        for one in texts:
            one.take_in(done, block)
        done += len(block)
        yield from (None if row is None else row.metadata for row in block)


class _TextsOfKind:
    """The texts of one kind. Where they do not fit into memory, only their lengths are kept at first."""

    def __init__(self, session: Session, keys: NDArray[np.int64], kind: TextKind, job: Job) -> None:
        self._session, self._keys, self._kind, self._job = session, keys, kind, job
        self._lengths = np.zeros(len(keys), np.int64)
        self._crcs = np.zeros(len(keys), np.uint32)
        self._held: list[bytes] | None = []  # the texts of each block; None: too many
        self._bytes = 0

    def take_in(self, start: int, block: list[rows.Row | None]) -> None:
        """Take the texts of the rows from row `start` on."""
        texts = [self._of(row) for row in block]
        self._lengths[start : start + len(texts)] = list(map(len, texts))
        self._bytes += sum(map(len, texts))
        if self._bytes > _IN_MEMORY:
            self._held = None
        if self._held is not None:
            self._held.append(self._checked(start, texts))

    def arrays(self) -> dict[str, Array | Stream]:
        """The arrays of `row_texts`, none without texts. Writing the bytes completes the checksums."""
        if self._bytes == 0:
            return {}
        offsets = np.zeros(len(self._lengths) + 1, np.int64)
        np.cumsum(self._lengths, out=offsets[1:])
        blocks = self._read_again() if self._held is None else self._held
        arrays = (np.frombuffer(block, np.uint8) for block in blocks)
        return {
            f"{self._kind}.offsets": offsets,
            f"{self._kind}.bytes": Stream(np.dtype(np.uint8), (self._bytes,), arrays),
            f"{self._kind}.crcs": self._crcs,
        }

    def _of(self, row: rows.Row | None) -> bytes:
        if row is None:
            return IN_CATALOGUE
        return kept(row.metadata if self._kind == "metadata" else row.document)

    def _checked(self, start: int, texts: list[bytes]) -> bytes:
        """The texts of the rows from row `start` on as one, their checksums noted."""
        self._crcs[start : start + len(texts)] = [
            checksum(text, row) for row, text in enumerate(texts, start)
        ]
        return b"".join(texts)

    def _read_again(self) -> Iterator[bytes]:
        start = 0
        for block in _blocks(self._session, self._keys):
            self._job.step(self._kind, start, len(self._keys))
            lengths = self._lengths[start : start + len(block)].tolist()
            pairs = zip(block, lengths, strict=True)
            # A row that is gone since then still takes its place.
            texts = [IN_CATALOGUE * length if row is None else self._of(row) for row, length in pairs]
            yield self._checked(start, texts)
            start += len(block)
