"""Arguments that are no rows: whatever is passed, a typed error says so before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput
from tests.oracle import nested_vectors

VECTORS = nested_vectors(3, 8)
HUGE = 10**400

CALLS: dict[str, Callable[[Any], object]] = {
    "a word as a timeout": lambda s: s.optimize(timeout_s="soon"),
    "a timeout that is no number": lambda s: s.optimize(timeout_s=float("nan")),
    "a negative timeout": lambda s: s.repair(timeout_s=-1),
    "a timeout beyond floats": lambda s: s.optimize(timeout_s=HUGE),
    "an array as a timeout": lambda s: s.optimize(timeout_s=np.zeros(2)),
    "no function as progress": lambda s: s.verify(progress=np.zeros(3)),
    "a number as progress of optimize": lambda s: s.optimize(progress=5),
    "a number as progress of repair": lambda s: s.repair(progress=5),
    "a score beyond floats": lambda s: s.query(VECTORS[0], min_score=HUGE),
    "a target beyond floats": lambda s: s.query(VECTORS[0], target_recall=HUGE),
    "a limit beyond SQLite's numbers": lambda s: list(s.scan(limit=2**63)),
    "half a character as a prefix": lambda s: list(s.scan(prefix="\ud800")),
    "an array as include": lambda s: s.query(VECTORS[0], include=np.zeros(3)),
    "an array without dimensions as include": lambda s: s.get(["a"], include=np.array("metadata")),
    "an array within include": lambda s: s.get(["a"], include=[np.zeros(2)]),
    "an array without dimensions as ids": lambda s: s.get(np.array("a")),
    "an array without dimensions as metadata": lambda s: s.upsert(["b"], VECTORS[:1], np.array(1)),
    "an array without dimensions as documents": lambda s: s.update(["a"], None, np.array("x")),
    "a set as documents": lambda s: s.update(["a"], None, {"x"}),
    "a table of documents": lambda s: s.update(["a"], None, np.array([["x", "y"]])),
    "a number as vectors of nothing": lambda s: s.upsert([], 5),
}


@pytest.mark.parametrize("words", CALLS)
def test_odd_arguments_are_refused(opened: Any, words: str) -> None:
    store = opened(dim=8)
    store.upsert(["a"], VECTORS[:1], [{"x": 1}], ["text"])
    with pytest.raises(InvalidInput):
        CALLS[words](store)
    assert [(r.id, r.metadata, r.document) for r in store.scan()] == [("a", {"x": 1}, "text")]


def test_a_path_that_sqlite_cannot_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not UTF-8"):
        mrlstore.open(tmp_path / os.fsdecode(b"\xff\xfe"))
    long = tmp_path.joinpath(*["d" * 100] * 5)
    with pytest.raises(InvalidInput, match="bytes in all"):
        mrlstore.open(long / "store.mrl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "ü\n'\"x", "%41?mode=ro#x", "-dash", "emoji😀", "a;b", "$HOME"])
def test_any_other_name_will_do(tmp_path: Path, name: str) -> None:
    with mrlstore.open(tmp_path / name, dim=8, auto_maintain=False) as store:
        store.upsert(["a"], VECTORS[:1])
        store.optimize()
        store.backup(tmp_path / f"{name} copy")
    for path in (tmp_path / name, tmp_path / f"{name} copy"):
        with mrlstore.open(path, mode="r") as store:
            assert store.query(VECTORS[0]).ids == ["a"]


@pytest.mark.parametrize("there", [False, True])
def test_a_link_to_where_the_store_is_to_be(tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "disk" / "store.mrl", tmp_path / "store.mrl"
    real.parent.mkdir()
    if there:
        real.mkdir()
    link.symlink_to(real)
    with mrlstore.open(link, dim=8, auto_maintain=False) as store:
        store.upsert(["a"], VECTORS[:1])
    assert link.is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["store.mrl"]
    with mrlstore.open(real) as store:
        assert "a" in store
