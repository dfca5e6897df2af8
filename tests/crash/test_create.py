"""A power cut while a store is being made: the folder counts as empty, or is a store, never in between."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import mrlstore
from mrlstore.api.opening import open_store
from tests.crash.images import Disk
from tests.crash.states import CHANGES, DIM
from tests.scale import figure
from tests.seam import RecordingFiles, with_sqlite


def opens(store: Path) -> None:
    """A reader finds a store or none; a writer has one afterwards, and nothing else is left in the folder."""
    try:
        with mrlstore.open(store, mode="r") as reader:
            assert len(reader) == 0
    except mrlstore.StoreNotFound:
        pass
    with mrlstore.open(store, dim=DIM, auto_maintain=False) as writer:
        writer.upsert(["a"], [[1.0] * DIM])
        assert writer.verify().ok
    assert sorted(entry.name for entry in store.iterdir()) == ["LOCK", "catalogue.db", "parts"]


@pytest.mark.parametrize("there", [False, True])
def test_every_crash_while_a_store_is_made(tmp_path: Path, there: bool) -> None:
    root, files, rng = tmp_path / "real", with_sqlite(RecordingFiles()), random.Random(7)
    root.mkdir()
    if there:
        files.make_dir(root / "s.mrl")
        files.sync_dir(root)
    begin = len(files.log)
    open_store(root / "s.mrl", dim=DIM, auto_maintain=False, files=files).close()
    disk, judged = Disk(root), 0
    for position, op in enumerate(files.log):
        disk.feed(op)
        if op.verb not in CHANGES or position < begin:
            continue
        for _ in range(figure(12, 2)):
            keep = rng.choice([0.0, 1.0, 0.5, 0.5, rng.random()])
            disk.image(tmp_path / "image", rng, keep)
            try:
                opens(tmp_path / "image" / "s.mrl")
            except BaseException as error:
                raise AssertionError(
                    f"after operation {position} {op.verb} {op.path[-60:]}, keeping {keep:.2f}: {error!r}"
                ) from error
            shutil.rmtree(tmp_path / "image")
            judged += 1
    assert judged > figure(300, 50)


def test_a_store_that_lost_its_catalogue_is_no_unfinished_one(tmp_path: Path) -> None:
    store = tmp_path / "s.mrl"
    with mrlstore.open(store, dim=DIM, auto_maintain=False) as writer:
        writer.upsert(["a"], [[1.0] * DIM])
    (store / "catalogue.db").unlink()
    with pytest.raises(mrlstore.CorruptStore):
        mrlstore.open(store)
    (store / f".tmp-{'a' * 32}").mkdir()
    (store / "parts" / ("a" * 32)).mkdir()
    with pytest.raises(mrlstore.CorruptStore):
        mrlstore.open(store)


def test_a_process_that_cannot_make_a_store_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    for verb in ("make_dir", "create", "sync_dir", "rename"):
        for there in (False, True):
            store = tmp_path / f"{verb}{there}"
            if there:
                store.mkdir()
            files = RecordingFiles()

            def fail(path: Path, verb: str = verb, folder: Path = store) -> None:
                if path.is_relative_to(folder) and path != folder:
                    raise OSError(28, "No space left on device", str(path))

            files.before[verb] = fail
            with pytest.raises(mrlstore.StorageFull):
                open_store(store, dim=DIM, auto_maintain=False, files=files)
            assert store.exists() == there
            assert not there or list(store.iterdir()) == []
