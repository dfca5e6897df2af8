"""Damaged files never crash or hang the process: a typed error, the right answer, or verify() finds it."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests import inside
from tests.children import Child, children
from tests.corrupt import damage
from tests.corrupt.damage import Damage
from tests.oracle import nested_vectors, stored_row
from tests.scale import figure, shares
from tests.shared import Shared


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Path:
    target = tmp_path_factory.mktemp("template") / "store.mrl"
    return shared.store("damage.mrl", target, damage.build_template)


def run(template: Path, work: Path, damages: list[Damage], *, must_be_found: bool) -> Counter[str]:
    """Every damage in a child under a memory limit; what became of them, counted."""
    assert damages
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    child = Child(damage.survive, str(template), str(work), damages)
    with children(child):
        trying: Any = None
        while True:
            try:
                kind, what = child.receive()
            except AssertionError as error:
                raise AssertionError(f"{trying}: {error}") from None
            if kind == "trying":
                trying = what
                continue
            if kind == "end":
                break
            found = what["verify"].startswith("found")
            seen[f"{what['answers'].split(':')[0]}, verify {what['verify'].split(':')[0]}"] += 1
            if what["answers"].startswith("untyped") or what["verify"].startswith("untyped"):
                wrong.append(f"{trying}: {what}")
            elif what["answers"].startswith("wrong") and not found:
                wrong.append(f"{trying}: a wrong answer that verify does not find: {what}")
            elif must_be_found and not found:
                wrong.append(f"{trying}: verify does not find it: {what}")
        child.finish()
    assert not wrong, f"{len(wrong)} of {len(damages)}:\n" + "\n".join(wrong[:20])
    assert sum(seen.values()) == len(damages)
    return seen


def test_the_whole_template_is_judged_right(template: Path, tmp_path: Path) -> None:
    """The harness itself: undamaged, everything is right and verify finds nothing."""
    with mrlstore.open(template, mode="r") as store:
        truth = damage.full_truth(store)
    damage.copy_store(template, tmp_path / "copy", [])
    assert damage.outcome(tmp_path / "copy", truth) == {"answers": "right", "verify": "ok"}
    assert {Path(name).parent.parent.name for name in damage.files_of(template)} == {"parts"}


@pytest.mark.parametrize("share", shares(5, 2))
def test_flipped_bits_in_parts(template: Path, tmp_path: Path, share: int) -> None:
    names = damage.files_of(template)
    run(template, tmp_path, damage.flips(template, names, figure(200, 40), share), must_be_found=True)


@pytest.mark.parametrize("share", shares(5))
def test_flipped_bits_in_the_catalogue(template: Path, tmp_path: Path, share: int) -> None:
    damages = damage.flips(template, ["catalogue.db"], figure(200, 50), 9 + share)
    run(template, tmp_path, damages, must_be_found=False)


@pytest.mark.parametrize("share", shares(4))
def test_cut_grown_zeroed_and_missing_files(template: Path, tmp_path: Path, share: int) -> None:
    names = damage.files_of(template)
    damages = damage.rough(template, names, 1)
    run(template, tmp_path, damages[share::4], must_be_found=True)


def test_missing_part_folders(template: Path, tmp_path: Path) -> None:
    folders = sorted({str(Path(name).parent) for name in damage.files_of(template)})
    run(template, tmp_path, [Damage("missing", folder) for folder in folders], must_be_found=True)


@pytest.mark.parametrize("share", shares(6))
def test_swapped_files(template: Path, tmp_path: Path, share: int) -> None:
    damages = damage.swaps(template, damage.files_of(template))
    run(template, tmp_path, damages[share::6], must_be_found=True)


def test_nonsense_in_place_of_part_json(template: Path, tmp_path: Path) -> None:
    descriptions = [name for name in damage.files_of(template) if name.endswith("part.json")]
    chosen = descriptions[: figure(len(descriptions), 1)]
    damages = [Damage("json", name, value=i) for name in chosen for i in range(len(damage.PART_JSONS))]
    run(template, tmp_path, damages, must_be_found=True)


def test_a_damaged_catalogue_file(template: Path, tmp_path: Path) -> None:
    size = (template / "catalogue.db").stat().st_size
    damages = [
        Damage("truncate", "catalogue.db", cut)
        for cut in (0, 1, 15, 16, 99, 100, 4095, 4096, size // 2, size - 1)
    ]
    damages += [Damage("zero", "catalogue.db", page * 4096) for page in range(0, size // 4096, figure(1, 12))]
    damages += [Damage("byte", "catalogue.db", i, 0xFF) for i in range(0, 100, figure(1, 9))]
    run(template, tmp_path, damages, must_be_found=False)


def test_a_missing_catalogue_is_corrupt_in_every_mode_and_never_made_anew(
    template: Path, tmp_path: Path
) -> None:
    for number, how in enumerate(["missing", "empty", "text"]):
        copy = tmp_path / f"copy{number}"
        damage.copy_store(template, copy, [])
        if how == "missing":
            (copy / "catalogue.db").unlink()
        else:
            (copy / "catalogue.db").write_bytes(b"" if how == "empty" else b"once upon a time " * 1000)
        before = {p: p.stat().st_size for p in copy.rglob("*") if "db-" not in p.name}
        for mode in ("a", "r", "x"):
            with pytest.raises((mrlstore.CorruptStore, mrlstore.StoreExists), match=copy.name):
                mrlstore.open(copy, mode=mode)
        after = {p: p.stat().st_size for p in copy.rglob("*") if "db-" not in p.name}
        assert after == before, "an open of a damaged store changed it"


def test_parts_of_another_store_are_refused_or_found(template: Path, tmp_path: Path) -> None:
    """Same layout, other rows: checksums of the parts agree with themselves, not with the catalogue."""
    other = tmp_path / "other.mrl"
    damage.build_template(other)
    copy = tmp_path / "copy.mrl"
    damage.copy_store(template, copy, damage.files_of(template))
    mine = sorted((copy / "parts").iterdir())
    theirs = sorted((other / "parts").iterdir())
    assert len(mine) == len(theirs)
    by_size = {tuple(sorted((f.name, f.stat().st_size) for f in p.iterdir())): p for p in theirs}
    for part in mine:
        twin = by_size.get(tuple(sorted((f.name, f.stat().st_size) for f in part.iterdir())), theirs[0])
        for file in part.iterdir():
            file.unlink()
        for file in twin.iterdir():
            (part / file.name).write_bytes(file.read_bytes())
    try:
        with mrlstore.open(copy, auto_maintain=False) as store:
            assert not store.verify().ok
    except mrlstore.CorruptStore:
        pass


@pytest.mark.parametrize("share", shares(6))
def test_what_verify_has_marked_gives_no_wrong_answers(template: Path, tmp_path: Path, share: int) -> None:
    """Once damage is known every answer is right, or a typed error; what is damaged is not written anew."""
    with mrlstore.open(template, mode="r") as store:
        truth = damage.answers(store)
        vectors = {
            (record.namespace, record.id): None if record.vector is None else record.vector.tobytes()
            for record in store.scan(namespace=None, include=("vector",))
        }
    names = damage.files_of(template)
    damages = damage.rough(template, names, share) + damage.flips(template, names, 60, share)
    refused: list[Damage] = []
    everything = sorted(vectors)
    batches = [
        (space, [name for _, name in group])
        for start in range(0, len(everything), 60)
        for space, group in groupby(everything[start : start + 60], key=itemgetter(0))
    ]
    for number, one in enumerate(damages[share :: figure(6, 40)]):
        copy = tmp_path / f"copy{number}"
        damage.copy_store(template, copy, one.touched())
        one.inflict(copy)
        with warnings.catch_warnings(), mrlstore.open(copy, auto_maintain=False) as store:
            warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
            assert not store.verify().ok, one
            for name, ask in damage.questions(store).items():
                try:
                    assert ask() == truth[name], (one, name)
                except mrlstore.CorruptStore:
                    refused.append(one)
            with suppress(mrlstore.CorruptStore):
                store.update(metadatas={"new": 1}, where={"n": {"$gt": 5}})
            with suppress(mrlstore.CorruptStore):
                store.optimize()
            for space, some in batches:
                with suppress(mrlstore.CorruptStore):
                    for found in store.get(some, namespace=space, include=("vector",)):
                        vector = None if found.vector is None else found.vector.tobytes()
                        assert vector == vectors[space, found.id], (one, found.id)
        shutil.rmtree(copy)
    assert 0 < len(refused) < len(damages) * len(truth)


def test_a_damaged_index_is_scanned_around_once_verify_has_marked_it(template: Path, tmp_path: Path) -> None:
    with mrlstore.open(template, mode="r") as store:
        truth = damage.full_truth(store)
    index = [name for name in damage.files_of(template) if Path(name).name.startswith("neighbours")]
    assert index
    copy = tmp_path / "copy.mrl"
    damage.copy_store(template, copy, index)
    for name in index:
        size = (copy / name).stat().st_size
        Damage("flip", name, size // 2, 3).inflict(copy)
    with mrlstore.open(copy, auto_maintain=False) as store:
        assert not store.verify().ok
    with mrlstore.open(copy, auto_maintain=False) as store, pytest.warns(mrlstore.DamagedPartWarning):
        found = [(hit.id, hit.score) for hit in store.query(damage.QUERIES[0], k=10)]
        assert store.stats().damaged_parts >= 1
    assert set(found) <= set(truth["all0"])
    assert len(found) == 10


def test_verify_says_where_and_what_to_do(template: Path, tmp_path: Path) -> None:
    vectors = next(name for name in damage.files_of(template) if name.endswith("vectors.npy"))
    copy = tmp_path / "copy.mrl"
    damage.copy_store(template, copy, [vectors])
    Damage("flip", vectors, (copy / vectors).stat().st_size - 5, 2).inflict(copy)
    with mrlstore.open(copy, auto_maintain=False) as store:
        report = store.verify()
    assert not report.ok
    assert any("vectors" in problem.path + problem.what for problem in report.problems)
    assert all(problem.path and problem.what and problem.remedy for problem in report.problems)


def flip_in_catalogue(path: Path, text: bytes) -> None:
    """One bit of a text that stands once in the database file."""
    database = path / "catalogue.db"
    data = bytearray(database.read_bytes())
    assert data.count(text) == 1, f"{text!r} stands {data.count(text)} times in the file"
    data[data.index(text) + len(text) // 2] ^= 1
    database.write_bytes(data)


def test_a_flipped_bit_in_a_text_of_the_catalogue(path: Path) -> None:
    """SQLite's integrity_check says ok to this; the row's own checksum does not."""
    with mrlstore.open(path, dim=4, auto_maintain=False) as store:
        store.upsert(["a", "b"], None, [{"x": "a quagga in the text"}, {}])
    flip_in_catalogue(path, b"quagga")
    with mrlstore.open(path, auto_maintain=False) as store:
        assert not store.verify().ok
        with pytest.raises(mrlstore.CorruptStore):
            store.get(["a"])
        assert len(store.get(["b"])) == 1


def test_a_flipped_bit_in_a_vector_of_the_tail(path: Path) -> None:
    vector = nested_vectors(1, 16, seed=11)
    with mrlstore.open(path, dim=16, auto_maintain=False) as store:
        store.upsert(["a"], vector)
    flip_in_catalogue(path, stored_row(vector[0]).tobytes())
    with mrlstore.open(path, auto_maintain=False) as store:
        assert not store.verify().ok
        with pytest.raises(mrlstore.CorruptStore):
            store.query(vector[0])


def test_a_flipped_bit_that_gives_two_vectors_one_key(path: Path) -> None:
    rows = nested_vectors(50, 16, seed=11)
    with mrlstore.open(path, dim=16, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(50)], rows, [{"n": i} for i in range(50)])
        store.optimize()
        key = int(inside.first_segment(store).keys[0])
    (keys,) = (path / "parts").rglob("keys.npy")
    data = bytearray(keys.read_bytes())
    data[-50 * 8] ^= key ^ (key + 1)
    keys.write_bytes(data)
    with mrlstore.open(path, auto_maintain=False) as store:
        found = store.query(rows[0], k=50, exact=True)  # needs no key
        assert {hit.id: hit.metadata for hit in found} == {f"r{i}": {"n": i} for i in range(50)}
        with pytest.raises(mrlstore.CorruptStore, match="one key"):
            store.query(rows[25], k=49, offset=1, exact=True)
        assert not store.verify().ok


def test_a_flipped_number_in_part_json(template: Path, tmp_path: Path) -> None:
    """A description that is still sound in itself, but not the one that the catalogue names."""
    name = next(name for name in damage.files_of(template) if name.endswith("part.json"))
    copy = tmp_path / "copy.mrl"
    damage.copy_store(template, copy, [name])
    text = (copy / name).read_text()
    (copy / name).write_text(text.replace('{"kind"', '{"more": 1, "kind"', 1))
    assert (copy / name).read_text() != text
    with mrlstore.open(copy, auto_maintain=False) as store:
        assert not store.verify().ok
