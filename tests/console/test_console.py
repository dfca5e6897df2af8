"""The console in headless Chromium: signing in, rows, search, care, requests, the map; and its headers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests.console.pages import DIM, needs_chromium, shot, sign_in, wait_until_drawn
from tests.server.running import RunningServer

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: make test-console"
)
pytestmark = needs_chromium


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
    playwright.expect(page.get_by_text("Margin")).to_contain_text(f"own list: {len(lost)} of 10 hits")
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
    shot(page, "backups", whole=True)
    page.get_by_role("button", name="Restore monday").click()
    shot(page, "restore")
    page.fill("input[name=target]", "papers-of-monday")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("pre")).to_contain_text("restore: done")
    playwright.expect(page.locator("pre")).to_contain_text("papers-of-monday")
    page.get_by_role("button", name="Delete monday").click()
    page.get_by_role("button", name="Really delete monday").click()
    playwright.expect(page.locator("pre")).to_contain_text("monday: deleted")
    playwright.expect(page.get_by_role("table", name="Backups")).to_have_count(0)
    page.get_by_role("button", name="All indexes").click()
    playwright.expect(page.get_by_role("button", name="papers-of-monday")).to_be_visible()
    page.get_by_role("button", name="papers", exact=True).click()
    page.get_by_role("tab", name="Care").click()
    shot(page, "care")


def test_the_server_embeds_the_document_of_a_row(
    page: Any, server: RunningServer, keys: dict[str, str]
) -> None:
    sign_in(page, keys["admin"], "texts")
    with mrlstore.connect(server.url, index="texts", mode="r", api_key=keys["read"]) as store:
        page.get_by_role("button", name="New row").click()
        page.fill("input[name=id]", "new")
        page.select_option("select[name=source]", "document")
        page.get_by_role("button", name="Create").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text("no text to embed")
        for document, button in (("red cat 1", "Create"), ("blue car 2", "Save")):
            page.fill("textarea[name=document]", document)
            page.select_option("select[name=source]", "document")
            page.get_by_role("button", name=button).click()
            page.locator("dialog").wait_for(state="detached")
            [row] = store.get(["new"], include=("document", "vector"))
            rows = store.scan(include=("document", "vector"))
            [same] = [one for one in rows if one.document == document and one.id != "new"]
            assert row.document == document and row.vector is not None and same.vector is not None
            assert np.allclose(row.vector, same.vector, atol=1e-3)
            page.locator("tbody button").get_by_text("new", exact=True).click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Really delete this row").click()
        page.locator("dialog").wait_for(state="detached")
        assert store.get(["new"]) == []


HELD = """() => {
    const real = window.fetch;
    window.fetch = async (path, options) => {
        if (!path.endsWith("/backups") || options.method !== "POST") return real(path, options);
        const say = (event, data) =>
            new TextEncoder().encode(`event: ${event}\\ndata: ${JSON.stringify(data)}\\n\\n`);
        return new Response(new ReadableStream({ start(controller) {
            controller.enqueue(say("progress", { phase: "parts", done: 3, total: 12 }));
            const result = { name: "held", rows: 7, bytes_on_disk: 2000 };
            window.finish = () => controller.enqueue(say("result", result));
        } }));
    };
}"""  # a backup that reports once, and ends when the test says so


def test_the_progress_of_a_backup_is_shown_until_its_result(page: Any, keys: dict[str, str]) -> None:
    sign_in(page, keys["admin"])
    page.get_by_role("tab", name="Care").click()
    page.evaluate(HELD)
    page.get_by_role("button", name="Back up").click()
    playwright.expect(page.get_by_role("status")).to_have_text("backup: parts 3 of 12")
    playwright.expect(page.get_by_role("progressbar", name="backup")).to_have_js_property("value", 3)
    playwright.expect(page.get_by_role("button", name="Back up")).to_be_disabled()
    page.evaluate("window.finish()")
    playwright.expect(page.get_by_role("status")).to_have_text("backup: done. held has 7 rows, 2.0 KB.")
    assert page.get_by_role("progressbar").count() == 0


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
    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")  # the first point
    seen = set()
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        page.wait_for_timeout(50)
        seen.add(page.locator("p[aria-live] b").inner_text())
    assert len(seen) > 1
    shot(page, "map")
    there = page.locator("p[aria-live] b").inner_text()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("dialog h2")).to_have_text(there)
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    page.get_by_role("tab", name="Requests").click()
    page.get_by_role("button", name="Send").click()
    playwright.expect(page.locator("p[role=status]")).to_have_text("200")
    playwright.expect(page.locator("pre")).to_contain_text('"count"')
