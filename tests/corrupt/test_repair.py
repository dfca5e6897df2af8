"""Repair never makes things worse: what is whole stays, what is lost is named, and verify() is content."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.corrupt import damage
from tests.corrupt.damage import Damage
from tests.scale import figure, shares


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "store.mrl"
    damage.build_template(path)
    return path


def rows_of(path: Path) -> dict[tuple[str, str], tuple[Any, Any, Any]]:
    """Every row: (namespace, id) -> (metadata, document, vector)."""
    with warnings.catch_warnings(), mrlstore.open(path, mode="r") as store:
        warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
        return {
            (r.namespace, r.id): (r.metadata, r.document, None if r.vector is None else r.vector.tobytes())
            for r in store.scan(namespace=None, include=("metadata", "document", "vector"))
        }


def judge(copy: Path, before: dict[Any, Any]) -> mrlstore.Repaired:
    """Repair a damaged copy and hold every promise against it."""
    inodes = {file.stat().st_ino for file in (copy / "parts").rglob("*") if file.is_file()}
    with warnings.catch_warnings(), mrlstore.open(copy, auto_maintain=False) as store:
        warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
        done = store.repair()
        assert done.ok, done.report.problems
        assert store.verify().ok
        again = store.repair()
        assert (again.ok, again.segments, again.lost, again.set_aside) == (True, 0, (), ())
    with warnings.catch_warnings():
        warnings.simplefilter("error", mrlstore.DamagedPartWarning)
        after = rows_of(copy)
        lost = set(done.lost)
        assert set(after) == set(before)
        for name, (metadata, document, vector) in before.items():
            assert after[name] == (metadata, document, None if name in lost else vector), name
        kept = {file.stat().st_ino for file in copy.rglob("*") if file.is_file()}
        assert inodes <= kept, "a damaged file was deleted"
        with mrlstore.open(copy, auto_maintain=False) as store:
            found = store.query(damage.QUERIES[0], k=10_000, exact=True).ids
            whole = {name for (space, name), row in after.items() if space == "" and row[2] is not None}
            assert set(found) == whole
            store.upsert(["after"], damage.QUERIES[:1])
            store.optimize()
            assert store.verify().ok
            assert store.query(damage.QUERIES[0], k=1).ids == ["after"]
    return done


def damages_of(template: Path, seed: int) -> list[list[Damage]]:
    """One or a few at the same time, of all kinds, in files of parts."""
    names = damage.files_of(template)
    single = damage.rough(template, names, seed) + damage.flips(template, names, len(names) * 2, seed)
    random.Random(seed).shuffle(single)
    rng = random.Random(seed)
    grouped, taken = [], 0
    while taken < len(single):
        count = rng.choice([1, 1, 2, 3])
        group = {one.file: one for one in single[taken : taken + count]}  # one change a file
        grouped.append(list(group.values()))
        taken += count
    return grouped


@pytest.mark.parametrize("share", shares(8))
def test_repair_keeps_everything_that_is_whole(template: Path, tmp_path: Path, share: int) -> None:
    before, lost = rows_of(template), 0
    for number, group in enumerate(damages_of(template, share)[: figure(40, 24)]):
        copy = tmp_path / f"copy{number}"
        damage.copy_store(template, copy, [one.file for one in group])
        for one in group:
            one.inflict(copy)
        try:
            lost += len(judge(copy, before).lost)
        except BaseException as error:
            raise AssertionError(f"{group}: {type(error).__name__}: {error}") from error
    assert lost, "no vector was lost in any of them: they are too harmless"


def test_a_whole_part_folder_is_missing(template: Path, tmp_path: Path) -> None:
    before = rows_of(template)
    for number, folder in enumerate(sorted({Path(name).parent for name in damage.files_of(template)})):
        copy = tmp_path / f"copy{number}"
        damage.copy_store(template, copy, [])
        Damage("missing", str(folder)).inflict(copy)
        judge(copy, before)


@pytest.mark.parametrize("kind", ["folder", "missing"])
def test_an_empty_array_is_not_there(template: Path, tmp_path: Path, kind: str) -> None:
    """Nothing maps it when the part is opened, so only checking finds it."""
    before = rows_of(template)
    empty = [n for n in damage.files_of(template) if Path(n).stem in ("unprefixed", "rotation_scales")]
    assert empty
    for number, name in enumerate(empty):
        copy = tmp_path / f"copy{number}"
        damage.copy_store(template, copy, [name])
        Damage(kind, name).inflict(copy)
        judge(copy, before)
