"""Every disk that a power cut could leave opens, holds what was acknowledged, and nothing half."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash import states
from tests.crash.images import Disk, same_tree
from tests.crash.small import small_thresholds
from tests.scale import figure, shares

SHARES = shares(30, 4)


def test_the_model_of_the_disk_ends_where_the_real_one_does(tmp_path: Path) -> None:
    """The harness itself: with everything kept, the image is the real folder, byte for byte."""
    (tmp_path / "real").mkdir()
    with small_thresholds():
        recording = states.record(tmp_path / "real")
    disk = Disk(recording.root)
    for op in recording.log:
        disk.feed(op)
    disk.image(tmp_path / "image", random.Random(0), 1.0)
    assert same_tree(tmp_path / "image", tmp_path / "real")
    verbs = {op.verb for op in recording.log}
    assert verbs >= {"create", "write", "sync", "sync_dir", "make_dir", "rename", "unlink", "truncate"}


@pytest.mark.parametrize("share", SHARES)
def test_every_crash_state_is_consistent(tmp_path: Path, share: int) -> None:
    (tmp_path / "real").mkdir()
    with small_thresholds():
        recording = states.record(tmp_path / "real")
    judged = 0
    for what, store, allowed in states.images(recording, tmp_path, figure(6000, 480) // len(SHARES), share):
        try:
            states.judge(store, allowed)
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        judged += 1
    assert judged >= figure(5000, 320) // len(SHARES)
