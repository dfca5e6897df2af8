"""The console in headless Chromium: signing in, rows, search, care, requests, the map; and its headers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.server.api_keys import add_key
from tests.server.running import RunningServer, running

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: make test-console"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

SHOTS = os.environ.get("MRLSTORE_SCREENSHOTS")  # a folder, for people who want to look
DIM, ROWS = 16, 120


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return {"file": str(file), **{role: add_key(file, role)[0] for role in ("admin", "read")}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("console") / "stores"
    root.mkdir()
    vectors = np.random.default_rng(1).normal(size=(ROWS, DIM))
    with mrlstore.open(root / "papers.mrl", dim=DIM, prefix_dim=8, auto_maintain=False) as store:
        documents = [f"<b>page</b> {n} is {'red' if n % 5 == 0 else 'blue'}" for n in range(ROWS)]
        store.upsert([f"p-{n:03}" for n in range(ROWS)], vectors, [{"n": n} for n in range(ROWS)], documents)
        store.upsert(["x"], vectors[:1], namespace="other")
    with running(root, "--api-keys", keys["file"]) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running_playwright:
        started = running_playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Any]:
    """A page whose errors, those of the content security policy included, fail the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(20_000)
    opened, faults = context.new_page(), []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if is_fault(said) else None)
    opened.goto(f"{server.url}/console")
    yield opened
    context.close()
    assert faults == []


def is_fault(said: Any) -> bool:
    return said.type == "error" and "the server responded with a status of 4" not in said.text


def sign_in(page: Any, key: str) -> None:
    page.fill("input[name=key]", key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="papers").click()
    page.get_by_role("tab", name="Rows").wait_for()


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def test_only_a_key_lets_in(page: Any, keys: dict[str, str]) -> None:
    page.fill("input[name=key]", "mrl_wrong")
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("alert")).to_contain_text("not known")
    page.fill("input[name=key]", keys["read"])
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("row").nth(1)).to_contain_text("121")
    shot(page, "indexes")
    page.get_by_role("button", name="Sign out").click()
    page.reload()
    page.locator("input[name=key]").wait_for()


def test_rows_are_paged_filtered_edited_and_deleted(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    cells = page.locator("tbody tr")
    playwright.expect(cells).to_have_count(50)
    playwright.expect(cells.first).to_contain_text("<b>page</b> 0")  # as text, not as HTML
    page.get_by_role("button", name="Next").click()
    playwright.expect(cells.first).to_contain_text("p-050")
    page.get_by_role("button", name="Before").click()
    playwright.expect(cells.first).to_contain_text("p-000")
    shot(page, "rows")
    page.fill("input[name=where]", '{"n": {"$gte": 118}}')
    page.get_by_role("button", name="Show").click()
    playwright.expect(cells).to_have_count(2)
    page.get_by_role("button", name="p-118").click()
    page.fill("textarea[name=metadata]", '{"n": 118, "seen": true}')
    shot(page, "row")
    page.get_by_role("button", name="Save").click()
    playwright.expect(cells.first).to_contain_text('"seen":true')
    page.get_by_role("button", name="p-119").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Really delete this row").click()
    playwright.expect(cells).to_have_count(1)
    page.fill("input[name=where]", "{")
    page.get_by_role("button", name="Show").click()
    playwright.expect(page.get_by_role("alert")).to_contain_text("not JSON")
    page.select_option("select[name=namespace]", "other")
    page.fill("input[name=where]", "")
    page.get_by_role("button", name="Show").click()
    playwright.expect(cells).to_have_count(1)


def test_a_key_that_only_reads_changes_nothing(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("button", name="p-001").click()
    page.locator("textarea[name=metadata]").wait_for()
    assert page.get_by_role("button", name="Save").count() == 0
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Care").click()
    playwright.expect(page.get_by_role("button", name="Optimize")).to_be_disabled()


def test_searches_show_ranks_before_and_after_the_re_rank(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("tab", name="Rows").focus()
    page.keyboard.press("ArrowRight")  # to Search
    page.select_option("select[name=kind]", "id")
    page.fill("input[name=what]", "p-003")
    page.keyboard.press("Enter")
    cells = page.locator("tbody tr")
    playwright.expect(cells).to_have_count(10)
    playwright.expect(cells.first).to_contain_text("p-003")
    playwright.expect(page.get_by_text("Margin")).to_contain_text("us")
    shot(page, "search")
    page.select_option("select[name=kind]", "vector")
    page.fill("input[name=what]", json.dumps([1.0] * DIM))
    page.fill("input[name=where]", '{"n": {"$lt": 3}}')
    page.get_by_role("button", name="Search").click()
    playwright.expect(cells).to_have_count(3)
    page.select_option("select[name=kind]", "keywords")
    page.fill("input[name=what]", "red")
    page.fill("input[name=where]", "")
    page.get_by_role("button", name="Search").click()
    playwright.expect(cells).to_have_count(10)


def test_care_runs_with_progress_and_lists_backups(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    page.get_by_role("tab", name="Care").click()
    for button, name in (("Optimize", "optimize"), ("Verify", "verify"), ("Back up", "backup")):
        page.get_by_role("button", name=button).click()
        playwright.expect(page.locator("pre")).to_contain_text(f"{name}: done")
    playwright.expect(page.locator("li")).to_contain_text("rows")
    page.get_by_role("button", name="Tier report").click()
    playwright.expect(page.get_by_role("heading", name="Tiers, recall@10")).to_be_visible(timeout=60_000)
    assert page.locator("meter").count() > 3
    shot(page, "care")


def test_the_map_and_the_requests(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("tab", name="Map").click()
    playwright.expect(page.get_by_text("by the two axes")).to_contain_text("1")
    pixels = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 800, 400).data"
    page.wait_for_function(f"{pixels}.some((one) => one)")
    shot(page, "map")
    page.get_by_role("tab", name="Requests").click()
    page.get_by_role("button", name="Send").click()
    playwright.expect(page.locator("p[role=status]")).to_have_text("200")
    playwright.expect(page.locator("pre")).to_contain_text('"count"')


def test_a_narrow_dark_screen_does_not_scroll_sideways(
    browser: Any, server: RunningServer, keys: Any
) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 700}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{server.url}/console")
    sign_in(page, keys["read"])
    for tab in ("Rows", "Search", "Map", "Care", "Requests"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, tab
    page.get_by_role("tab", name="Rows").click()
    page.locator("tbody tr").first.wait_for()
    shot(page, "narrow")
    context.close()
