"""What tests of both builders share. Where hnswlib could not be compiled its tests are skipped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.nested import nested
from tests.shared import Shared

ROWS, DIM, PREFIX = 2_600, 32, 16


def fill(path: Path) -> None:
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, m=8, auto_maintain=False) as store:
        store.upsert([str(i) for i in range(ROWS)], nested(ROWS, DIM))
        store.optimize()


@pytest.fixture
def hnswlib() -> Any:
    return pytest.importorskip("hnswlib", reason="hnswlib could not be compiled here, or was not installed")


@pytest.fixture
def filled(tmp_path: Path, shared: Shared) -> Path:
    """A store with graphs by mrlstore."""
    return shared.store("graphs.mrl", tmp_path / "s.mrl", fill)


@pytest.fixture
def without_hnswlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
