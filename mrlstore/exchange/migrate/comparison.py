"""Comparing what was stored with what the origin had: all rows by number, some bit for bit, some queries."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.errors import InvalidInput
from mrlstore.exchange.exact import stored_rows
from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.checkpoint import CollectionState
from mrlstore.exchange.migrate.origin import COSINE, Collection, Origin, origin_errors
from mrlstore.storage.vector_rows import to_unit_rows
from mrlstore.types import Record

K: Final = 10
QUERIES: Final = 20
_NEAR: Final = 2e-3  # cosines closer than this may change places: float16 here, rounding in the origin


@dataclass(frozen=True)
class Checked:
    """One collection, and what the comparison found."""

    collection: str
    namespace: str
    read: int
    refused: int
    rows: int  # in the namespace now
    compared: int  # sampled rows
    asked: int  # queries given to both
    agreed: float | None  # share of the origin's answers that are among the store's exact ones
    problems: tuple[str, ...]


def take_sample(state: CollectionState, rows: Iterable[InputRow], size: int, seen: int) -> None:
    """Keep the digests of `size` rows, each as likely as the other; `seen` rows came before these."""
    for number, row in enumerate(rows, seen + 1):
        # Not random: an interrupted migration draws the same rows when it continues.
        drawn = zlib.crc32(number.to_bytes(8, "little")) % number
        if row.id in state.sample or len(state.sample) < size:
            state.sample[row.id] = _digest_of_row(row)
        elif drawn < size:
            state.sample.pop(list(state.sample)[drawn])
            state.sample[row.id] = _digest_of_row(row)


def check(
    store: Store, origin: Origin, collection: Collection, namespace: str, state: CollectionState
) -> Checked:
    """Compare a collection that has been read to its end with the store."""
    rows = store.count(namespace=namespace)
    stored = state.read - state.refused
    problems = []
    if collection.rows is not None and collection.rows != state.read:
        problems.append(f"{state.read:,} rows came, the origin counts {collection.rows:,}")
    if state.read and not stored:
        problems.append(f"none of {state.read:,} rows was stored: all were refused")
    if state.before == 0 and rows != stored:
        problems.append(f"{stored:,} rows were stored, the store counts {rows:,}: ids twice, or others wrote")
    elif rows < state.before:
        problems.append(f"the store counts {rows:,} rows, and had {state.before:,} before")
    ids = list(state.sample)
    found = {
        record.id: record
        for record in store.get(ids, namespace=namespace, include=("metadata", "document", "vector"))
    }
    wrong = [id for id in ids if id not in found or _digest(found[id]) != state.sample[id]]
    if wrong:
        problems.append(f"{len(wrong)} of {len(ids)} sampled rows differ from the origin's: {wrong[0]!r}")
    asked, agreed = 0, None
    if collection.metric == COSINE and state.before == 0:
        answers = _compare_answers(store, origin, collection, namespace, list(found.values()))
        asked, agreed = answers.asked, answers.agreed
        if answers.missed is not None:
            problems.append(
                f"the origin finds {answers.missed!r}, which the store's exact answer does not have"
            )
    return Checked(
        collection.name, namespace, state.read, state.refused, rows, len(ids), asked, agreed, tuple(problems)
    )


@dataclass(frozen=True)
class _Answers:
    asked: int
    agreed: float | None  # share of the origin's answers that are among ours
    missed: str | None  # an answer of the origin's that is nearer than our last one and not among ours


def _compare_answers(
    store: Store, origin: Origin, collection: Collection, namespace: str, records: list[Record]
) -> _Answers:
    asked, shared, given, missed = 0, 0, 0, None
    for record in records:
        if record.vector is None or asked >= QUERIES:
            continue
        with origin_errors(origin.name):
            theirs = origin.ask(collection, record.vector, K)
        if theirs is None:
            break
        ours = store.query(record.vector, K, namespace=namespace, include=(), exact=True)
        asked, given, shared = asked + 1, given + len(theirs), shared + len(set(theirs) & set(ours.ids))
        only = [id for id in theirs if id not in ours.ids]
        for other in store.get(only, namespace=namespace, include=("vector",)):
            if other.vector is not None and _cosine(record.vector, other.vector) > ours[-1].score + _NEAR:
                missed = other.id
    return _Answers(asked, shared / given if given else None, missed)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _digest_of_row(row: InputRow) -> str:
    if row.vector is None or row.norm is not None:  # with a norm it is the stored row already
        return _digest_of(row.vector, row.metadata, row.document)
    try:
        return _digest_of(to_unit_rows(np.asarray(row.vector)[None])[0], row.metadata, row.document)
    except InvalidInput:
        return ""  # the store will refuse the row


def _digest(record: Record) -> str:
    unit = None if record.vector is None else stored_rows(record.vector[None])[0]
    return _digest_of(unit, record.metadata, record.document)


def _digest_of(unit: NDArray[Any] | None, metadata: Any, document: str | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(b"" if unit is None else unit.tobytes())
    digest.update(json.dumps([metadata or {}, document], sort_keys=True, default=str).encode())
    return digest.hexdigest()
