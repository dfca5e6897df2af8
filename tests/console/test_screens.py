"""The console on narrow and wide screens, dark and light, and by the keyboard alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.pages import needs_chromium, shot, sign_in, wait_until_drawn
from tests.server.running import RunningServer

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: make test-console"
)
pytestmark = needs_chromium


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
    playwright.expect(page.get_by_role("button", name="papers", exact=True)).to_be_focused()
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
