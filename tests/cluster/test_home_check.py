"""`status` and `verify`: what object storage has of a cluster, and what is damaged of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import mrlstore
from mrlstore import cluster
from mrlstore.cluster import HomeReport
from mrlstore.shared_log import LogObjects
from mrlstore.shared_log.log_objects import Place

SHARD = "home/shards/0000"


def fill(folder: Path) -> None:
    """A home with two snapshots, and log behind both."""
    cluster.create(folder / "home", dim=8, m=4)
    with cluster.connect(folder / "home", folder=folder / "copies", auto_maintain=False) as store:
        for number in range(3):
            store.upsert([f"{number}-{row}" for row in range(300)], [[1.0] * 7 + [row] for row in range(300)])
            if number < 2:
                store.snapshot()


def verified(folder: Path) -> HomeReport:
    return cluster.verify(folder / "home")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def newest(folder: Path, kind: str) -> Path:
    return max((folder / SHARD / kind).iterdir(), key=lambda path: path.stat().st_mtime_ns)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a part that is changed": (lambda folder: flip(newest(folder, "parts")), "checksum"),
    "a part that is gone": (lambda folder: newest(folder, "parts").unlink(), "lacks parts/"),
    "pages that are changed": (lambda folder: flip(newest(folder, "catalogue")), "checksum"),
    "pages that are gone": (lambda folder: newest(folder, "catalogue").unlink(), "lacks catalogue/"),
    "a manifest that is changed": (lambda folder: flip(newest(folder, "snapshots")), "manifest"),
    "an entry that is changed": (lambda folder: flip(newest(folder, "log")), "checksum"),
    "an entry that is gone": (
        lambda folder: sorted((folder / SHARD / "log").iterdir())[-2].unlink(),
        "is missing",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a home that is sound, and of its copy."""
    folder = tmp_path_factory.mktemp("sound")
    fill(folder)
    report = verified(folder)
    assert report.ok and report.snapshots == 2 and report.log_entries >= 2 and report.bytes_checked > 0
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"), key=lambda path: path.stat().st_mtime_ns)
        if path.is_file()
    }


def written(files: dict[str, bytes], folder: Path) -> None:
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, sound: dict[str, bytes], tmp_path: Path) -> None:
    written(sound, tmp_path)
    assert verified(tmp_path).ok
    damage, words = DAMAGES[name]
    damage(tmp_path)
    report = verified(tmp_path)
    assert not report.ok and any(words in problem.what for problem in report.problems), report.problems

    # The remedy that a problem names: the damaged objects are removed, and a whole copy ships all anew.
    for problem in report.problems:
        path = Path(problem.path.removeprefix("file://"))
        if path.is_file() and "lacks" not in problem.what:
            path.unlink()
    with cluster.connect(tmp_path / "home", folder=tmp_path / "copies", auto_maintain=False) as store:
        assert store.count() == 900
        store.snapshot()
        store.upsert(["more"], None)
        store.snapshot()
    assert verified(tmp_path).ok
    with cluster.connect(tmp_path / "home", folder=tmp_path / "others", mode="r") as reader:
        assert reader.count() == 901


def test_what_is_collected_meanwhile_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    listed, is_first = LogObjects.places, True

    def after_two_more_snapshots(log: LogObjects, after: int) -> list[Place]:
        nonlocal is_first
        if is_first:
            is_first = False
            with cluster.connect(tmp_path / "home", folder=tmp_path / "copies", auto_maintain=False) as store:
                store.snapshot()
                store.upsert(["more"], None)
                store.snapshot()
        return listed(log, after)

    monkeypatch.setattr(LogObjects, "places", after_two_more_snapshots)
    assert verified(tmp_path).ok and not is_first


def test_a_gap_of_many_places_is_one_problem(sound: dict[str, bytes], tmp_path: Path) -> None:
    written(sound, tmp_path)
    for path in (tmp_path / SHARD / "snapshots").iterdir():
        path.unlink()
    report = verified(tmp_path)
    first = min(int(path.name) for path in (tmp_path / SHARD / "log").iterdir())
    assert [problem.what for problem in report.problems] == [f"places 1 to {first - 1} are missing"]
    assert report.log_entries == len(list((tmp_path / SHARD / "log").iterdir()))


def test_where_there_is_no_cluster(tmp_path: Path) -> None:
    for call in (cluster.status, cluster.verify):
        with pytest.raises(mrlstore.StoreNotFound, match="no cluster"):
            call(tmp_path / "nothing")
    cluster.create(tmp_path / "home", dim=8)
    assert cluster.status(tmp_path / "home").shards[0].epoch == 0
    assert verified(tmp_path) == HomeReport(True, (), 1, 0, 0, 0)
