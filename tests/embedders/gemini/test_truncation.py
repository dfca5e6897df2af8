"""Vectors that look right and are not: of a truncated text, and cut to a part that is all zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.gemini import GeminiEmbedError
from mrlstore.embedders.split import estimate_tokens, split_text
from mrlstore.errors import LimitExceeded
from tests.embedders.gemini.server import Answer, Google

LONG = "a " * 9000  # 4,500 tokens by the estimate, 9,004 by the count of the local server, prefix included
SHORT_PREFIX = [0.0] * 768 + [1.0] * (3072 - 768)


def counts_are_told() -> bool:
    import google.genai as sdk

    return tuple(map(int, sdk.__version__.split(".")[:2])) >= (3, 1)


def test_a_prefix_of_length_zero_is_told(google: Google, embedder: Any, tmp_path: Any) -> None:
    """Cut to 768 values it has no direction: divided by its length it would be NaN."""
    google.script = [Answer(change=lambda good: [good[0], {"values": SHORT_PREFIX}, good[2]])]
    small = embedder(dim=768, cache=tmp_path / "cache.db")
    with pytest.raises(
        GeminiEmbedError, match="item 1: the first 768 values of its vector are zero"
    ) as raised:
        small.embed_documents(["a", "b", "c"])
    assert sorted(raised.value.succeeded) == [0, 2]
    assert all(np.isfinite(vector).all() for vector in raised.value.succeeded.values())
    with pytest.raises(GeminiEmbedError, match="values of its vector are zero"):
        small.embed_documents(["b"])  # from the cache
    full = embedder(cache=tmp_path / "cache.db").embed_documents(["b"])
    assert np.isfinite(full).all() and len(google.calls) == 1


def test_a_prefix_of_length_zero_in_a_query(google: Google, embedder: Any) -> None:
    google.script = [Answer(change=lambda good: [{"values": SHORT_PREFIX}])]
    with pytest.raises(GeminiEmbedError, match="the first 2 values of its vector are zero"):
        embedder(dim=2).embed_query("a")


def test_long_numbers_are_estimated_as_gemini_counts_them() -> None:
    assert estimate_tokens("1" * 32_000) == 32_000
    assert estimate_tokens("ab12") == 3 and estimate_tokens("é1") == 2
    chunks = split_text("7" * 3000, 1024, 128)
    assert max(chunk.tokens for chunk in chunks) <= 1024 and chunks[-1].stop == 3000


def test_32_000_digits_are_refused_before_they_are_sent(google: Google, embedder: Any) -> None:
    with pytest.raises(LimitExceeded, match="its text is 32,0"):
        embedder().embed_documents(["3" * 32_000])
    assert google.calls == []


@pytest.mark.parametrize("cut_first", [False, True], ids=["counted whole", "counted after it was cut"])
def test_a_text_that_the_service_counts_as_too_long_is_told(
    google: Google, embedder: Any, cut_first: bool
) -> None:
    if cut_first:
        google.count_up_to = 8192
    if not counts_are_told():
        pytest.skip("this SDK does not hand over the service's count")
    with pytest.raises(GeminiEmbedError, match="item 0: the service counts 9,004 tokens and reads 8,192"):
        embedder().embed_documents([LONG])


@pytest.mark.parametrize("cut_first", [False, True], ids=["counted whole", "counted after it was cut"])
def test_a_truncated_text_is_found_in_its_batch(
    google: Google, embedder: Any, tmp_path: Any, cut_first: bool
) -> None:
    """The service counts a whole request: texts that may be too long by it are counted one by one."""
    if cut_first:
        google.count_up_to = 8192
    if not counts_are_told():
        pytest.skip("this SDK does not hand over the service's count")
    texts = [*(f"text {i}" for i in range(50)), LONG, "word " * 2500, *(f"more {i}" for i in range(40))]
    one = embedder(cache=tmp_path / "cache.db")
    with pytest.raises(GeminiEmbedError, match="item 50: the service counts 9,004 tokens") as raised:
        one.embed_documents(texts)
    assert list(raised.value.failed) == [50] and len(one.cache or ()) == 91
    counted = [call for call in google.calls if call.path.endswith(":countTokens")]
    assert 1 <= len(counted) <= 2, "only texts that may be too long are counted"


def test_ordinary_batches_cost_no_counting(google: Google, embedder: Any) -> None:
    embedder().embed_documents([f"text {i} " + "word " * 500 for i in range(200)])
    assert not [call for call in google.calls if call.path.endswith(":countTokens")]


def test_many_long_texts_cost_no_counting(google: Google, embedder: Any) -> None:
    """Near the limit each, but together no more than was estimated."""
    embedder().embed_documents(["word " * 5000 + str(i) for i in range(20)])
    assert not [call for call in google.calls if call.path.endswith(":countTokens")]


def test_vectors_are_kept_where_the_tokens_cannot_be_counted(google: Google, embedder: Any) -> None:
    from tests.embedders.gemini.server import refused

    google.refuse = {"countTokens": refused(404, "no such method", "NOT_FOUND")}
    assert len(embedder().embed_documents([LONG, "b"])) == 2
