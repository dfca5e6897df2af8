"""What the tests of the console share: what is stored, and what is done with a page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"
)
SHOTS = os.environ.get("MRLSTORE_SCREENSHOTS")  # a folder, for people who want to look
DIM, ROWS = 16, 120
TEXTS = [f"{color} {thing} {n}" for n in range(4) for color in ("red", "blue") for thing in ("cat", "car")]
DRAWN = """
    document.querySelector("canvas").getContext("2d").getImageData(0, 0, 800, 400).data.some((one) => one)
"""


def sign_in(page: Any, key: str, index: str = "papers") -> None:
    page.fill("input[name=key]", key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name=index, exact=True).click()
    page.get_by_role("tab", name="Rows").wait_for()


def shot(page: Any, name: str, *, whole: bool = False) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=whole)


def wait_until_drawn(page: Any) -> None:
    """Playwright's own way to wait for an expression evaluates strings, which the policy forbids."""
    for _ in range(200):
        if page.locator("canvas").count() and page.evaluate(DRAWN):
            return
        page.wait_for_timeout(50)
    pytest.fail("nothing was drawn on the canvas")
