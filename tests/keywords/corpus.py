"""Small documents, and BM25 by its formula."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

DIM = 8
WORDS = ["apple", "pear", "plum", "quince", "fig", "olive", "mango", "lime", "date", "kiwi", "melon", "grape"]


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def documents(count: int, seed: int = 0) -> list[str]:
    """Documents of 3 to 12 words, of which the first are common and the last rare."""
    rng = random.Random(seed)
    weights = [1 / (1 + n) for n in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=rng.randint(3, 12))) for _ in range(count)]


def bm25(documents: Mapping[str, str], query: list[str]) -> dict[str, float]:
    """The score of every document that has a word of the query (Robertson; k1 = 1.2, b = 0.75)."""
    texts = {name: text.split() for name, text in documents.items()}
    average = sum(map(len, texts.values())) / len(texts)
    scores: dict[str, float] = {}
    for word in query:
        having = [name for name, text in texts.items() if word in text]
        if not having:
            continue
        idf = max(math.log((len(texts) - len(having) + 0.5) / (len(having) + 0.5)), 1e-6)
        for name in having:
            count, length = texts[name].count(word), len(texts[name])
            share = count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average))
            scores[name] = scores.get(name, 0.0) + idf * share
    return scores
