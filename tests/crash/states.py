"""A recorded workload, the disks that a crash in it could leave, and the judgement of each."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrlstore
from mrlstore.api.opening import open_store
from tests.crash.images import Disk
from tests.crash.small import small_thresholds
from tests.oracle import Oracle, assert_exact, nested_vectors
from tests.seam import Op, RecordingFiles, with_sqlite

DIM, PREFIX = 4, 2
POOL = nested_vectors(400, DIM, seed=1)
Step = Callable[[Any], object]


def upsert_rows(start: int, stop: int, turn: int, space: str = "") -> Step:
    ids = [f"r{i}" for i in range(start, stop)]
    rows = [None if i % 11 == 0 else POOL[(i + turn) % len(POOL)] for i in range(start, stop)]
    metadatas = [{"turn": turn, "i": i} for i in range(start, stop)]
    documents = [f"text {i}" if i % 3 == 0 else None for i in range(start, stop)]
    return lambda target: target.upsert(ids, rows, metadatas, documents, namespace=space)


def delete_rows(start: int, stop: int) -> Step:
    return lambda target: target.delete([f"r{i}" for i in range(start, stop)])


def update_rows(start: int, stop: int, turn: int) -> Step:
    ids = [f"r{i}" for i in range(start, stop)]
    return lambda target: target.update(ids, [{"updated": turn}] * len(ids))


def _optimize(target: Any) -> None:
    if not isinstance(target, Oracle):
        target.optimize()


STEPS: list[Step] = [
    upsert_rows(0, 20, 1),
    upsert_rows(0, 110, 2),  # a base part of its own
    delete_rows(5, 15),
    upsert_rows(100, 130, 3),
    _optimize,
    update_rows(20, 40, 4),
    update_rows(20, 100, 5),  # moves vectors into a new base part
    upsert_rows(200, 290, 6, "tenant"),
    lambda target: target.clear("tenant"),
    upsert_rows(0, 30, 7),
    _optimize,
    delete_rows(30, 110),
    _optimize,
    upsert_rows(300, 320, 8),
]


@dataclass
class Recording:
    """The log, and what had been acknowledged when: (position in the log, state after it)."""

    root: Path
    log: list[Op] = field(default_factory=list)
    acknowledged: list[tuple[int, Oracle]] = field(default_factory=list)

    def states(self, position: int) -> list[Oracle]:
        """What a crash before operation `position` may leave: the acknowledged, or what was under way."""
        before = [state for at, state in self.acknowledged if at <= position]
        after = [state for at, state in self.acknowledged if at > position]
        return [before[-1], *after[:1]]


def record(root: Path, files: RecordingFiles | None = None, steps: list[Step] = STEPS) -> Recording:
    """Run the workload on a recording seam: create, write, optimize, close, open again, write."""
    seam = with_sqlite(files or RecordingFiles())
    recording, oracle = Recording(root, seam.log), Oracle()
    recording.acknowledged.append((0, oracle.copy()))
    for chunk in (steps[:7], steps[7:]):
        with open_store(root / "s.mrl", dim=DIM, prefix_dim=PREFIX, auto_maintain=False, files=seam) as store:
            for step in chunk:
                step(store)
                step(oracle)
                recording.acknowledged.append((len(seam.log), oracle.copy()))
    return recording


CHANGES = (
    "create",
    "write",
    "truncate",
    "sync",
    "sync_dir",
    "make_dir",
    "rename",
    "link",
    "unlink",
    "remove_dir",
)


def images(
    recording: Recording, work: Path, count: int, seed: int, *, near_commits: bool = False
) -> Iterator[tuple[str, Path, list[Oracle]]]:
    """About `count` disks: (what it is, its store, the states it may be in).

    They are spread over all moments, or over those right after a commit or a rename, where a protocol
    that is wrong shows soonest.
    """
    rng = random.Random(seed)
    chosen = [i for i, op in enumerate(recording.log) if op.verb in CHANGES]
    if near_commits:
        at = [i for i, op in enumerate(recording.log) if op.verb in ("rename", "left out") or _commits(op)]
        near = {i + ahead for i in at for ahead in (-2, -1, 0, 1, 3)}
        chosen = sorted(near & set(range(len(recording.log))))
    moments, share = set(chosen), count / len(chosen)
    disk, number = Disk(recording.root), 0
    for position, op in enumerate(recording.log):
        disk.feed(op)
        if position not in moments:
            continue
        wanted = int(share) + (rng.random() < share % 1)
        for _ in range(wanted):
            keep = rng.choice([0.0, 1.0, 0.5, 0.5, rng.random()])
            target = work / f"image{number}"
            disk.image(target, rng, keep)
            what = f"image {number}, seed {seed}, after operation {position} {op.verb} {op.path[-60:]}"
            yield f"{what}, keeping {keep:.2f}", target / "s.mrl", recording.states(position + 1)
            shutil.rmtree(target)
            number += 1


def _commits(op: Op) -> bool:
    return op.verb == "sync" and op.path.endswith("-wal")


def judge(store_path: Path, states: list[Oracle]) -> None:
    """The image opens, is in one of the states, answers rightly, verifies, and can be written to."""
    with (
        small_thresholds(),
        mrlstore.open(store_path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store,
    ):
        found = {
            (record.namespace, record.id): (record.metadata, record.document)
            for record in store.scan(namespace=None)
        }
        fitting = [state for state in states if found == summary(state)]
        if not fitting:
            raise AssertionError(
                f"{len(found)} rows; allowed are states of {[len(s.rows) for s in states]} rows"
            )
        for space in ("", "tenant"):
            truth = fitting[0].scores(POOL[7], namespace=space)
            assert_exact(store.query(POOL[7], k=300, exact=True, namespace=space), truth, 300)
        assert len(store.query(POOL[9], k=10)) == min(10, len(fitting[0].scores(POOL[9])))
        report = store.verify()
        assert report.ok, report.problems
        store.upsert(["after"], POOL[:1])
        assert "after" in store


def summary(state: Oracle) -> dict[tuple[str, str], tuple[Any, Any]]:
    """What `judge` compares first."""
    return {key: (row.metadata, row.document) for key, row in state.rows.items()}
