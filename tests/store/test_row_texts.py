"""Metadata and documents of hits come from arrays beside the columns, and are those of the catalogue."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue import rows
from mrlstore.maintenance import columns_part
from mrlstore.storage import row_texts
from tests import inside
from tests.nested import nested
from tests.shared import Shared

DIM, ROWS = 16, 2_100
BOTH: Any = ("metadata", "document")
METADATA: list[Any] = [
    None,
    {},
    {"a": 1, "b": [1, None, {"c": "d,e"}], "": {"": {}}},
    {"ключ ☃": "значение \U0001f600", "nul": "\0", "quote": '"\\,]}'},
    {"float": 0.1, "big": 2**70, "yes": True, "no": None},
    {"long": "x" * 4_085},  # 4,096 bytes as JSON
    {"long": "x" * 4_086},
    {"large": "é" * 30_000},
]
DOCUMENTS: list[Any] = [
    None, "", ",", "two\nlines, \0 and ☃", "null", "y" * 4_096, "y" * 4_097, "é" * 2_048, "é" * 30_000,
]  # fmt: skip
IDS = [f"r{i}" for i in range(ROWS)]
VECTORS = nested(ROWS, DIM)


def metadata_of(i: int) -> Any:
    return METADATA[i] if i < len(METADATA) else {"n": i, "name": f"row {i}", "tags": ["a", str(i % 7)]}


def document_of(i: int) -> Any:
    return DOCUMENTS[i % len(DOCUMENTS)] if i < 40 else f"document {i}" if i % 3 else None


def build(path: Path) -> None:
    metadata, documents = [*map(metadata_of, range(ROWS))], [*map(document_of, range(ROWS))]
    with mrlstore.open(path, dim=DIM, prefix_dim=8, auto_maintain=False) as store:
        store.upsert(IDS, VECTORS, metadata, documents)
        store.upsert(["only"], VECTORS[:1], namespace="tenant")
        store.optimize()


@pytest.fixture
def built(shared: Shared, path: Path) -> Path:
    return shared.store("texts.mrl", path, build)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The keys that the catalogue is asked for."""
    keys_asked: list[int] = []
    real = rows.by_key

    def by_key(connection: Any, keys: Any) -> Any:
        wanted = [int(key) for key in keys]
        keys_asked.extend(wanted)
        return real(connection, wanted)

    monkeypatch.setattr(rows, "by_key", by_key)
    return keys_asked


def check(hits: Any) -> None:
    """Each hit carries what was stored."""
    for hit in hits:
        i = int(hit.id[1:])
        assert hit.metadata == metadata_of(i), hit.id
        assert hit.document == document_of(i), hit.id


def test_all_that_metadata_and_documents_can_be(built: Path) -> None:
    with mrlstore.open(built, mode="r") as store:
        every = store.query(VECTORS[0], ROWS, include=BOTH, exact=True)
        assert sorted(every.ids) == sorted(IDS)
        check(every)
        for i in [*range(60), *range(60, ROWS, 97)]:  # one by one: by the kernel, where it can
            found = store.query(VECTORS[i], 1, include=BOTH, where={"n": i} if i >= len(METADATA) else None)
            check(found)
            assert store.query(VECTORS[i], 3, include=("document",))[0].metadata is None
        check(hit for result in store.query_batch(VECTORS[:50], 20, include=BOTH) for hit in result)
        check(store.query(VECTORS[3], 20, include=BOTH, offset=5))
        alone = store.query(VECTORS[0], namespace="tenant", include=BOTH)
        assert [(hit.metadata, hit.document) for hit in alone] == [(None, None)]


def test_the_catalogue_is_not_asked(built: Path, asked: list[int]) -> None:
    with mrlstore.open(built, mode="r") as store:
        for i in range(100, 140):
            check(store.query(VECTORS[i], 10, include=BOTH, where={"n": {"$gte": 40}}))
            check(store.query(VECTORS[i], 300, include=BOTH, where={"n": {"$gte": 40}}))
        check(
            hit
            for one in store.query_batch(VECTORS[100:120], where={"n": {"$gte": 40}})
            for hit in one.hits
            if hit.document is None and document_of(int(hit.id[1:])) is None
        )
        assert not asked
        key = store.query(VECTORS[7], 1, exact=True, include=()).ids
        assert key == ["r7"] and not asked
        assert store.query(VECTORS[7], 1, exact=True)[0].metadata == METADATA[7]
        assert len(asked) == 1, "metadata that is too long comes from the catalogue, and nothing else"


def test_segments_and_the_tail_beside_each_other(built: Path, asked: list[int]) -> None:
    with mrlstore.open(built, auto_maintain=False) as store:
        store.upsert(
            ["r2100", "r2101"], VECTORS[:2] + 1, [{"n": 2100, "name": "row 2100", "tags": ["a", "0"]}] * 2
        )
        for k in (1, 10, ROWS):
            for hit in store.query(VECTORS[50], k, include=BOTH, exact=True):
                number = int(hit.id[1:])
                if number < ROWS:
                    assert (hit.metadata, hit.document) == (metadata_of(number), document_of(number))
                else:
                    assert hit.metadata == {"n": 2100, "name": "row 2100", "tags": ["a", "0"]}
        asked.clear()
        store.query(VECTORS[50], ROWS + 2, exact=True)
        assert len(asked) == 2, "only metadata that is too long"


def test_the_tail_is_read_from_memory(path: Path, asked: list[int]) -> None:
    count = len(DOCUMENTS)
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store, mrlstore.open(path, mode="r") as reader:
        store.upsert(IDS[:count], VECTORS[:count], [*map(metadata_of, range(count))], DOCUMENTS)
        check(reader.query(VECTORS[0], count, include=BOTH))
        assert len(asked) == len(set(asked)) == 4, "the long ones, and the empty document"
        asked.clear()
        store.upsert(
            [f"r{i}" for i in range(100, 400)], VECTORS[100:400], [*map(metadata_of, range(100, 400))]
        )
        store.delete(IDS[100:300])  # more than half: the others move
        found = [hit for hit in reader.query(VECTORS[0], 400) if int(hit.id[1:]) >= 300]
        assert len(found) == 100 and all(hit.metadata == metadata_of(int(hit.id[1:])) for hit in found)
        assert len(asked) == 3, "also of a row whose document is long: its crc covers both"


def test_hits_outlive_the_store(built: Path) -> None:
    with mrlstore.open(built, mode="r") as store:
        results = [store.query(vector, include=BOTH) for vector in VECTORS[50:60]]
        copies = pickle.loads(pickle.dumps(results))
    for result, copy in zip(results, copies, strict=True):
        check(result)
        assert list(copy) == list(result)
        assert result.hits is result.hits


def test_changed_rows_have_their_new_texts_and_old_ones_leave_the_disk(built: Path) -> None:
    def on_disk(text: str) -> bool:
        return any(text.encode() in file.read_bytes() for file in (built / "parts").rglob("*.npy"))

    with mrlstore.open(built, auto_maintain=False) as store:
        store.update(["r50"], [{"name": "another"}])
        store.delete([f"r{i}" for i in range(100, 400)])
        changed = {"n": 50, "name": "another", "tags": ["a", "1"]}
        assert store.query(VECTORS[50], 1, exact=True)[0].metadata == changed
        assert on_disk("row 50") and on_disk("document 250")
        store.optimize()
        assert not on_disk('"row 50"') and not on_disk('"row 100"') and not on_disk("document 250")
        assert store.query(VECTORS[50], 1, exact=True)[0].metadata == changed
        assert store.verify().ok


@pytest.mark.parametrize("when", ["measured", "written"])
def test_rows_that_are_removed_while_the_part_is_written(
    built: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are dead for all readers of the new part, which is as it must be."""
    with (
        mrlstore.open(built, auto_maintain=False) as other,
        mrlstore.open(built, auto_maintain=False) as store,
    ):
        store.delete([f"r{i}" for i in range(100, 400)])
        real, calls = inside.blocks_of_rows, list[int]()

        def blocks(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == (1 if when == "measured" else 2):
                other.delete(["r500", "r501"])
            return real(*arguments)

        monkeypatch.setattr(inside.TEXT_BLOCKS, blocks)
        monkeypatch.setattr(inside.TEXTS_IN_MEMORY, 0 if when == "written" else 2**30)
        store.optimize()
        assert len(calls) == (3 if when == "written" else 1)
        assert store.verify().ok
        every = store.query(VECTORS[500], ROWS, include=BOTH, exact=True)
        assert len(every) == ROWS - 302 and "r500" not in every.ids
        check(every)


def test_kinds_of_text_that_no_row_has_take_no_space(path: Path, tmp_path: Path, asked: list[int]) -> None:
    for name, metadata, documents in (
        ("nothing", None, None), ("metadata", [{"a": 1}] * 50, None), ("documents", None, ["text"] * 50),
    ):  # fmt: skip
        where = tmp_path / f"{name}.mrl"
        with mrlstore.open(where, dim=DIM, auto_maintain=False) as store:
            store.upsert(IDS[:50], VECTORS[:50], metadata, documents)
            store.optimize()
            assert {file.name.split(".")[0] for file in where.rglob("*.bytes.npy")} - {
                "ids",
                "namespaces",
            } == (set() if name == "nothing" else {name})
            asked.clear()
            for hit in store.query(VECTORS[0], include=BOTH):
                assert hit.metadata == (metadata and metadata[0]) and hit.document == (
                    documents and documents[0]
                )
            assert not asked


ARRAYS = ("offsets", "bytes", "crcs")
DAMAGES = {
    "zeros": lambda raw: raw.__setitem__(slice(128, None), bytes(len(raw) - 128)),
    "ones": lambda raw: raw.__setitem__(slice(128, None), b"\xff" * (len(raw) - 128)),
    "a bit in each byte": lambda raw: raw.__setitem__(slice(128, None), bytes(b ^ 1 for b in raw[128:])),
    "moved": lambda raw: raw.__setitem__(slice(128, None), raw[136:] + raw[128:136]),
}


CHOSEN = [(f"{kind}.{what}", "a bit in each byte") for kind in row_texts.KINDS for what in ARRAYS]
CHOSEN += [("metadata.offsets", how) for how in ("zeros", "ones", "moved")]
CHOSEN += [("documents.bytes", "moved"), ("metadata.crcs", "zeros")]


@pytest.mark.parametrize(("name", "how"), CHOSEN)
def test_damaged_arrays_are_worked_around(built: Path, name: str, how: str) -> None:
    (file,) = built.rglob(f"{name}.npy")
    raw = bytearray(file.read_bytes())
    DAMAGES[how](raw)
    file.write_bytes(raw)
    with mrlstore.open(built, auto_maintain=False) as store:
        with pytest.warns(mrlstore.DamagedPartWarning, match="crc") as told:
            for i in (50, 51, 52):
                check(store.query(VECTORS[i], 10, include=BOTH, where={"n": {"$gte": 40}}))
            check(store.query(VECTORS[50], ROWS, include=BOTH, exact=True))
        assert len(told) == 1, "it is said once"
        report = store.verify()
        assert any(f"{name}.npy" in problem.what for problem in report.problems)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
            check(store.query(VECTORS[50], 100, include=BOTH))
            assert store.repair().ok
    with warnings.catch_warnings(), mrlstore.open(built, mode="r") as store:
        warnings.simplefilter("error")
        check(store.query(VECTORS[50], 100, include=BOTH, where={"n": {"$gte": 40}}))
        assert inside.first_segment(store).row_texts is not None


def test_verify_compares_with_the_catalogue(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that agree with themselves, and not with the rows: as a fault of a writer would make them."""
    real = row_texts.kept
    with mrlstore.open(built, auto_maintain=False) as store:
        with monkeypatch.context() as patch:
            patch.setattr(
                columns_part, "kept", lambda text: (real(text) or b"").replace(b"row 77", b"row 78")
            )
            store.delete([f"r{i}" for i in range(100, 400)])
            store.optimize()
        report = store.verify()
        assert ["other metadata" in problem.what for problem in report.problems] == [True]
        assert store.repair().ok


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"a":1},{"b":2}', b"{}]", b"7", b"\xfe", b"[" * 4_000])
def test_forged_metadata_is_refused(built: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checksum fits: only whoever forges a store writes such."""
    with mrlstore.open(built, auto_maintain=False) as store:
        store.delete([f"r{i}" for i in range(100, 400)])
        with monkeypatch.context() as patch:
            real = row_texts.kept
            patch.setattr(columns_part, "kept", lambda one: text if one and "row 77" in one else real(one))
            store.optimize()
        result = store.query(VECTORS[77], 5)
        assert result.ids[0] == "r77"
        with pytest.raises(mrlstore.CorruptStore):
            result.hits  # noqa: B018
        assert not store.verify().ok


def test_arrays_that_do_not_belong_together_are_not_used(built: Path) -> None:
    with mrlstore.open(built, mode="r") as store:
        part = inside.first_segment(store).column_part
    for name, array in {
        "metadata.offsets": part.arrays["metadata.offsets"][1:],
        "metadata.crcs": part.arrays["metadata.crcs"][1:],
        "documents.crcs": part.arrays["documents.crcs"].view(np.int32),
        "documents.bytes": None,
    }.items():
        arrays = {**part.arrays, name: array}
        if array is None:
            del arrays[name]
        changed = type(part)(part.ref, part.path, part.kind, part.rows, part.info, part.entries, arrays)
        with pytest.raises(mrlstore.CorruptStore, match=name):
            row_texts.open_texts(changed, lambda: None)
