"""Stores written by every format version so far open, answer exactly as then, and can be written to."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue.schema import FORMAT_VERSION
from tests import inside
from tests.golden import make

VERSIONS = sorted(path.name.split(".")[0] for path in make.FOLDER.glob("v*.json"))


def unpack(version: str, target: Path) -> Path:
    with tarfile.open(make.FOLDER / f"{version}.tar.xz") as tar:
        tar.extractall(target, filter="data")
    return target / "golden.mrl"


def assert_close(found: Any, expected: Any) -> None:
    """Equal, but for the last bits of scores: another processor may add in another order."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert_close(left, right)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    else:
        assert found == expected


def test_there_is_a_golden_store_of_this_format() -> None:
    assert f"v{FORMAT_VERSION}" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_golden_store_answers_as_it_did(tmp_path: Path, version: str, mode: Any) -> None:
    path = unpack(version, tmp_path)
    expected = json.loads((make.FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    with mrlstore.open(path, mode=mode, auto_maintain=False) as store:
        assert_close(json.loads(json.dumps(make.answers(store))), expected)
        report = store.verify()
        assert report.ok, report.problems


@pytest.mark.parametrize("version", VERSIONS)
def test_codes_of_an_older_layout_are_read_until_they_are_written_anew(tmp_path: Path, version: str) -> None:
    def places(store: mrlstore.Store) -> set[Any]:
        indexes = [part.segment.index for part in inside.session(store).snapshots.latest().segments]
        return {index.info.get("scale_at") for index in indexes if index is not None}

    with mrlstore.open(unpack(version, tmp_path), auto_maintain=False) as store:
        assert places(store) == {None if version in ("v1", "v2") else 0}
        before = store.query(make.vectors(1, 9)[0], 12, shortlist=60)
        assert before.plan.segments[0].path in ("walk", "filtered walk")
        store.optimize()
        assert places(store) == {0}
        assert store.query(make.vectors(1, 9)[0], 12, shortlist=60).ids == before.ids


@pytest.mark.parametrize("version", VERSIONS)
def test_hits_carry_what_the_rows_have_before_and_after_a_merge(tmp_path: Path, version: str) -> None:
    """Stores of before version 5 ask the catalogue; a merge gives them arrays of their own."""

    def check(store: mrlstore.Store) -> None:
        rows = {record.id: record for record in store.scan()}
        for hit in store.query(make.vectors(1, 9)[0], make.ROWS, include=("metadata", "document")):
            assert (hit.metadata, hit.document) == (rows[hit.id].metadata, rows[hit.id].document)

    with mrlstore.open(unpack(version, tmp_path), auto_maintain=False) as store:
        assert (inside.first_segment(store).row_texts is None) == (int(version[1:]) < 5)
        check(store)
        store.delete([f"r{i}" for i in range(300, 600)])
        store.optimize()
        assert inside.first_segment(store).row_texts is not None
        check(store)
        assert store.verify().ok


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_store_can_be_written_to_and_optimized(tmp_path: Path, version: str) -> None:
    path = unpack(version, tmp_path)
    expected = json.loads((make.FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["new"], -make.vectors(1, 9), namespace="elsewhere")
        store.optimize()
        found = make.answers(store)
        for key in ("exact", "filtered", "tenant", "records", "count"):
            assert_close(json.loads(json.dumps(found[key])), expected[key])
        assert store.verify().ok


def test_the_script_still_makes_the_same_answers(tmp_path: Path) -> None:
    with mrlstore.open(
        tmp_path / "s.mrl", dim=make.DIM, prefix_dim=make.PREFIX, auto_maintain=False
    ) as store:
        make.fill(store)
        found = json.loads(json.dumps(make.answers(store)))
    assert_close(found, json.loads((make.FOLDER / f"v{FORMAT_VERSION}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_future_catalogue_is_refused_and_left_alone(tmp_path: Path, mode: Any) -> None:
    path = unpack(f"v{FORMAT_VERSION}", tmp_path)
    connection = apsw.Connection(str(path / "catalogue.db"))
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    connection.close()
    before = (path / "catalogue.db").read_bytes()
    with pytest.raises(mrlstore.FormatTooNew, match=str(FORMAT_VERSION + 1)):
        mrlstore.open(path, mode=mode)
    assert (path / "catalogue.db").read_bytes() == before


def test_a_future_part_is_refused(tmp_path: Path) -> None:
    import zlib

    path = unpack(f"v{FORMAT_VERSION}", tmp_path)
    with mrlstore.open(path, auto_maintain=False) as store:
        from mrlstore.catalogue import segments
        from mrlstore.catalogue.part_ref import PartRef

        with inside.session(store).catalogue.write() as write:
            (row, *_) = segments.load(write.connection)
            name = path / "parts" / row.base.name / "part.json"
            head = json.loads(name.read_text())
            head["format"] += 1
            name.write_text(json.dumps(head))
            base = PartRef(row.base.name, zlib.crc32(name.read_bytes()))
            from dataclasses import replace

            segments.replace(write.connection, write.generation, replace(row, base=base))
    with mrlstore.open(path, mode="r") as store, pytest.raises(mrlstore.FormatTooNew):
        store.query(np.ones(make.DIM))
