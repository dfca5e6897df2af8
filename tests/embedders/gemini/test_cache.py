"""What was paid for once is not paid for again; what the cache holds is what would have come."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.content import Image
from mrlstore.embedders.gemini import MODELS, GeminiEmbedError
from mrlstore.errors import CorruptStore
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Google, refused


def test_a_second_run_sends_nothing_and_gives_the_same(google: Google, embedder: Any, tmp_path: Path) -> None:
    contents = ["a", "b", Image(png()), ["b", Image(png())], "a"]
    first = embedder(cache=tmp_path / "cache.db").embed_documents(contents)
    assert len(google.contents) == 4, "a repetition within a call is sent once"
    one = embedder(cache=tmp_path / "cache.db")
    again = one.embed_documents(contents)
    assert len(google.contents) == 4
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, embedder().embed_documents(contents))
    assert (one.usage.cached, one.usage.items, one.usage.estimated_usd) == (5, 0, 0)


def test_tiers_share_the_cache(google: Google, embedder: Any, tmp_path: Path) -> None:
    embedder(cache=tmp_path / "cache.db").embed_documents(["a"])
    small = embedder(cache=tmp_path / "cache.db", dim=768).embed_documents(["a"])
    assert len(google.contents) == 1
    np.testing.assert_array_equal(small, embedder(dim=768).embed_documents(["a"]))


def test_what_differs_is_not_mixed_up(google: Google, embedder: Any, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache.db")
    for options in ({}, {"task": "clustering"}, {"model": "gemini-embedding-001"},
                    {"model": "gemini-embedding-001", "task": "clustering"},
                    {"model": replace(MODELS["gemini-embedding-2"], name="another")}):  # fmt: skip
        one = embedder(**{"cache": cache} | options)
        one.embed_documents(["ab", ["a", "b"]])
        one.embed_query("ab")
    # A symmetric task's query is worded as its document is: with it, 2 instead of 3 are sent.
    assert len(google.contents) == len(cache) == 3 + 2 + 3 + 2 + 3
    cache.close()


def test_titles_of_001_are_part_of_the_key(google: Google, embedder: Any, tmp_path: Path) -> None:
    one = embedder("gemini-embedding-001", cache=tmp_path / "cache.db")
    one.embed_documents(["a", "a"], titles=["x", None])
    assert len(google.contents) == 2


def test_uris_are_not_cached(google: Google, embedder: Any, tmp_path: Path) -> None:
    one = embedder(cache=tmp_path / "cache.db")
    for _ in range(2):
        one.embed_documents([Image("gs://bucket/a.png")])
    assert len(google.contents) == 2 and len(one.cache) == 0


def test_a_failed_run_keeps_what_succeeded(google: Google, embedder: Any, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(250)]
    google.decide = lambda call: (
        refused(503, "m", "UNAVAILABLE") if call.contents[0] == ["title: none | text: text 100"] else None
    )
    with pytest.raises(GeminiEmbedError):
        embedder(cache=tmp_path / "cache.db").embed_documents(texts)
    google.decide = None
    google.calls.clear()
    embedder(cache=tmp_path / "cache.db").embed_documents(texts)
    assert google.contents == [[f"title: none | text: text {i}"] for i in range(100, 200)]


def test_bad_vectors_are_not_cached(google: Google, embedder: Any, tmp_path: Path) -> None:
    google.script = [Answer(change=lambda good: [good[0], {}])]
    one = embedder(cache=tmp_path / "cache.db")
    with pytest.raises(GeminiEmbedError):
        one.embed_documents(["a", "b"])
    assert len(one.cache) == 1


def test_a_repetition_of_a_failed_item_fails_too(google: Google, embedder: Any, tmp_path: Path) -> None:
    google.script = [Answer(change=lambda good: [good[0], {}])]
    with pytest.raises(GeminiEmbedError) as raised:
        embedder(cache=tmp_path / "cache.db").embed_documents(["a", "b", "b"])
    assert sorted(raised.value.failed) == [1, 2]


def test_a_damaged_row_is_a_row_that_is_not_there(google: Google, embedder: Any, tmp_path: Path) -> None:
    one = embedder(cache=tmp_path / "cache.db")
    wanted = one.embed_documents(["a"])
    one.cache.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
    np.testing.assert_array_equal(one.embed_documents(["a"]), wanted)
    assert len(google.contents) == 2


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(b"something else altogether" * 100)
    with pytest.raises(CorruptStore, match="delete it"):
        len(EmbeddingCache(path))
    assert path.read_bytes().startswith(b"something else")


def test_a_cache_that_cannot_be_written_loses_no_vectors(
    google: Google, embedder: Any, tmp_path: Path
) -> None:
    one = embedder(cache=tmp_path / "cache.db")
    one.embed_documents(["a"])
    one.cache.execute("PRAGMA query_only=1")
    with pytest.warns(RuntimeWarning, match="cache.db was not written"):
        assert one.embed_documents(["b"]).shape == (1, 3072)


def test_many_threads_and_processes_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    cache = EmbeddingCache(path)
    vectors = {bytes([i]) * 32: np.full(4, i + 1, dtype=np.float32) for i in range(40)}

    def fill() -> None:
        for key, vector in vectors.items():
            cache.put({key: vector})

    threads = [threading.Thread(target=fill) for _ in range(4)]
    code = (
        "import sys, numpy as np\nfrom mrlstore.embedders.cache import EmbeddingCache\n"
        "cache = EmbeddingCache(sys.argv[1])\n"
        "for i in range(40, 80): cache.put({bytes([i]) * 32: np.full(4, i + 1, dtype=np.float32)})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == 0 and len(cache) == 80
    found = cache.get([bytes([i]) * 32 for i in range(100)])
    assert {key[0]: vector.tolist() for key, vector in found.items()} == {i: [i + 1] * 4 for i in range(80)}
    cache.close()


def test_a_cache_goes_through_a_fork(tmp_path: Path) -> None:
    """Parent and child both write on while other threads do, as if they had opened the file themselves."""
    code = """
import os, sys, threading, numpy as np
from mrlstore.embedders.cache import EmbeddingCache
cache = EmbeddingCache(sys.argv[1])
cache.put({b"a": np.ones(2, dtype=np.float32)})
stop = threading.Event()
def write():
    while not stop.is_set():
        cache.put({b"t": np.ones(2, dtype=np.float32)})
thread = threading.Thread(target=write)
thread.start()
for _ in range(10):
    child = os.fork()
    if not child:
        cache.put({b"b": np.ones(2, dtype=np.float32)})
        os._exit(0 if sorted(cache.get([b"a", b"b"])) == [b"a", b"b"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
cache.put({b"c": np.ones(2, dtype=np.float32)})
assert len(cache) == 4
"""
    subprocess.run([sys.executable, "-c", code, os.fspath(tmp_path / "cache.db")], check=True)
