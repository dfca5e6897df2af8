"""The local server and its embedders, for the pipeline from documents to rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.gemini import MODELS
from tests.embedders.gemini.conftest import client, clock, embedder, google, no_environment
from tests.embedders.gemini.server import vector_of

__all__ = ["client", "clock", "embedder", "google", "no_environment"]

DIM = 128
SHORT = replace(MODELS["gemini-embedding-2"], dim=DIM)  # short vectors travel faster
TEXTS = [f"text {i}" for i in range(250)]


@pytest.fixture
def gemini(embedder: Callable[..., Any]) -> Any:
    return embedder(SHORT, concurrency=3)


@pytest.fixture
def target(opened: Callable[..., Any]) -> Any:
    return opened(dim=DIM, prefix_dim=32)


def stored_vector(store: Any, id: str) -> np.ndarray[Any, Any]:
    [record] = store.get([id], include=("vector",))
    return np.asarray(record.vector)


def document_vector(text: str) -> np.ndarray[Any, Any]:
    return vector_of(f"title: none | text: {text}", DIM)
