"""Which files of a folder are read; .gitignore is compared with git itself where git is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mrlstore.errors import InvalidInput
from mrlstore.ingest import FileSelection

FILES = (
    *(
        "a.md",
        "b.txt",
        "c.log",
        "keep.log",
        "drafts/d.md",
        "deep/drafts/e.md",
        "deep/f.md",
        "deep/build/g.md",
    ),
    *("deep/only.txt", "notes/h.md", "notes/todo/i.md", "top.txt", "deep/top.txt", "x/y/z/j.md", ".hidden"),
    ".config/k.md",
)
IGNORE = """
# a comment
*.log
!keep.log
/top.txt
build/
**/todo
x/**/z/
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    (tmp_path / "tree" / ".gitignore").write_text(IGNORE)
    (tmp_path / "tree" / "deep" / ".gitignore").write_text("!build/\nf.md\n/only.txt\n")
    return tmp_path / "tree"


def chosen(selection: FileSelection, *paths: Path) -> list[str]:
    skipped: list[str] = []
    found = selection.files(paths, lambda place, why: skipped.append(place))
    names = [file.path.relative_to(paths[0]).as_posix() for file in found]
    assert skipped == []
    return names


def test_without_options_all_but_hidden_files(tree: Path) -> None:
    assert chosen(FileSelection(), tree) == sorted(
        (name for name in FILES if not name.startswith(".")), key=lambda name: name.split("/")
    )


def test_gitignore_as_git_has_it(tree: Path) -> None:
    found = chosen(FileSelection(gitignore=True), tree)
    assert set(found) == {
        *("a.md", "b.txt", "keep.log", "drafts/d.md", "deep/drafts/e.md", "deep/build/g.md", "notes/h.md"),
        "deep/top.txt",
    }
    if shutil.which("git"):
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for command in (["init", "-q"], ["ls-files", "-z", "--others", "--exclude-standard"]):
            done = subprocess.run(
                ["git", *command], cwd=tree, check=True, capture_output=True, text=True, env=environment
            )
        listed = {name for name in done.stdout.split("\0") if name}
        assert set(found) == {name for name in listed if not name.startswith(".") and "/." not in name}


def test_the_repository_around_a_folder_counts_unless_it_leaves_the_folder_out(tree: Path) -> None:
    (tree / "notes" / "n.log").write_text("")
    assert chosen(FileSelection(gitignore=True), tree / "notes") == ["h.md", "n.log", "todo/i.md"]
    (tree / ".git").mkdir()
    assert chosen(FileSelection(gitignore=True), tree / "notes") == ["h.md"]
    assert chosen(FileSelection(gitignore=True), tree / "notes" / "todo") == ["i.md"]


def test_exclusions_and_endings(tree: Path) -> None:
    found = chosen(FileSelection(exclude=["drafts/", "/a.md", "x"], extensions=["MD", ".txt"]), tree)
    assert found == sorted(
        ("b.txt", "deep/build/g.md", "deep/f.md", "deep/only.txt", "deep/top.txt", "notes/h.md")
        + ("notes/todo/i.md", "top.txt"),
        key=lambda name: name.split("/"),
    )


def test_stores_and_what_is_set_apart_are_passed_over(tree: Path) -> None:
    store = tree / "deep"
    (store / "parts").mkdir()
    (store / "catalogue.db").write_text("")
    names = chosen(FileSelection(apart=[tree / "a.md", tree / "x"]), tree)
    assert not [name for name in names if name.startswith(("deep/", "x/", "a.md"))] and "b.txt" in names


def test_a_file_that_is_named_is_read_whatever_the_options(tree: Path) -> None:
    selection = FileSelection(exclude=["*"], extensions=["pdf"], gitignore=True)
    assert [file.path for file in selection.files([tree / "c.log"], print)] == [tree / "c.log"]


def test_a_pattern_that_is_none(tree: Path) -> None:
    with pytest.raises(InvalidInput, match="no pattern of .gitignore"):
        chosen(FileSelection(exclude=["!"]), tree)
    (tree / "deep" / ".gitignore").write_text("!\n")
    skipped: dict[str, str] = {}
    list(FileSelection(gitignore=True).files([tree], skipped.__setitem__))
    assert [place.removeprefix(f"{tree}/") for place in skipped] == ["deep/.gitignore"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tree: Path) -> None:
    (tree / "notes").chmod(0)
    skipped: dict[str, str] = {}
    try:
        found = list(FileSelection().files([tree], skipped.__setitem__))
    finally:
        (tree / "notes").chmod(0o755)
    assert found and skipped == {f"{tree}/notes": "a folder that cannot be read: Permission denied"}
