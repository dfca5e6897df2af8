"""A folder is private when nobody else can have put anything into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mrlstore.system.private_folder import check_private


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "above" / "cache"
    made.mkdir(parents=True)
    made.chmod(0o700)
    (made / "kernel.nbi").write_bytes(b"x")
    return made


def test_a_folder_of_the_user_is_private(folder: Path, tmp_path: Path) -> None:
    check_private(folder)
    folder.parent.chmod(0o1777)  # as /tmp
    check_private(folder)
    folder.parent.chmod(0o775)  # as with a umask of 002
    os.chown(folder.parent, -1, os.getgid())
    check_private(folder)
    (tmp_path / "link").symlink_to(folder.parent)  # a link above the folder, whose target is private
    check_private(tmp_path / "link" / "cache")


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_others_may_not_write_to_it(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(PermissionError):
        check_private(folder)


def test_others_may_not_replace_it(folder: Path) -> None:
    folder.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="above"):
        check_private(folder)


def test_it_is_no_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PermissionError, match="link"):
        check_private(tmp_path / "link")


def test_its_files_are_no_links(folder: Path, tmp_path: Path) -> None:
    (folder / "other.nbc").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="other.nbc"):
        check_private(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["folder", "file", "above"])
def test_it_is_the_users(folder: Path, what: str) -> None:
    os.chown({"folder": folder, "file": folder / "kernel.nbi", "above": folder.parent}[what], 12, -1)
    with pytest.raises(PermissionError):
        check_private(folder)
