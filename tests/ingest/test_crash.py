"""A process is killed while it embeds: nothing that was paid for and stored is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.ingest import ingest
from tests.embedders.gemini.server import Answer, Call, Google
from tests.ingest.conftest import SHORT, document_vector, stored_vector

CRASH = """
import os, sys
import mrlstore
from dataclasses import replace
from mrlstore.embedders.gemini import MODELS, GeminiEmbedder
from mrlstore.ingest import ingest

path, cache, texts = sys.argv[1], sys.argv[2] or None, [f"text {i}" for i in range(1000)]
with mrlstore.open(path, dim=128) as store:
    short = replace(MODELS["gemini-embedding-2"], dim=128)
    ingest(store, GeminiEmbedder(short, concurrency=3, cache=cache), texts, texts)
"""


@pytest.mark.parametrize("cached", [False, True], ids=["without a cache", "with a cache"])
@pytest.mark.parametrize("survived", [1, 4, 8])
def test_after_a_crash_only_what_is_missing_is_sent(
    google: Google,
    embedder: Any,
    opened: Callable[..., Any],
    path: Path,
    tmp_path: Path,
    cached: bool,
    survived: int,
) -> None:
    """The process is killed in the midst of 1,000 documents, when some requests have been answered."""
    cache = str(tmp_path / "cache.db") if cached else ""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "GEMINI_"))
    } | {"GEMINI_API_KEY": "first run", "GOOGLE_GEMINI_BASE_URL": google.url}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CRASH, str(path), cache], env=environment
    )
    answered: list[Call] = []

    def decide(call: Call) -> Answer | None:
        if len(answered) >= survived:
            process.send_signal(signal.SIGKILL)
            return Answer(delay_s=30)
        answered.append(call)
        return None

    google.decide = decide
    assert process.wait(60) == -signal.SIGKILL
    paid = {content[0] for call in answered for content in call.contents}
    google.decide = None
    store = opened(path)
    texts = [f"text {i}" for i in range(1000)]
    before = {f"title: none | text: {record.id}" for record in store.scan()}
    assert before <= paid and len(before) < 1000
    done = ingest(store, embedder(SHORT, cache=cache or None, concurrency=3), texts, texts)
    everything = {f"title: none | text: {text}" for text in texts}
    second = [call for call in google.embed_calls if call.headers["x-goog-api-key"] != "first run"]
    sent = [content[0] for call in second for content in call.contents]
    assert len(sent) == len(set(sent)) and done.skipped == len(before)
    if cached:
        known = everything - set(sent)
        assert before <= known <= paid, "what was paid for and cached is not sent again"
        assert done.embedded == 1000 - len(before)
    else:
        assert set(sent) == everything - before, "exactly what is not stored"
    for i in (0, 499, 999):
        np.testing.assert_allclose(stored_vector(store, f"text {i}"), document_vector(f"text {i}"), atol=1e-3)
