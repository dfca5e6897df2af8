"""mrlstore demo, with few docstrings; `make demo` runs it whole."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import mrlstore
from mrlstore.cli.demo import corpus
from tests import inside

from .conftest import Run

SOURCE = '''
"""A module."""
class Tree:
    """A class."""
    async def grow(self):
        """A method."""
        def inner():
            """A function."""
def plain():
    pass
def _hidden():
    """A function that is not public."""
'''


def test_docstrings_have_names_kinds_and_lines(tmp_path: Path) -> None:
    (tmp_path / "wood").mkdir()
    file = tmp_path / "wood" / "__init__.py"
    file.write_text(textwrap.dedent(SOURCE))
    found = list(inside.file_of_demo(file, Path("wood/__init__.py")))
    assert [(each.name, each.kind, each.line, each.public) for each in found] == [
        ("wood", "module", 1, True),
        ("wood.Tree", "class", 3, True),
        ("wood.Tree.grow", "method", 5, True),
        ("wood.Tree.grow.inner", "function", 7, True),
        ("wood._hidden", "function", 11, False),
    ]
    assert {each.module for each in found} == {"wood"}


@pytest.mark.parametrize("content", [b"def (", b"\0", b"\xff\xfe\xff"])
def test_files_that_are_no_python_are_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.py").write_bytes(content)
    assert list(inside.file_of_demo(tmp_path / "broken.py", Path("broken.py"))) == []


def test_the_standard_library_has_docstrings_enough_and_each_once() -> None:
    found = corpus.standard_library()
    assert len(found) > 3500
    assert len({each.name for each in found}) == len({each.text for each in found}) == len(found)
    assert "textwrap.dedent" in {each.name for each in found}


def test_the_demo_runs_and_leaves_a_store_to_go_on_with(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "kept"
    for _ in range(2):  # the second run takes the place of the first
        done = run("demo", "--keep", folder, "--limit", 400)
        assert done.code == 0, done.err
    assert "how to parse a date string" in done.out
    assert "two-stage" in done.out
    with mrlstore.open(folder / "stdlib.mrl", mode="r") as store:
        assert len(store) == 400
    assert len(run("query", folder / "stdlib.mrl", "a file", "--json").json["hits"]) == 10


def test_the_demo_measures(run: Run) -> None:
    found = run("demo", "--limit", 300, "--json").json
    tiers = {tier["name"]: tier for tier in found["tiers"]}
    assert tiers["two-stage (mrlstore)"]["overlap"] >= 0.95
    exact = next(tier for name, tier in tiers.items() if name.endswith("exact"))
    assert exact["overlap"] == 1


def test_the_demo_deletes_nothing_but_its_own_store(tmp_path: Path, run: Run) -> None:
    mine = tmp_path / "stdlib.mrl" / "mine"
    mine.parent.mkdir()
    mine.write_text("kept")
    done = run("demo", "--keep", tmp_path, "--limit", 50)
    assert done.code == 4
    assert mine.read_text() == "kept"
