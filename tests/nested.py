"""Nested vectors that resemble real embeddings, made block by block, the same for the same seed.

Rows sit in a tree of topics in a latent space of falling variance, which is mixed into dims whose variance
falls too. The cosine of a prefix then finds the full top 10 as with text-embedding-3-large: about 0.70, 0.79,
0.87, 0.90 and 0.94 of it at 128, 256, 512, 768 and 1,536 of 3,072 dims (`hard=True`: 0.52, 0.62, 0.72,
0.78, 0.88, so that it takes a shortlist of 100 to hold 0.999).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 10_000
TOPICS, SUBTOPICS = 40, 2_000


@dataclass(frozen=True)
class Shape:
    """Latent dims, how fast their variance falls, own noise of a row, decay over dims, weights of levels."""

    latent: int
    knee: float
    power: float
    noise: float
    decay: float
    weights: tuple[float, float, float]


REAL = Shape(160, 10, 1.0, 0.12, 0.5, (0.8, 1.0, 0.8))
HARD = Shape(256, 20, 0.5, 0.30, 0.35, (0.6, 1.0, 1.0))


def blocks(n: int, dim: int, *, seed: int = 1, hard: bool = False) -> Iterator[NDArray[np.float32]]:
    """Unit rows, float32 [<= BLOCK, dim] each, n in all; seed chooses the rows, never the topics."""
    shape = HARD if hard else REAL
    world = np.random.default_rng(7)
    mixing = world.standard_normal((shape.latent, dim), dtype=np.float32)
    mixing *= ((1 + np.arange(shape.latent) / shape.knee) ** -shape.power)[:, None].astype(np.float32)
    mixing /= np.sqrt(sum(w * w for w in shape.weights) * float((mixing**2).sum()) / dim)
    falling = ((1 + np.arange(dim) * 4 / dim) ** -shape.decay).astype(np.float32)
    topics = world.standard_normal((TOPICS, shape.latent), dtype=np.float32)
    subtopics = world.standard_normal((SUBTOPICS, shape.latent), dtype=np.float32)
    parents = world.integers(0, TOPICS, SUBTOPICS)
    share = world.pareto(1.5, SUBTOPICS) + 0.2
    a, b, c = (np.float32(w) for w in shape.weights)
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = np.random.default_rng([seed, number])
        count = min(BLOCK, n - start)
        topic = rng.choice(SUBTOPICS, count, p=share / share.sum())
        latent = a * topics[parents[topic]] + b * subtopics[topic]
        latent += c * rng.standard_normal((count, shape.latent), dtype=np.float32)
        rows = latent @ mixing
        rows += np.float32(shape.noise) * rng.standard_normal((count, dim), dtype=np.float32)
        rows *= falling
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nested(n: int, dim: int, *, seed: int = 1, hard: bool = False) -> NDArray[np.float32]:
    """The same as one array, float32 [n, dim]."""
    return np.concatenate(list(blocks(n, dim, seed=seed, hard=hard)))
