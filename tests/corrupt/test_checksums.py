"""Each checksum alone finds what it is there for: a value changed behind its back, all else being sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue.marks import ClientOperation, Mark
from mrlstore.columns import InvalidColumns, build_columns, open_columns
from mrlstore.storage import base_part
from mrlstore.storage.vector_rows import row_checksums
from mrlstore.writing import resolved_writes
from tests import inside
from tests.oracle import nested_vectors
from tests.shared import Shared

CHANGES = {
    "settings": "UPDATE settings SET value = value + 1 WHERE name = 'next_key'",
    "namespaces": "UPDATE namespaces SET rows = rows + 1, bare = bare + 1 WHERE name = 'tenant'",
    "rows": "UPDATE rows SET metadata = '{\"n\": 77}' WHERE id = 'r3'",
    "tail": "UPDATE tail SET norm = norm * 2",
    "removed": "UPDATE removed SET gen = gen - 1",
    "segments": "UPDATE segments SET built_gen = built_gen + 1",
    "operations": "UPDATE operations SET result = '8'",
    "calibration": "UPDATE calibration SET value = replace(value, '9', '8')",
}


def change(path: Path, statement: str) -> None:
    """Run a statement on the catalogue, behind the library's back; it must change something."""
    connection = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute(statement)
        assert connection.changes() > 0
    finally:
        connection.close()


def build_varied(path: Path) -> None:
    with mrlstore.open(path, dim=16, prefix_dim=8, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(2100)], nested_vectors(2100, 16), [{"n": 1}] * 2100)
        store.optimize()
        store.delete(["r1"])
        store.upsert(["a", "b"], nested_vectors(2, 16, seed=2), namespace="tenant")
        resolved_writes.apply(inside.session(store), [], Mark(1, 1), [ClientOperation("client", 1, "7")])


@pytest.fixture
def varied(path: Path, shared: Shared) -> Path:
    """A store with something in every table of the catalogue."""
    return shared.store("varied.mrl", path, build_varied)


@pytest.mark.parametrize("table", CHANGES)
def test_a_changed_value_in_the_catalogue_is_found(varied: Path, table: str) -> None:
    change(varied, CHANGES[table])
    with mrlstore.open(varied, auto_maintain=False) as store:
        problems = store.verify().problems
    assert any("crc" in problem.what for problem in problems), problems


@pytest.mark.parametrize("value", ["7", "1.5", "x'00ff'", "NULL"])
@pytest.mark.parametrize("table", ["rows.metadata", "rows.namespace", "tail.vector", "settings.value"])
def test_a_value_of_another_type_is_found(varied: Path, table: str, value: str) -> None:
    """STRICT tables refuse such a write; a flipped bit in a record's header makes one."""
    name, column = table.split(".")
    connection = apsw.Connection(str(varied / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(replace(sql, ') STRICT', ')'), 'NOT NULL', '')"
        " WHERE type = 'table'"
    )
    connection.close()
    chosen = {
        "settings": "name = 'next_key'",
        "rows": "id = 'r3'",
        "tail": "key = (SELECT max(key) FROM tail)",
    }[name]
    change(varied, f"UPDATE {name} SET {column} = {value} WHERE {chosen}")
    try:
        with mrlstore.open(varied, auto_maintain=False) as store:
            assert not store.verify().ok
            with pytest.raises(mrlstore.CorruptStore):
                list(store.scan(namespace=None, include=("metadata", "vector")))
                store.upsert(["new"], nested_vectors(1, 16))
    except mrlstore.CorruptStore:
        pass


def test_rows_of_a_part_have_a_checksum_of_their_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose checksums hold, though a row is not what was handed in: a mistake of a merge, say."""

    def other(*arguments: Any) -> Any:
        crcs = row_checksums(*arguments).copy()
        crcs[7] ^= 1
        return crcs

    with mrlstore.open(path, dim=16, auto_maintain=False) as store:
        monkeypatch.setattr(base_part, "row_checksums", other)
        store.upsert([f"r{i}" for i in range(4100)], nested_vectors(4100, 16))
        monkeypatch.undo()
        report = store.verify()
    assert [problem.what for problem in report.problems] == ["1 rows do not match their crc in row_crcs.npy"]


def test_the_directory_of_columns_has_a_checksum() -> None:
    blob = np.frombuffer(build_columns(['{"a": 1}', '{"a": 2}'], 2), dtype=np.uint8).copy()
    open_columns(blob)
    blob[8] ^= 1  # in the checksum itself, for much of what it covers is checked once more
    with pytest.raises(InvalidColumns):
        open_columns(blob)


def test_an_error_that_is_kept_holds_no_transaction_open(path: Path) -> None:
    """Its traceback holds a cursor that was read half: its connection may not serve others."""
    vectors = nested_vectors(300, 16)
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(300)], vectors, [{"i": i} for i in range(300)])
        change(path, "UPDATE rows SET crc = crc + 1 WHERE id = 'r7'")
        kept = []
        for ask in (lambda: store.query(vectors[7]), lambda: store.get([f"r{i}" for i in range(20)])):
            with pytest.raises(mrlstore.CorruptStore) as caught:
                ask()
            kept.append(caught.value)
        store.upsert(["new"], vectors[:1], [{}])
        assert store.query(vectors[0], 2).ids == ["r0", "new"]
        assert store.count() == 301
        assert [record.id for record in store.get(["new"])] == ["new"]
    assert len(kept) == 2
