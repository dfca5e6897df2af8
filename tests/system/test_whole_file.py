"""Files beside stores appear whole and synced, name and all, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests import inside

WHOLE = inside.module("mrlstore.system.whole_file")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been synced: "file" or "folder"."""
    kinds: list[str] = []

    def sync(descriptor: int) -> None:
        kinds.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(WHOLE, "full_sync", sync)
    return kinds


def test_the_bytes_are_synced_and_then_the_name(tmp_path: Path, synced: list[str]) -> None:
    with WHOLE.whole_file(tmp_path / "facts", 0o600) as file:
        file.write(b"new")
        assert not (tmp_path / "facts").exists()
    assert synced == ["file", "folder"]
    assert (tmp_path / "facts").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "facts").stat().st_mode) == 0o600


@pytest.mark.parametrize("fails", ["while it is written", "sync"])
def test_after_a_failure_the_earlier_file_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    (tmp_path / "facts").write_bytes(b"old")

    def sync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    if fails == "sync":
        monkeypatch.setattr(WHOLE, "full_sync", sync)
    with pytest.raises(OSError), WHOLE.whole_file(tmp_path / "facts") as file:
        file.write(b"new")
        if fails != "sync":
            raise OSError(28, "No space left on device")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("facts", b"old")]


def test_a_revoked_key_stays_revoked(tmp_path: Path, synced: list[str]) -> None:
    """Without the folder's sync a power cut could bring back the file that holds the key."""
    api_keys: Any = pytest.importorskip("mrlstore.server.api_keys")
    file = tmp_path / "keys.json"
    api_keys.add_key(file, "read")
    (stored,) = api_keys.read_keys(file)
    synced.clear()
    api_keys.revoke_key(file, stored.id)
    assert synced == ["file", "folder"]
