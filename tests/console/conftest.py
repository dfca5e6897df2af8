"""The fixtures of the tests of the console: a server with keys, a browser, a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.server.api_keys import add_key
from tests.console.pages import CHROMIUM, DIM, ROWS, TEXTS
from tests.server.running import RunningServer, running


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return {"file": str(file), **{role: add_key(file, role)[0] for role in ("admin", "read")}}


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("console") / "stores"
    root.mkdir()
    vectors = np.random.default_rng(1).normal(size=(ROWS, DIM))
    with mrlstore.open(root / "papers.mrl", dim=DIM, prefix_dim=8, auto_maintain=False) as store:
        documents = [f"<b>page</b> {n} is {'red' if n % 5 == 0 else 'blue'}" for n in range(ROWS)]
        store.upsert([f"p-{n:03}" for n in range(ROWS)], vectors, [{"n": n} for n in range(ROWS)], documents)
        store.upsert(["x"], vectors[:1], namespace="other")
    model = LocalEmbedder.fit(TEXTS, dim=4)
    model.save(root / "texts.lsa.npz")
    with mrlstore.open(root / "texts.mrl", embedder=model, auto_maintain=False) as store:
        store.add(TEXTS)
    with running(root, "--api-keys", keys["file"]) as started:
        yield started


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running_playwright:
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
