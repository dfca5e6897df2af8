"""Runs command lines in this process, and makes small files and stores for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.cli import main

DIM = 8


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "110")

    def run_line(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run_line


def make_rows(count: int) -> list[dict[str, Any]]:
    vectors = np.random.default_rng(5).standard_normal((count, DIM)).round(3)
    return [
        {
            "id": f"row-{n}",
            "vector": vectors[n].tolist(),
            "metadata": {"n": n, "even": n % 2 == 0},
            "document": f"The text of row {n}.",
        }
        for n in range(count)
    ]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def filled(tmp_path: Path, run: Run) -> Path:
    """A store of 20 rows."""
    store = tmp_path / "some.mrl"
    rows = write_jsonl(tmp_path / "some.jsonl", make_rows(20))
    assert run("import", store, rows).code == 0
    return store
