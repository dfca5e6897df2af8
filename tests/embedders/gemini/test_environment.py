"""Keys, extras, imports, forks: what surrounds the embedder."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from mrlstore.embedders.gemini import GeminiEmbedder
from mrlstore.errors import EmbedError, MrlStoreError
from tests.embedders.gemini.server import Google


def run(code: str, **environment: str) -> str:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GOOGLE_", "GEMINI_")) and not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_key() -> None:
    with pytest.raises(
        EmbedError, match=r"set GEMINI_API_KEY .*pass api_key=.*project= and location=.*client="
    ):
        GeminiEmbedder().embed_query("a")


def test_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import google

    monkeypatch.delattr(google, "genai", raising=False)
    monkeypatch.setitem(sys.modules, "google.genai", None)
    with pytest.raises(MrlStoreError, match=r'pip install "mrlstore\[gemini\]"') as raised:
        GeminiEmbedder().embed_query("a")
    assert isinstance(raised.value, ImportError)


@pytest.mark.parametrize("package", ["tinytag", "pypdf"])
def test_no_media_extra(monkeypatch: pytest.MonkeyPatch, package: str, embedder: Any) -> None:
    from mrlstore.embedders.content import Audio, Pdf
    from tests.embedders.gemini.media import wav

    monkeypatch.setitem(sys.modules, package, None)
    medium = Audio(wav(1)) if package == "tinytag" else Pdf(b"%PDF-1.7")
    with pytest.raises(ImportError, match=r'pip install "mrlstore\[media\]"'):
        embedder().embed_documents([medium])


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    code = """
import sys
from mrlstore.embedders.gemini import GeminiEmbedder
from mrlstore.embedders.content import Image
GeminiEmbedder(cache="never-opened.db").items(["a"])
heavy = {"google.genai", "pydantic", "httpx", "httpx2", "numba", "hnswlib", "tinytag", "pypdf", "PIL"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(code) == "[]"
    assert not os.path.exists("never-opened.db")


def test_the_key_is_not_shown(client: Any) -> None:
    one = GeminiEmbedder(api_key="very-secret")
    assert "very-secret" not in repr(one) + repr(one.client) + repr(one.fingerprint)


EMBED = """
import os
from mrlstore.embedders.gemini import GeminiEmbedder
one = GeminiEmbedder({arguments})
one.embed_query("a")
{more}
"""


def test_the_environment_of_the_sdk_is_honoured(google: Google) -> None:
    run(EMBED.format(arguments="", more=""), GEMINI_API_KEY="G", GOOGLE_GEMINI_BASE_URL=google.url)
    run(
        EMBED.format(arguments="api_key='given'", more=""),
        GOOGLE_API_KEY="from the environment",
        GOOGLE_GEMINI_BASE_URL=google.url,
    )
    assert [call.headers["x-goog-api-key"] for call in google.calls] == ["G", "given"]


def test_after_a_fork_the_child_has_connections_of_its_own(google: Google) -> None:
    more = """
import asyncio
asyncio.run(one.aembed_query("b"))
child = os.fork()
if not child:
    one.embed_documents([str(i) for i in range(250)])
    asyncio.run(one.aembed_query("c"))
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
one.embed_query("d")
"""
    run(EMBED.format(arguments="", more=more), GEMINI_API_KEY="G", GOOGLE_GEMINI_BASE_URL=google.url)
    assert len(google.calls) == 1 + 1 + 3 + 1 + 1


def test_a_fork_while_others_hold_the_locks(tmp_path: Any) -> None:
    """Every lock is held by another thread at the moment of the fork; the child does not wait for it."""
    code = """
import os, sys, threading
import numpy as np
from mrlstore.embedders.gemini import GeminiEmbedder
one = GeminiEmbedder(cache=sys.argv[1], api_key="K", requests_per_minute=10)
one.cache.put({b"a": np.ones(2, dtype=np.float32)})
locks = [one.client._lock, one._limiter._lock, one.meter._lock, *[one._gate] * 4]
held = threading.Event()
threading.Thread(target=lambda: ([lock.acquire() for lock in locks], held.set()), daemon=True).start()
held.wait()
child = os.fork()
if not child:
    one._gate.acquire()
    done = (len(one.cache.get([b"a"])), one.usage.calls, one._limiter._try(1, 1), bool(one.client.sdk))
    os._exit(0 if done == (1, 0, None, True) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "c.db")], timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_the_api_version_can_be_chosen(google: Google, client: Any, version: str) -> None:
    GeminiEmbedder(client=client(http_options={"api_version": version})).embed_query("a")
    assert google.calls[0].path == f"/{version}/models/gemini-embedding-2:batchEmbedContents"


def test_everything_is_found_in_one_place() -> None:
    from mrlstore import embedders

    for name in embedders.__all__:
        assert getattr(embedders, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Gemini'"):
        _ = embedders.Gemini
