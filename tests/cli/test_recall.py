"""mrlstore calibrate and set-prefix-dim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mrlstore
from tests.nested import nested
from tests.shared import Shared

from .conftest import Run

ROWS = nested(2_600, 32)


def build(path: Path) -> None:
    with mrlstore.open(path, dim=32, prefix_dim=16, auto_maintain=False) as store:
        store.upsert([str(n) for n in range(2_500)], ROWS[:2_500])
        store.optimize()


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Path:
    """A store with a graph, and query vectors beside it."""
    folder = tmp_path_factory.mktemp("recall")
    np.save(folder / "q.npy", ROWS[2_500:])
    return shared.store("recall.mrl", folder / "s.mrl", build)


def test_calibrate_with_queries_and_several_k(indexed: Path, run: Run) -> None:
    done = run("calibrate", indexed, "--queries", indexed.parent / "q.npy", "-k", 5, "-k", 20, "--json")
    assert (done.code, done.err) == (0, "")
    assert (done.json["source"], done.json["queries"]) == ("queries", 100)
    assert {curve["k"] for curve in done.json["curves"]} == {5, 20}
    with mrlstore.open(indexed, mode="r") as store:
        expected = store.query(ROWS[0], k=20).plan.expected
    assert expected is not None
    assert (expected.source, expected.queries, expected.k) == ("queries", 100, 20)


def test_calibrate_by_itself_shows_an_effort_for_each_target(indexed: Path, run: Run) -> None:
    done = run("calibrate", indexed, "--count", "50")
    assert (done.code, done.err) == (0, "")
    assert "2,500 rows, with 50 stored rows" in done.out
    assert [line.split()[:2] for line in done.out.splitlines() if line.split()[:1] == ["10"]] == [
        ["10", "0.9"],
        ["10", "0.95"],
        ["10", "0.99"],
    ]


def test_calibrate_says_what_is_missing(filled: Path, run: Run) -> None:
    done = run("calibrate", filled)
    assert done.code == 0
    assert "no graph" in done.out
    assert "mrlstore optimize" in done.out


@pytest.mark.parametrize("command", ["calibrate", "tiers"])
def test_files_that_are_no_queries(command: str, filled: Path, tmp_path: Path, run: Run) -> None:
    wrong = {"words.npy": b"no array", "empty.npy": b"", "cut.npy": b"\x93NUMPY\x01\x00v"}
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    np.save(tmp_path / "narrow.npy", np.ones((5, 3)))
    np.save(tmp_path / "one.npy", np.ones(8))
    for name in (*wrong, "several.npz", "narrow.npy", "one.npy"):
        done = run(command, filled, "--queries", tmp_path / name)
        assert (done.code, done.out) == (2, ""), name
        assert done.err.startswith("mrlstore: "), name
        assert done.err.count("\n") == 1, name


def test_set_prefix_dim(indexed: Path, run: Run) -> None:
    done = run("set-prefix-dim", indexed, 8)
    assert (done.code, done.err) == (0, "")
    assert "first 8 dims (before: 16)" in done.out
    assert run("stats", indexed, "--json").json["prefix_dim"] == 8
    assert run("set-prefix-dim", indexed, 16, "--json").json["before"] == 8
    assert run("set-prefix-dim", indexed, 33).code == 2
    assert run("set-prefix-dim", indexed, "wide").code == 2


def test_set_prefix_dim_of_an_empty_store(tmp_path: Path, run: Run) -> None:
    run("create", tmp_path / "s.mrl")
    done = run("set-prefix-dim", tmp_path / "s.mrl", 8)
    assert done.code == 2
    assert "no vectors yet" in done.err
