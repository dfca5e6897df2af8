"""A process dies while it opens a backup for the first time, whose catalogue begins a write-ahead log."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import mrlstore
from mrlstore.api.opening import open_store
from tests.crash.images import Disk
from tests.crash.states import CHANGES, DIM, POOL
from tests.scale import figure
from tests.seam import RecordingFiles, with_sqlite

IDS = [f"r{i}" for i in range(40)]


def test_a_backup_opens_after_every_crash_of_its_first_opening(tmp_path: Path) -> None:
    root, files, rng = tmp_path / "real", with_sqlite(RecordingFiles()), random.Random(11)
    root.mkdir()
    with open_store(root / "s.mrl", dim=DIM, auto_maintain=False, files=files) as store:
        store.upsert(IDS, POOL[:40])
        store.backup(root / "copy.mrl")
    begin = len(files.log)
    open_store(root / "copy.mrl", auto_maintain=False, files=files).close()
    assert any(op.path.endswith("-journal") for op in files.log[begin:])
    disk, judged, image = Disk(root), 0, tmp_path / "image"
    for position, op in enumerate(files.log):
        disk.feed(op)
        if position < begin or op.verb not in CHANGES:
            continue
        for keep in [1.0, 0.0, *(rng.random() for _ in range(figure(12, 4)))]:
            for mode in ("r", "a"):
                disk.image(image, random.Random(judged), keep)
                try:
                    with mrlstore.open(
                        tmp_path / "image" / "copy.mrl", mode=mode, auto_maintain=False
                    ) as copy:
                        assert sorted(record.id for record in copy.scan()) == sorted(IDS)
                        assert copy.verify().ok
                except BaseException as error:
                    raise AssertionError(
                        f"after operation {position} {op.verb} {op.path[-40:]}, keeping {keep:.2f}, {mode}"
                    ) from error
                shutil.rmtree(image)
                judged += 1
    assert judged > 100
