"""The harness is tested: with one fsync left out, or one step out of order, it finds disks that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import states
from tests.crash.small import small_thresholds
from tests.crash.states import Recording
from tests.seam import Op

Faulty = Callable[[list[Op]], list[Op]]
NOTHING = Op("left out", "")


def without(unwanted: Callable[[Op], bool]) -> Faulty:
    """The log of a program that leaves these operations out; positions stay as they are."""
    return lambda log: [NOTHING if unwanted(op) else op for op in log]


def before_commits(moved: Callable[[Op], bool]) -> Faulty:
    """The log of a program that does these operations some commits too early, once their files are there."""

    def fault(log: list[Op]) -> list[Op]:
        changed: list[Op] = []
        for op in log:
            commits = [i for i, old in enumerate(changed) if old.verb == "sync" and old.path.endswith("-wal")]
            if moved(op) and len(commits) > 8:
                made = max(i for i, old in enumerate(changed) if old.path == op.path)
                changed.insert(max(commits[-8], made + 1), op)
            else:
                changed.append(op)
        return changed

    return fault


def after_commit(moved: Callable[[Op], bool]) -> Faulty:
    """The log of a program that does these operations only after the commit which follows them."""

    def fault(log: list[Op]) -> list[Op]:
        changed: list[Op] = []
        held: list[Op] = []
        for op in log:
            if moved(op):
                held.append(op)
                continue
            changed.append(op)
            if op.verb == "sync" and op.path.endswith("-wal"):
                changed += held
                held = []
        return changed + held

    return fault


def rename_first(log: list[Op]) -> list[Op]:
    """The log of a program that gives a new store's catalogue its name before it is written."""
    at = next(i for i, op in enumerate(log) if op.verb == "rename")
    draft, target = log[at].path, log[at].other
    first = next(i for i, op in enumerate(log) if op.path == draft)  # where the file is made
    moved = [replace(op, path=op.path.replace(draft, target)) for op in log[first + 1 : at]]
    return [*log[: first + 1], log[at], *moved, *log[at + 1 :]]


def in_parts(op: Op, verb: str) -> bool:
    return op.verb == verb and "/parts/" in op.path


FAULTS: dict[str, Faulty] = {
    "arrays of parts are not synced": without(lambda op: in_parts(op, "sync") and op.path.endswith(".npy")),
    "part.json is not synced": without(lambda op: in_parts(op, "sync") and op.path.endswith("part.json")),
    "a part's folder is not synced": without(lambda op: in_parts(op, "sync_dir")),
    "parts/ is not synced": without(lambda op: op.verb == "sync_dir" and op.path.endswith("s.mrl/parts")),
    "commits are not synced": without(lambda op: op.verb == "sync" and op.path.endswith("-wal")),
    "checkpoints are not synced": without(lambda op: op.verb == "sync" and op.path.endswith("catalogue.db")),
    "a new store's parent is not synced": without(
        lambda op: op.verb == "sync_dir" and op.path.endswith("/real")
    ),
    "a new store gets its name first": rename_first,
    "parts are synced after the commit": after_commit(
        lambda op: in_parts(op, "sync") or in_parts(op, "sync_dir")
    ),
    "old parts are removed before the commit": before_commits(lambda op: in_parts(op, "unlink")),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    root = tmp_path_factory.mktemp("recorded") / "real"
    root.mkdir()
    with small_thresholds():
        return states.record(root)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_found(recording: Recording, tmp_path: Path, fault: str) -> None:
    log = FAULTS[fault](recording.log)
    assert log != recording.log, "the fault changes nothing: it no longer fits the code"
    faulty = Recording(recording.root, log, recording.acknowledged)
    for what, store, allowed in states.images(faulty, tmp_path, 600, 1, near_commits=True):
        try:
            states.judge(store, allowed)
        except Exception as error:
            assert what, error
            return
    pytest.fail(f"600 disks were judged and none was found wrong, though {fault}")
