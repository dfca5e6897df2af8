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
DRAWN = """
    document.querySelector("canvas").getContext("2d").getImageData(0, 0, 800, 400).data.some((one) => one)
"""


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


def test_a_search_shows_its_hits_beside_those_of_the_prefix_alone(
    page: Any, server: RunningServer, keys: dict[str, str]
) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("tab", name="Rows").focus()
    page.keyboard.press("ArrowRight")  # to Search
    page.select_option("select[name=kind]", "id")
    page.fill("input[name=what]", "p-003")
    page.keyboard.press("Enter")
    hits, alone = (
        page.get_by_role("region", name=name) for name in ("After the re-rank", "By the prefix alone")
    )
    with mrlstore.connect(server.url, index="papers", mode="r", api_key=keys["read"]) as store:
        expected = [store.query(id="p-003", k=10).ids, store.query(id="p-003", k=10, dim=8).ids]
    assert expected[0] != expected[1]
    for section, ids in zip((hits, alone), expected, strict=True):
        playwright.expect(section.locator("tbody button")).to_have_text(list(ids))
    lost = [id for id in expected[1] if id not in expected[0]]
    playwright.expect(alone.locator("tr.alone button")).to_have_text(lost)
    playwright.expect(page.get_by_text("Margin")).to_contain_text(f"{len(lost)} of 10 hits are missing")
    playwright.expect(page.locator("svg.stages rect")).not_to_have_count(0)
    playwright.expect(page.locator(".legend")).to_contain_text(" us")
    shot(page, "search")


def test_searches_by_a_vector_and_by_keywords(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("tab", name="Search").click()
    cells = page.locator("tbody tr")
    page.select_option("select[name=kind]", "vector")
    page.fill("input[name=what]", json.dumps([1.0] * DIM))
    page.fill("input[name=where]", '{"n": {"$lt": 3}}')
    page.uncheck("input[name=beside]")
    page.get_by_role("button", name="Search").click()
    playwright.expect(cells).to_have_count(3)
    page.select_option("select[name=kind]", "keywords")
    page.fill("input[name=what]", "red")
    page.fill("input[name=where]", "")
    page.get_by_role("button", name="Search").click()
    playwright.expect(cells).to_have_count(10)


def test_care_runs_with_progress_and_shows_a_backup(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    page.get_by_role("tab", name="Care").click()
    for button, name in (("Optimize", "optimize"), ("Verify", "verify")):
        page.get_by_role("button", name=button).click()
        playwright.expect(page.locator("pre")).to_contain_text(f"{name}: done")
    page.fill("input[name=backup]", "monday")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("pre")).to_contain_text("backup: done. monday has")
    playwright.expect(page.get_by_role("table", name="Backups").locator("tr.new")).to_contain_text("monday")
    page.get_by_role("button", name="Back up").click()  # the name is taken
    playwright.expect(page.get_by_role("alert")).to_contain_text("exists already")
    shot(page, "care")


def test_tiers_and_the_audit_are_plotted(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    page.get_by_role("tab", name="Care").click()
    page.get_by_role("button", name="Tier report").click()
    plots = page.locator("figure svg")
    playwright.expect(plots).to_have_count(3, timeout=60_000)
    for n in range(3):
        assert plots.nth(n).locator(".series path").count() > 1
    assert "NaN" not in page.locator(".plots").inner_html()
    page.fill("input[name=rate]", "1")
    page.get_by_role("button", name="Set the audit").click()
    page.get_by_role("tab", name="Search").click()
    page.select_option("select[name=kind]", "id")
    page.fill("input[name=what]", "p-003")
    page.uncheck("input[name=beside]")
    page.get_by_role("button", name="Search").click()
    page.locator("tbody tr").first.wait_for()
    page.get_by_role("tab", name="Care").click()
    audit = page.get_by_role("img", name="Recall of audited queries")
    for _ in range(50):  # the check runs in the background
        page.get_by_role("button", name="Look again").click()
        page.wait_for_timeout(100)
        if audit.count():
            break
    playwright.expect(audit).to_contain_text("recall@10")
    playwright.expect(page.locator("ul.plain")).to_contain_text("queries")
    shot(page, "audit")


def test_a_row_is_made_and_edited(page: Any, server: RunningServer, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    with mrlstore.connect(server.url, index="papers", api_key=keys["admin"]) as store:
        store.delete(["new"])
        page.get_by_role("button", name="New row").click()
        page.fill("input[name=id]", "p-001")
        page.fill("textarea[name=vector]", json.dumps([1.0] * DIM))
        page.fill("textarea[name=document]", "A page of today")
        page.fill("textarea[name=metadata]", '{"n": 1000}')
        page.get_by_role("button", name="Create").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text("p-001")  # it is there: nothing is lost
        page.fill("input[name=id]", "new")
        shot(page, "new-row")
        page.get_by_role("button", name="Create").click()
        page.locator("dialog").wait_for(state="detached")
        [row] = store.get(["new"], include=("metadata", "document", "vector"))
        assert (row.document, row.metadata) == ("A page of today", {"n": 1000})
        assert row.vector is not None and np.allclose(row.vector, 1.0, atol=1e-3)
        page.fill("input[name=where]", '{"n": 1000}')
        page.get_by_role("button", name="Show").click()
        page.locator("tbody button", has_text="new").click()
        page.fill("textarea[name=document]", "A page of tomorrow")
        page.select_option("select[name=source]", "numbers")
        page.fill("textarea[name=vector]", "3")
        page.get_by_role("button", name="Save").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text("list of numbers")
        page.fill("textarea[name=vector]", json.dumps([2.0] * DIM))
        page.get_by_role("button", name="Save").click()
        playwright.expect(page.locator("tbody tr")).to_contain_text("tomorrow")
        [row] = store.get(["new"], include=("metadata", "document", "vector"))
        assert (row.document, row.metadata) == ("A page of tomorrow", {"n": 1000})
        assert row.vector is not None and np.allclose(row.vector, 2.0, atol=1e-3)
        store.delete(["new"])


def test_the_map_and_the_requests(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["read"])
    page.get_by_role("tab", name="Map").click()
    playwright.expect(page.get_by_text("by the two axes")).to_contain_text("1")
    wait_until_drawn(page)
    shot(page, "map")
    page.get_by_role("tab", name="Requests").click()
    page.get_by_role("button", name="Send").click()
    playwright.expect(page.locator("p[role=status]")).to_have_text("200")
    playwright.expect(page.locator("pre")).to_contain_text('"count"')


@pytest.mark.parametrize(
    ("width", "scheme"), [(375, "light"), (420, "dark"), (1400, "light"), (1400, "dark")]
)
def test_no_screen_scrolls_sideways(
    browser: Any, server: RunningServer, keys: Any, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(f"{server.url}/console")
    sign_in(page, keys["admin"])

    def looked_at(name: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        shot(page, f"{name}-{scheme}-{width}", whole=True)

    page.locator("tbody tr").first.wait_for()
    looked_at("rows")
    page.get_by_role("button", name="New row").click()
    assert page.locator("dialog").bounding_box()["width"] <= width
    looked_at("new-row")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    page.get_by_role("tab", name="Search").click()
    page.select_option("select[name=kind]", "id")
    page.fill("input[name=what]", "p-003")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("region", name="By the prefix alone").locator("tbody tr").first.wait_for()
    looked_at("search")
    page.get_by_role("tab", name="Map").click()
    wait_until_drawn(page)
    looked_at("map")
    page.get_by_role("tab", name="Requests").click()
    page.locator("textarea[name=body]").wait_for()
    looked_at("requests")
    page.get_by_role("tab", name="Care").click()
    page.get_by_role("button", name="Tier report").click()
    playwright.expect(page.get_by_role("img", name="Recall against latency")).to_be_visible(timeout=60_000)
    looked_at("care")
    context.close()


def test_all_is_reached_by_the_keyboard(page: Any, keys: dict[str, str]) -> None:
    playwright.expect(page.locator("input[name=key]")).to_be_focused()
    page.keyboard.type(keys["admin"])
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("button", name="papers")).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("tab", name="Rows")).to_be_focused()
    reach(page, "New row")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("input[name=id]")).to_be_focused()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    playwright.expect(page.get_by_role("button", name="New row")).to_be_focused()
    reach(page, "p-000")
    page.keyboard.press("Enter")
    page.locator("textarea[name=metadata]").wait_for()
    reach(page, "Close")
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for(state="detached")
    playwright.expect(page.get_by_role("button", name="p-000")).to_be_focused()
    reach(page, "Rows", "Shift+Tab")
    for name in ("Search", "Map", "Care", "Requests", "Rows"):
        page.keyboard.press("ArrowRight")
        tab = page.get_by_role("tab", name=name)
        playwright.expect(tab).to_be_focused()
        playwright.expect(tab).to_have_attribute("aria-selected", "true")


def reach(page: Any, text: str, key: str = "Tab") -> None:
    """Press a key until what has the focus shows this text."""
    for _ in range(20):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.textContent") == text:
            return
    pytest.fail(f"{text} was not reached by {key}")
