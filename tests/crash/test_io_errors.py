"""Operation 1, 2, 3 ... fails, once or for ever: a typed error, then poisoned or fully usable, never half."""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.api.opening import open_store
from tests import inside
from tests.crash import states
from tests.crash.small import small_thresholds
from tests.oracle import Oracle
from tests.scale import FULL, shares
from tests.seam import FailingFiles, RecordingFiles, sqlite_error, with_sqlite

POOL = states.POOL
KINDS = {
    "EIO": (errno.EIO, False),
    "ENOSPC": (errno.ENOSPC, False),
    "EMFILE": (errno.EMFILE, False),
    "short write": (0, True),
}
SHARES = shares(20)


def fill(target: Any) -> None:
    for step in states.STEPS[:6]:
        step(target)


WRITES: list[tuple[str, Callable[[Any], Any]]] = [
    ("upsert", states.upsert_rows(10, 30, 11)),
    ("large upsert", states.upsert_rows(500, 570, 12)),
    ("update", states.update_rows(15, 40, 13)),
    ("delete", states.delete_rows(0, 25)),
    ("upsert elsewhere", states.upsert_rows(0, 20, 14, "tenant")),
    ("clear", lambda target: target.clear("tenant")),
]


def reads(store: Any, where: Path) -> list[tuple[str, Callable[[], Any]]]:
    return [
        ("query", lambda: store.query(POOL[3], k=5)),
        ("exact where", lambda: store.query(POOL[3], k=5, exact=True, where={"turn": 2})),
        ("get", lambda: store.get(["r20", "r30"], include=("metadata", "document", "vector"))),
        ("scan", lambda: list(store.scan({"turn": 2}))),
        ("count", lambda: store.count({"turn": {"$gt": 1}})),
        ("stats", store.stats),
        ("optimize", store.optimize),
        ("backup", lambda: store.backup(where / "copy.mrl")),
        ("verify", store.verify),
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Oracle]:
    path, oracle = tmp_path_factory.mktemp("io") / "s.mrl", Oracle()
    with (
        small_thresholds(),
        mrlstore.open(path, dim=states.DIM, prefix_dim=states.PREFIX, auto_maintain=False) as store,
    ):
        fill(store)
    fill(oracle)
    return path, oracle


def attempt(where: Path, template: tuple[Path, Oracle], files: FailingFiles) -> None:
    """One run of the workload on a seam that fails; everything that must hold is asserted."""
    source, start = template
    path = where / "s.mrl"
    shutil.copytree(source, path)
    candidates, poisoned = [start.copy()], False
    seam = with_sqlite(files)
    store = None
    with small_thresholds():
        try:
            store = open_store(path, auto_maintain=False, files=seam)
        except mrlstore.MrlStoreError:
            assert files.failed
        if store is not None:
            for position, (name, call) in enumerate(WRITES):
                try:
                    call(store)
                except mrlstore.MrlStoreError as error:
                    assert files.failed, f"{name}: {error!r} though nothing had failed"
                    poisoned |= isinstance(error, mrlstore.StorePoisoned)
                    applied = [state.copy() for state in candidates]
                    for state in applied:
                        call(state)
                    candidates += applied
                else:
                    assert not poisoned, f"{name} was done by a poisoned store"
                    for state in candidates:
                        call(state)
                reading = reads(store, where)
                for _, ask in reading if position == len(WRITES) - 1 else reading[position : position + 1]:
                    with suppress(mrlstore.MrlStoreError):
                        ask()
            if not files.for_ever and files.failed:
                probe(store, candidates)
            with suppress(mrlstore.MrlStoreError):
                store.close()
        with mrlstore.open(path, auto_maintain=False) as again:
            found = {
                (record.namespace, record.id): (record.metadata, record.document)
                for record in again.scan(namespace=None)
            }
            fitting = [state for state in candidates if states.summary(state) == found]
            assert fitting, f"{len(found)} rows, allowed are {[len(state.rows) for state in candidates]}"
        states.judge(path, fitting)
    if (where / "copy.mrl").exists():
        with mrlstore.open(where / "copy.mrl", mode="r") as copy:
            assert copy.verify().ok


def probe(store: Any, candidates: list[Oracle]) -> None:
    """After a passing failure the handle is poisoned, or does everything as before."""
    try:
        store.upsert(["probe"], POOL[:1], [{"turn": 2}])
    except mrlstore.StorePoisoned:
        with pytest.raises(mrlstore.StorePoisoned):
            store.upsert(["probe"], POOL[:1])
        return
    for state in candidates:
        state.upsert(["probe"], POOL[:1], [{"turn": 2}])
    assert "probe" in store
    assert "probe" in store.query(POOL[0], k=1000, exact=True).ids
    store.optimize()
    assert store.verify().ok


def operations(where: Path, template: tuple[Path, Oracle], *, short: bool) -> int:
    """How many operations the whole workload has when none fails."""
    files = FailingFiles(10**9, errno.EIO, for_ever=False, short=short)
    attempt(where, template, files)
    assert not files.failed
    return files.count


def test_a_failure_while_opening_blinds_nobody(template: tuple[Path, Oracle], tmp_path: Path) -> None:
    """A connection that could not open the log once must not take the database for one that never changes."""
    survived = 0
    for nth in range(1, 100):
        path = tmp_path / f"{nth}.mrl"
        shutil.copytree(template[0], path)
        files = FailingFiles(nth, errno.EMFILE, for_ever=False)
        try:
            store = open_store(path, auto_maintain=False, files=with_sqlite(files))
        except mrlstore.MrlStoreError:
            continue
        with store:
            with suppress(mrlstore.MrlStoreError):
                len(store)
            if not files.failed:
                break  # from here on it is not the opening that fails
            survived += 1
            with mrlstore.open(path, auto_maintain=False) as other:
                for turn in range(2):
                    other.upsert([f"new {turn}"], POOL[:1], namespace="new")
                    assert store.count(namespace="new") == turn + 1, files.failed
                    found = store.query(POOL[0], k=9, namespace="new", exact=True).ids
                    assert len(found) == turn + 1, files.failed
    assert survived


def test_keys_that_could_not_be_reserved_are_not_given_out(tmp_path: Path) -> None:
    """Otherwise the next write takes keys that are another process's, or were somebody's before."""
    full = True

    def fail(_: Path) -> None:
        if full:
            raise sqlite_error(errno.ENOSPC, "write")

    path, files = tmp_path / "s.mrl", RecordingFiles()
    mrlstore.open(path, dim=states.DIM, auto_maintain=False).close()
    with open_store(path, auto_maintain=False, files=with_sqlite(files)) as store:
        files.before["sqlite write"] = fail
        with pytest.raises(mrlstore.StorageFull):
            store.upsert(["a"], POOL[:1])
        full = False
        with mrlstore.open(path, auto_maintain=False) as other:
            other.upsert(["b"], POOL[:1])
        store.upsert(["c"], POOL[:1])
        assert inside.session(store).snapshots.latest().tail.keys.min() > 0
        assert [record.id for record in store.scan()] == ["b", "c"]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_may_fail(
    tmp_path: Path, template: tuple[Path, Oracle], kind: str, for_ever: bool, share: int
) -> None:
    code, short = KINDS[kind]
    warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
    (tmp_path / "whole").mkdir()
    total = operations(tmp_path / "whole", template, short=short)
    step = len(SHARES) if FULL else max(1, total // 8)
    first = list(KINDS).index(kind) * 2 + for_ever  # the runs of a small share begin at different places
    start = 1 + (share if FULL else first * step // 8)
    failures = 0
    for nth in range(start, total + 1, step):
        where = tmp_path / str(nth)
        where.mkdir()
        files = FailingFiles(nth, code, for_ever=for_ever, short=short)
        try:
            attempt(where, template, files)
        except BaseException as error:
            raise AssertionError(
                f"operation {nth} of {total} ({files.failed[:1]}) fails with {kind}"
                f"{' for ever' if for_ever else ''}: {type(error).__name__}: {error}"
            ) from error
        failures += bool(files.failed)
        shutil.rmtree(where)
    assert failures > 0
