"""Entries of the log as bytes: rows exactly as they are stored, filters resolved to ids, and a checksum.

The bytes are: MAGIC; the length of the header, 4 bytes; the header, JSON in UTF-8; the blocks that the header
names, one after the other; 16 bytes of blake2b over all before. Numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.marks import ClientOperation, Mark
from mrlstore.errors import CorruptStore
from mrlstore.writing.batch import Batch, RowChange, StoredVector, metadata_text
from mrlstore.writing.resolved_writes import ChangeRows, RemoveRows, ResolvedWrite, StoreRows

MAGIC: Final = b"MRLLOG1\n"
_LENGTH: Final = struct.Struct("<I")
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True)
class LogEntry:
    """One object of the log: the writes of a group of callers, or the claim of an epoch, which has none."""

    place: int
    epoch: int
    writer: str  # 32 hex digits, of the process; so no two writers ever create equal bytes
    writes: tuple[ResolvedWrite, ...] = ()
    operations: tuple[ClientOperation, ...] = ()

    @property
    def mark(self) -> Mark:
        """The mark of a store that has applied it."""
        return Mark(self.epoch, self.place)


def encoded(entry: LogEntry) -> bytes:
    """The bytes of an entry."""
    heads: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    for write in entry.writes:
        head, some = _encoded_write(write)
        heads.append({**head, "blocks": [len(block) for block in some]})
        blocks += some
    header = {
        "place": entry.place,
        "epoch": entry.epoch,
        "writer": entry.writer,
        "operations": [list(operation) for operation in entry.operations],
        "writes": heads,
    }
    text = _json(header)
    body = b"".join((MAGIC, _LENGTH.pack(len(text)), text, *blocks))
    return body + _digest(body)


def decoded(data: bytes, name: str) -> LogEntry:
    """The entry of these bytes; CorruptStore, which tells `name`, where they are none or are damaged."""
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not body.startswith(MAGIC) or len(body) < len(MAGIC) + _LENGTH.size:
        raise CorruptStore(name, "not an entry of a log, or cut off")
    if digest != _digest(body):
        raise CorruptStore(name, "does not match its checksum")
    try:
        (length,) = _LENGTH.unpack_from(body, len(MAGIC))
        start = len(MAGIC) + _LENGTH.size + length
        header = json.loads(body[start - length : start])
        read = _Blocks(memoryview(body), start)
        writes = tuple(_decoded_write(head, read) for head in header["writes"])
        operations = tuple(ClientOperation(*operation) for operation in header["operations"])
        return LogEntry(header["place"], header["epoch"], header["writer"], writes, operations)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptStore(name, f"not an entry that this version reads ({error!r})") from error


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class _Blocks:
    """Takes the blocks of an entry one after the other."""

    def __init__(self, body: memoryview, start: int) -> None:
        self._body, self._start = body, start

    def take(self, lengths: Sequence[int]) -> Iterator[memoryview]:
        for length in lengths:
            block = self._body[self._start : self._start + length]
            if len(block) != length:
                raise ValueError("a block is cut off")
            self._start += length
            yield block


def _encoded_write(write: ResolvedWrite) -> tuple[dict[str, Any], list[bytes]]:
    match write:
        case StoreRows(batch):
            head = {"kind": "store", "namespace": batch.namespace, "dim": batch.vectors.shape[1]}
            texts = _json([batch.ids, batch.metadata, batch.documents])
            arrays = (batch.without_vector, batch.vectors.astype("<f2"), batch.norms.astype("<f4"))
            return head, [texts, *(array.tobytes() for array in arrays)]
        case RemoveRows(namespace, ids):
            return {"kind": "remove", "namespace": namespace}, [_json(ids)]
        case ChangeRows(namespace, changes):
            return {"kind": "change", "namespace": namespace}, _encoded_changes(changes)


def _encoded_changes(changes: Any) -> list[bytes]:
    vectors = [change.vector for change in changes.values() if change.vector is not None]
    given = np.array([change.vector is not None for change in changes.values()], np.bool_)
    metadata = [metadata_text(change.metadata, name) for name, change in changes.items()]
    documents = [change.document for change in changes.values()]
    lengths = np.array([vector.length for vector in vectors], "<f8")
    texts = _json([list(changes), metadata, documents])
    return [texts, given.tobytes(), b"".join(vector.row for vector in vectors), lengths.tobytes()]


def _decoded_write(head: dict[str, Any], blocks: _Blocks) -> ResolvedWrite:
    kinds: dict[str, Callable[..., ResolvedWrite]] = {
        "store": _stored,
        "remove": _removed,
        "change": _changed,
    }
    return kinds[head["kind"]](head, *blocks.take(head["blocks"]))


def _stored(
    head: dict[str, Any], texts: memoryview, without: memoryview, vectors: memoryview, norms: memoryview
) -> StoreRows:
    ids, metadata, documents = json.loads(bytes(texts))
    without_vector = np.frombuffer(without, np.bool_)
    if not len(ids) == len(metadata) == len(documents) == len(without_vector):
        raise ValueError("columns of unequal length")
    with_vector = len(ids) - int(without_vector.sum())
    rows: NDArray[np.float16] = np.frombuffer(vectors, "<f2").reshape(with_vector, head["dim"])
    lengths: NDArray[np.float32] = np.frombuffer(norms, "<f4").reshape(with_vector)
    return StoreRows(Batch(head["namespace"], ids, metadata, documents, without_vector, rows, lengths))


def _removed(head: dict[str, Any], ids: memoryview) -> RemoveRows:
    names = json.loads(bytes(ids))
    return RemoveRows(head["namespace"], None if names is None else tuple(names))


def _changed(
    head: dict[str, Any], texts: memoryview, given: memoryview, vectors: memoryview, lengths: memoryview
) -> ChangeRows:
    ids, metadata, documents = json.loads(bytes(texts))
    flags, norms = np.frombuffer(given, np.bool_).tolist(), np.frombuffer(lengths, "<f8").tolist()
    if not len(ids) == len(metadata) == len(documents) == len(flags) or sum(flags) != len(norms):
        raise ValueError("columns of unequal length")
    size = len(vectors) // max(1, len(norms))
    rows = iter(
        StoredVector(bytes(vectors[number * size : (number + 1) * size]), norm)
        for number, norm in enumerate(norms)
    )
    return ChangeRows(
        head["namespace"],
        {
            name: RowChange(None if keys is None else json.loads(keys), document, next(rows) if has else None)
            for name, keys, document, has in zip(ids, metadata, documents, flags, strict=True)
        },
    )
