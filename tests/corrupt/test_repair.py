"""Repair never makes things worse: what is whole stays, what is lost is named, and verify() is content."""

from __future__ import annotations

import errno
import random
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.api.opening import open_store
from tests import inside
from tests.corrupt import damage
from tests.corrupt.damage import Damage
from tests.scale import figure, shares
from tests.seam import FailingFiles, with_sqlite
from tests.shared import Shared


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Path:
    target = tmp_path_factory.mktemp("template") / "store.mrl"
    return shared.store("damage.mrl", target, damage.build_template)


def rows_of(path: Path) -> dict[tuple[str, str], tuple[Any, Any, Any]]:
    """Every row: (namespace, id) -> (metadata, document, vector)."""
    with warnings.catch_warnings(), mrlstore.open(path, mode="r") as store:
        warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
        return {
            (r.namespace, r.id): (r.metadata, r.document, None if r.vector is None else r.vector.tobytes())
            for r in store.scan(namespace=None, include=("metadata", "document", "vector"))
        }


def judge(copy: Path, before: dict[Any, Any]) -> mrlstore.RepairReport:
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
    for number, group in enumerate(damages_of(template, share)[: figure(40, 12)]):
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


@pytest.mark.parametrize("name", ["keys", "inv_norms", "row_crcs", "part", "ids.bytes", "key_order"])
@pytest.mark.parametrize("kind", ["missing", "cut", "folder"])
def test_what_follows_from_other_files_is_not_lost(
    template: Path, tmp_path: Path, name: str, kind: str
) -> None:
    """Vectors are large and these files are small: one of them must not take all vectors with it."""
    before = rows_of(template)
    suffix = ".json" if name == "part" else ".npy"
    damages = [
        Damage("truncate", file, (template / file).stat().st_size // 2)
        if kind == "cut"
        else Damage(kind, file)
        for file in damage.files_of(template)
        if Path(file).name == name + suffix
    ]
    assert damages
    copy = tmp_path / "copy"
    damage.copy_store(template, copy, [one.file for one in damages])
    for one in damages:
        one.inflict(copy)
    assert judge(copy, before).lost == ()


def test_what_others_write_during_a_repair_stays(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the damage and the commit, rows whose vectors are lost are replaced and deleted."""
    largest = max(template.rglob("vectors.npy"), key=lambda file: file.stat().st_size)
    name, copy = str(largest.relative_to(template)), tmp_path / "copy"
    damage.copy_store(template, copy, [name])
    Damage("truncate", name, 128 + 200 * 2 * damage.DIM).inflict(copy)
    repair = inside.module("mrlstore.maintenance.repair")
    real = repair.transaction

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(repair, "transaction", real)
        with mrlstore.open(copy, auto_maintain=False) as other:
            other.upsert(["r1000"], damage.QUERIES[:1], [{"new": True}])
            other.delete(["r1001"])
        return real(*arguments)

    monkeypatch.setattr(repair, "transaction", overtaken)
    with warnings.catch_warnings(), mrlstore.open(copy, auto_maintain=False) as store:
        warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
        done = store.repair()
        assert done.ok, done.report.problems
        assert ("", "r1002") in done.lost
        assert not {("", "r1000"), ("", "r1001")} & set(done.lost)
        (record,) = store.get(["r1000", "r1001"], include=("metadata", "vector"))
        assert (record.id, record.metadata) == ("r1000", {"new": True})
        assert store.query(damage.QUERIES[0], k=1).ids == ["r1000"]


def test_a_repair_that_breaks_off_makes_nothing_worse(template: Path, tmp_path: Path) -> None:
    """Every later operation fails, as after a crash; the next repair does all, no damaged file is gone."""
    before = rows_of(template)
    largest = max(template.rglob("vectors.npy"), key=lambda file: file.stat().st_size)
    names = [str(largest.relative_to(template)), str(next(template.rglob("codes.npy")).relative_to(template))]
    cut = 128 + 2_000 * 2 * damage.DIM

    def attempt(nth: int) -> FailingFiles:
        copy = tmp_path / f"copy{nth}"
        damage.copy_store(template, copy, names)
        Damage("truncate", names[0], cut).inflict(copy)
        Damage("flip", names[1], 1_000, 3).inflict(copy)
        inodes = {(copy / name).stat().st_ino for name in names}
        files = FailingFiles(nth, errno.EIO, for_ever=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
            with suppress(mrlstore.MrlStoreError):
                store = open_store(copy, auto_maintain=False, files=with_sqlite(files))
                with suppress(mrlstore.MrlStoreError):
                    store.repair()
                store.close()
            with mrlstore.open(copy, auto_maintain=False) as store:
                store.repair()
                store.optimize()  # collects what is named no more
        lost = {key for key, row in rows_of(copy).items() if row[2] is None and before[key][2] is not None}
        assert len(lost) == 60  # of 2,060 rows, 40 of them a tenant's
        assert judge(copy, {**before, **{key: (*before[key][:2], None) for key in lost}}).lost == ()
        kept = {file.stat().st_ino for file in copy.rglob("*") if file.is_file()}
        assert inodes <= kept, "a damaged file was deleted"
        shutil.rmtree(copy)
        return files

    total = attempt(10**9).count
    for nth in range(1 + figure(0, total // 20), total, figure(7, total // 6)):
        assert attempt(nth).failed
