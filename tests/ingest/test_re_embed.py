"""A store is embedded again with another embedder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mrlstore.embedders.content import Image
from mrlstore.ingest import ingest, re_embed
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Google, vector_of
from tests.ingest.conftest import DIM, TEXTS, stored_vector


def test_a_store_is_embedded_anew(
    target: Any, gemini: Any, embedder: Any, opened: Callable[..., Any], tmp_path: Path, google: Google
) -> None:
    ingest(target, gemini, TEXTS, [str(i) for i in range(250)], [{"i": i} for i in range(250)])
    ingest(target, gemini, ["x", Image(png())], ["text", "image"], namespace="other")
    target.upsert(["bare"], None, documents=["no vector"])
    target.upsert(["vector"], np.ones((1, DIM)))
    new = opened(tmp_path / "new.mrl", dim=256)
    other = embedder("gemini-embedding-001", dim=256, concurrency=2)
    done = re_embed(target, new, other)
    assert done.embedded == 251 and sorted(done.failed) == ["image", "vector"]
    assert new.namespaces() == {"": 251, "other": 1}
    np.testing.assert_allclose(stored_vector(new, "7"), vector_of("text 7", 256), atol=1e-3)
    assert new.get(["7"])[0].metadata == {"i": 7} and new.get(["bare"])[0].document == "no vector"
    google.calls.clear()
    assert re_embed(target, new, other).skipped == 251 and google.calls == []


def test_media_are_embedded_again_from_where_they_came(
    target: Any, gemini: Any, embedder: Any, opened: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png())
    ingest(target, gemini, ["x", Image(path)], ["text", "image"], [None, {"path": str(path)}])
    target.upsert(["vector"], np.ones((1, DIM)))

    def content_of(record: Any) -> Any:
        where = (record.metadata or {}).get("path")
        return Image(where) if where else None

    new = opened(tmp_path / "new.mrl", dim=256)
    done = re_embed(target, new, embedder(dim=256), content_of=content_of)
    assert done.embedded == 2 and sorted(done.failed) == ["vector"]
    np.testing.assert_allclose(stored_vector(new, "image"), vector_of([("image/png", png())], 256), atol=1e-3)
    assert new.get(["image"])[0].metadata == target.get(["image"])[0].metadata
