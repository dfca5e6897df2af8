"""A workload that is the same in the child that is killed and in the oracle that judges it."""

from __future__ import annotations

import random
from typing import Any

import mrlstore
from tests.children import Pipe
from tests.oracle import Oracle, nested_vectors

DIM, PREFIX = 8, 4
POOL = nested_vectors(5000, DIM, seed=3)


def apply(target: Any, seed: int, step: int) -> None:
    """Step `step` of workload `seed`, on a store or on the oracle: one batch, all or nothing."""
    rng = random.Random(f"{seed}/{step}")
    kind = rng.choices(["upsert", "bulk", "delete", "update", "optimize"], [10, 1, 3, 3, 2])[0]
    space = rng.choice(["", "tenant"])
    if kind in ("upsert", "bulk"):
        size = 4200 if kind == "bulk" else rng.randrange(1, 400)
        start = rng.randrange(0, 600)
        ids = [f"r{start + i}" for i in range(size)]
        rows = [None if (start + i) % 40 == 0 else POOL[(i * 7 + step) % len(POOL)] for i in range(size)]
        documents = [f"{step} {i}" if i % 5 == 0 else None for i in range(size)]
        target.upsert(ids, rows, [{"step": step, "i": i} for i in range(size)], documents, namespace=space)
    elif kind == "delete":
        target.delete([f"r{rng.randrange(0, 900)}" for _ in range(rng.randrange(1, 200))], namespace=space)
    elif kind == "update":
        ids = sorted({f"r{rng.randrange(0, 900)}" for _ in range(100)})
        target.update(ids, [{"updated": step}] * len(ids), namespace=space)
    elif isinstance(target, Oracle):
        pass
    else:
        target.optimize()


def run(pipe: Pipe, path: str, seed: int, first: int, maintain: bool) -> None:
    """Do step after step, saying before and after each, until killed."""
    store = mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=maintain)
    pipe.send("open")
    step = first
    while True:
        pipe.send(("begins", step))
        apply(store, seed, step)
        pipe.send(("done", step))
        step += 1
