"""Fuzz targets for files: descriptions of parts, and files to import.

Each target allows only typed errors. The checksum that the catalogue keeps of a description is made to match,
as it would be in a maliciously crafted store.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import warnings
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.catalogue import segments
from mrlstore.errors import CorruptStore, FormatTooNew, InvalidInput
from mrlstore.exchange.importing import import_rows
from mrlstore.exchange.input_row import FieldNames, Refusal
from mrlstore.exchange.jsonl import read_jsonl
from mrlstore.exchange.npy import open_vectors
from mrlstore.index.hnsw_file import open_hnsw_file
from mrlstore.search.queries import prepare
from mrlstore.storage.segment import Segment, open_segment
from mrlstore.system.files import Files
from mrlstore.where import parse
from tests import inside

KINDS = ("base", "index", "columns")
DIM, ROWS = 8, 2_100
WHERE = parse({"n": {"$lt": 5}})


@dataclass(frozen=True)
class Sound:
    """An undamaged store of one segment."""

    parts: Path
    uuid: str
    row: segments.SegmentRow


@lru_cache(maxsize=1)
def sound() -> Sound:
    """Make the store once in a process; its folder is removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="mrlstore-fuzz-"))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rows = np.random.default_rng(1).standard_normal((ROWS, DIM)).astype(np.float32)
    with mrlstore.open(folder / "s.mrl", dim=DIM, prefix_dim=4, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(ROWS)], rows, [{"n": i} for i in range(ROWS)])
        store.optimize()
        (held,) = inside.session(store).snapshots.latest().segments
        return Sound(folder / "s.mrl" / "parts", store.settings.store_uuid, held.segment.row)


def description(kind: str) -> bytes:
    """The sound part.json of one kind."""
    ref = getattr(sound().row, kind)
    return (sound().parts / ref.name / "part.json").read_bytes()


def exercise(segment: Segment) -> None:
    """Call every reading method of a segment whose descriptions may be wrong."""

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        return [None] * len(keys)

    segment.find(np.array([1, 2, ROWS * 2], dtype=np.int64))
    segment.ids(range(min(segment.rows, 20)))
    runs = segment.runs()
    assert WHERE is not None
    for name, start, stop in runs:
        segment.mask(WHERE, start, stop, fetch, 1)
        run = segment.run(name)
        if run is not None and run.group.index is not None:
            query = prepare(np.ones(DIM, dtype=np.float32), min(4, DIM))
            assert query.vectors.shape == (1, DIM)


def part_json(data: bytes) -> None:
    """Arbitrary bytes as the description of a part: the first byte chooses its kind."""
    if not data:
        return
    kind, text = KINDS[data[0] % len(KINDS)], data[1:]
    whole = sound()
    ref = getattr(whole.row, kind)

    class Crafted(Files):
        def read(self, path: Path, limit: int) -> bytes:
            if path.parent.name == ref.name:
                return text
            return super().read(path, limit)

    crafted = replace(whole.row, **{kind: replace(ref, crc=zlib.crc32(text))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
        with contextlib.suppress(CorruptStore, FormatTooNew, FileNotFoundError):
            exercise(open_segment(Crafted(), whole.parts, whole.uuid, crafted, None))


def edited_part_json(kind: str, path: list[Any], value: Any) -> None:
    """The valid description with the value at `path` replaced, or removed if `value` is `...`."""
    head = json.loads(description(kind))
    parent = head
    for step in path[:-1]:
        parent = parent[step]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    part_json(bytes([KINDS.index(kind)]) + json.dumps(head).encode())


def imported_jsonl(data: bytes) -> None:
    """Arbitrary bytes as JSONL: rows, or refusals that say why."""
    for row in read_jsonl(io.BytesIO(data), "file", None, FieldNames()):
        if isinstance(row, Refusal):
            assert row.why
            row.why.encode(errors="strict")


@lru_cache(maxsize=1)
def _store() -> mrlstore.Store:
    return mrlstore.open(sound().parts.parent.parent / "import.mrl", dim=DIM, auto_maintain=False)


def imported_rows(data: bytes) -> None:
    """Arbitrary bytes as JSONL, taken into a store: what is counted as written is there."""
    store = _store()
    with contextlib.suppress(InvalidInput):
        done = import_rows(store, io.BytesIO(data))
        assert done.rows == done.written + done.skipped + done.refused
        for refused in done.refusals:
            refused.why.encode()
    if store.count(namespace=None) > 500:
        for space in store.namespaces():
            store.clear(space)


def opened_npy(data: bytes) -> None:
    """Arbitrary bytes as a .npy file: refused, or an array that can be read to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        path.write_bytes(data)
        try:
            vectors = open_vectors(path)
        except InvalidInput:
            return
        assert vectors.ndim == 2
        assert vectors.nbytes <= len(data)
        float(np.asarray(vectors, dtype=np.float64).sum())


def opened_hnsw_index(data: bytes) -> None:
    """Arbitrary bytes as an index file of hnswlib: refused, or rows that can be read to their end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.bin"
        path.write_bytes(data)
        try:
            found = open_hnsw_file(path)
        except InvalidInput:
            return
        assert found.records.nbytes <= len(data)
        with np.errstate(all="ignore"):
            found.records["vector"].sum()
        assert len(np.unique(found.records["label"])) == len(found.deleted)


def opened_parquet(data: bytes) -> None:
    """Arbitrary bytes as Parquet: refused, or rows and refusals."""
    from mrlstore.exchange import arrow
    from mrlstore.exchange.table_rows import read_batches

    try:
        found = arrow.open_batches(io.BytesIO(data), "file", "parquet")
        for row in read_batches(found.batches, found.schema, "file", FieldNames()):
            assert row.place
    except InvalidInput:
        return
