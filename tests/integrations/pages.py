"""The guide page of an integration, run where its framework is installed; tests/docs leaves it out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_code_blocks import FENCE, NOT_RUN, ROOT, Block, run_python

HERE = re.compile(r"<!-- not run: (as above|.* tests/integrations/\w+ runs .*) -->\s*\Z")


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the python blocks of docs/integrations/NAME.md, in order, in an empty folder.

    Those are left out that stand below a reason why they can't be run here either.
    """
    page = ROOT / "docs" / "integrations" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    blocks = [
        Block("python", match[3], text.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(text)
        if match[2] == "python" and _runs_here(text[: match.start()])
    ]
    assert blocks, f"{page} has no code"
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        run_python(block, page, names)


def _runs_here(before: str) -> bool:
    return bool(HERE.search(before)) or not NOT_RUN.search(before)
